"""What methods answer with, rows per name or masks, and how labels are made of either."""
