"""Metrics over stored text that need a model: neural metrics of translations."""
