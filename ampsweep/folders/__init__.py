"""What stands in the folders that a user names: models, corpora, text. A leaf that every room may import; no torch."""
