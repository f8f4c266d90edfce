"""Requests to which two engines must give the same results, and a reference of plain hooks."""
