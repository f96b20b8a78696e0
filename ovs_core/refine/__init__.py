"""Sharper edges from evidence that is already there: each refiner takes and returns a value."""
