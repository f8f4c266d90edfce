"""Reads the samples of a sweep: in pages, and side by side."""
