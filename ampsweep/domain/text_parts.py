"""How a model's vocabulary marks the parts of its text: what it thinks before it answers, and the rest."""

from __future__ import annotations

from collections.abc import Collection

PAIRS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))
"""The tokens before and after the thinking part, as vocabularies write them."""
CHANNEL = "<|channel|>"
"""The token before the name of a channel, in harmony, the format of gpt-oss."""
HARMONY = ("<|start|>", CHANNEL, "<|message|>", "<|end|>", "analysis", "final")
"""The tokens that divide a text in harmony into messages, and the names of its channels."""


def thinking_pair(vocabulary: Collection[str]) -> tuple[str, str] | None:
    """Return the tokens around the thinking part; None if a vocabulary does not have both as single tokens."""
    return next((pair for pair in PAIRS if pair[0] in vocabulary and pair[1] in vocabulary), None)


def has_harmony(vocabulary: Collection[str]) -> bool:
    """Return whether a vocabulary has all tokens of harmony."""
    return all(token in vocabulary for token in HARMONY)


def no_parts() -> str:
    """Return the error about a vocabulary without any of these tokens."""
    looked_for = ", ".join(f"{start} and {end}" for start, end in PAIRS)
    message = f"the model's vocabulary has no tokens around what it thinks ({looked_for}, or {CHANNEL} of gpt-oss)"
    return f"{message}; leave part out"
