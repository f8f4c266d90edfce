"""Leases batches and runs their requests."""
