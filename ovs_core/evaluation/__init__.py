"""How good an answer is: labelled photos in, numbers with intervals and one report out."""
