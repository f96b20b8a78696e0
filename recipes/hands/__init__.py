"""What refiners, boxes, suggestions and the lone-word rule are worth: `python -m recipes.hands`."""
