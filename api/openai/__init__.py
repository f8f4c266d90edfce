"""The OpenAI-compatible endpoints: requests, responses, streaming."""
