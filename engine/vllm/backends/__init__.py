"""Steering backends: the arithmetic of the edits on CPUs and on GPUs."""
