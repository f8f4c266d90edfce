"""Readers of the files that tasks make their items from: rows, texts, facts, and data sets of the Hugging Face Hub."""
