"""The spec of a sweep, as users write it in YAML or JSON: its form and its defaults."""
