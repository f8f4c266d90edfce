"""Neuron sets by name: references, requests to identify them, their metadata."""
