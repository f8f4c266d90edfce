"""The part that runs inside vLLM's workers."""
