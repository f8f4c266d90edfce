"""ASGI middleware: access log, request ids, body limit."""
