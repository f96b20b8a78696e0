"""Open-vocabulary segmentation: encode a photo once, ask it about any words."""
