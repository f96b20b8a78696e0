"""CLIP as a segmenter without training: one rule for the last block each."""
