"""What vLLM needs to be told about some models, and models and weights that it cannot run here."""
