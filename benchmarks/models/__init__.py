"""Models of random weights, written to a folder: tiny ones of every family, and some in the shape of Qwen2."""
