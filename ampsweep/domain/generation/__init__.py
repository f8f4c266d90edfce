"""What is asked of a model and what it answers: prompts, sampling parameters, chunks, calls of tools."""
