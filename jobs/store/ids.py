"""Names for what has no content hash of its own."""

from __future__ import annotations

import secrets
from typing import Protocol


class Ids(Protocol):
    """Makes names that were never given before."""

    def new(self, prefix: str) -> str:
        """Return `prefix`, an underscore and something unique."""
        ...


class RandomIds:
    """128 random bits, as 32 hex digits."""

    def new(self, prefix: str) -> str:
        """Return `prefix`, an underscore and 32 hex digits."""
        return f"{prefix}_{secrets.token_hex(16)}"
