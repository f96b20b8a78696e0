"""MVP-SEG: several learned prompts look at each class, a global one says which classes are there at all."""
