"""Intervals, significance tests and effect sizes of paired samples."""
