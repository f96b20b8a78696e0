"""Decoders that several methods share, one copy each: from a tower's maps to masks and what they show."""
