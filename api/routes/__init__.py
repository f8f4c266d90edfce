"""The routes, one resource per module. Their docstrings are the descriptions of the OpenAPI document."""
