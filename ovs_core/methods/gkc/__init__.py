"""GKC: masks and their names in one pass, no image tower of CLIP at inference (arXiv 2303.09181)."""
