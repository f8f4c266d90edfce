"""Readers of the folders that users name: models, corpora and text. Imports no torch."""
