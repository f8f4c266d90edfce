"""Batches: files of requests in OpenAI's format, which run beside interactive requests."""
