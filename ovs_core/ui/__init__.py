"""The browser app: the only place that knows gradio."""
