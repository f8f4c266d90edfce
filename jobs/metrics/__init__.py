"""Metrics: values of a cell's samples with their intervals, and paired differences from the unsteered baseline."""
