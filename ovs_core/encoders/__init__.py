"""Image and text towers: photo or words in, features out. No word is known here, no label is decided."""
