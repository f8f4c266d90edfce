"""The types that every package shares. Imports nothing of the project but errors and hashing."""
