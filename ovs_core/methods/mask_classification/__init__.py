"""FC-CLIP and MAFT+: masks from a head on a tower's pyramid, named by the tower."""
