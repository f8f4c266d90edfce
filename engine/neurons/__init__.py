"""Neuron sets, their files, importers of files of other projects, and random selection."""
