"""Middleware: access log, request ids, body limit, log context."""
