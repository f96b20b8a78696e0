"""One file per method family; `base.Method` is what they all look like from outside."""
