"""Writers of the report: one document as HTML, Markdown, LaTeX or a notebook."""
