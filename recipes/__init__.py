"""How the weights that are shipped are made: a laboratory, run from a clone of the repository."""
