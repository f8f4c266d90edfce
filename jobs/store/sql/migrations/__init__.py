"""Migrations of the store's tables, run when a database is opened."""
