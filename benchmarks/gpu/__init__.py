"""The stages of `benchmarks.gpu_check`, and the file of their results."""
