"""Identifies the language of a text: a protocol, and the libraries and models that can do it offline."""
