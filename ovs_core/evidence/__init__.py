"""What methods answer with, and how labels are made of it: rows per name, masks, and one `decide` for both."""
