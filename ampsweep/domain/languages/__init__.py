"""Codes and names of languages, and the protocol of language identifiers."""
