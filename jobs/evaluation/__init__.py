"""Metrics over stored text: evaluates generated answers without loading the model that wrote them."""
