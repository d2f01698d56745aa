"""The table model, and its output as Markdown, LaTeX and HTML."""
