"""Tasks: the questions for a model, and how its answers are scored."""
