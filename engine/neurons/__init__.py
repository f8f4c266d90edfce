"""Neuron sets, their files, importers of other projects' files, and random selection."""
