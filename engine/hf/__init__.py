"""The transformers engine: plain hooks on a Hugging Face model, the reference implementation."""
