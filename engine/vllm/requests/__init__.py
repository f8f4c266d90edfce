"""Requests in vLLM's form, and their answers."""
