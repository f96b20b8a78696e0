"""Numbers from a label map and its ground truth: arrays in, counts out; no files, no models, no pictures.

Label 0 is "other" (background), k the k-th class. There are no other special values: pixels whose truth is
not known are False in a mask `known` (H, W) that goes beside the labels; None stands for "all known".

Everything is counted in pixels first and divided last. Counts of photos add up, so a mean over a set is one
division of sums, a run can be stopped and continued, and photos can be resampled without being seen again.
"""
