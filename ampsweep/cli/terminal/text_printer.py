"""Prints an answer while it is generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ampsweep.cli.terminal.output import echo, show
from ampsweep.domain.generation.chunk import Span, joined_spans


class TextPrinter:
    """Prints a text in pieces or, as JSON, at its end.

    The neuron set that steers is printed to standard error before the text, and the tokens that were steered after it
    if that depends on the text; in JSON both are fields.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._text = ""
        self._finish_reason: str | None = None
        self._neuron_set: str | None = None
        self._spans: list[Sequence[Span] | None] = []

    def piece(
        self, text: str, finish_reason: str | None, neuron_set: str | None, steered_spans: Sequence[Span] | None
    ) -> None:
        """Print the next piece."""
        if neuron_set != self._neuron_set and not self._as_json:
            echo(f"steered by neuron set {neuron_set}", err=True)
        self._neuron_set = neuron_set
        self._text += text
        self._finish_reason = finish_reason
        self._spans.append(steered_spans)
        if not self._as_json:
            echo(text, nl=False)

    def end(self) -> None:
        """Print what stands after the text, or the whole answer as JSON."""
        content: dict[str, Any] = {
            "text": self._text,
            "finish_reason": self._finish_reason,
            "neuron_set": self._neuron_set,
        }
        if (spans := joined_spans(self._spans)) is not None:
            content["steered_spans"] = spans
        show(content, "", as_json=self._as_json)
        if spans is not None and not self._as_json:
            steered = ", ".join(f"{first} to {end - 1}" for first, end in spans) or "none"
            echo(f"steered tokens of the answer: {steered}", err=True)
