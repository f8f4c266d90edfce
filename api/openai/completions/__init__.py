"""Completions (`/v1/completions`): the body of a request, and the format of its response."""
