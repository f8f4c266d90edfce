"""Authentication and authorization, API keys, and limits per key."""
