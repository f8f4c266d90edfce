"""Checks of the kernels against float64, and their times, without a model."""
