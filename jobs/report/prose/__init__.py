"""Sentences that a report writes from its numbers."""
