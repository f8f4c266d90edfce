"""The server that a client talks to by default, and the environment variables that name it and the API key."""

from __future__ import annotations

DEFAULT_URL = "http://127.0.0.1:8700"
URL = "AMPSWEEP_URL"
API_KEY = "AMPSWEEP_API_KEY"
