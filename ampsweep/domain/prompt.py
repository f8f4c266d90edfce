"""A prompt that is given as tokens instead of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenIds:
    """The ids of a prompt's tokens, at least one, in the model's own vocabulary. Nothing is put in front of them."""

    ids: tuple[int, ...]
