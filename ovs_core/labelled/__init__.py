"""Labelled photos as people have them on their disks: one reader for evaluation, training and benchmarks."""
