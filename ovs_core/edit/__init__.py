"""Putting an answer right by hand: every edit takes a label map and gives another one; none changes its own.

classes.py   merge, rename, recolour, delete, add
pixels.py    reassign or erase a region, brush, eraser, painted masks, islands, a class's own threshold
record.py    the same edits as values that a settings file holds, and how to make them again
history.py   undo and redo
"""
