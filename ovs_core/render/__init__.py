"""Pictures from one `Result`, in NumPy: palette, overlay, legend, heat maps, disagreement."""
