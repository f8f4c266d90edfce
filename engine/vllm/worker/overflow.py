"""Finds the steered requests for which the model computed what its dtype cannot hold (infinite, or NaN).

vLLM samples a token from such numbers as from any others. Only the last row of each steered request is read, so a step
without any costs nothing. The rows are reported in the field of vLLM's output that counts the NaN in the logits of each
request, which its scheduler gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from engine.kernels.host_copies import to_device, to_host


class OverflowCheck:
    """The check of one worker: `begin` a step, `read` its hidden states, and `report` with its output."""

    def __init__(self) -> None:
        self._rows: Sequence[tuple[str, int]] = ()
        self._overflowed: Callable[[], list[str]] | None = None

    def begin(self, rows: Sequence[tuple[str, int]]) -> None:
        """Begin a step.

        Args:
            rows: The steered requests of the step, each with the row of its last token.
        """
        self._rows, self._overflowed = rows, None

    def read(self, hidden: torch.Tensor) -> None:
        """Read the last hidden states of the step's tokens, [T, H], without waiting for the device."""
        if not self._rows:
            return
        ids = [request_id for request_id, _ in self._rows]
        rows = to_device(torch.tensor([row for _, row in self._rows]), hidden.device)
        sums = hidden[rows].sum(dim=1, dtype=torch.float32)  # several times as fast as testing each value
        copy, wait = to_host(torch.isfinite(sums))

        def overflowed() -> list[str]:
            wait()
            return [request_id for request_id, finite in zip(ids, copy.tolist(), strict=True) if not finite]

        self._overflowed = overflowed

    def report(self, output: Any) -> Any:
        """Return the output of the step, which names the requests that overflowed as those with NaN in their logits.

        Args:
            output: What vLLM's runner returns: a `ModelRunnerOutput`, one that is read later, or None.
        """
        overflowed, self._overflowed = self._overflowed, None
        if overflowed is None or output is None:
            return output
        if not hasattr(output, "get_output"):
            _mark(output, overflowed())
            return output
        get_output = output.get_output

        def get_marked_output() -> Any:
            read = get_output()
            _mark(read, overflowed())
            return read

        output.get_output = get_marked_output
        return output


def _mark(output: Any, request_ids: Sequence[str]) -> None:
    if request_ids:  # vLLM shares one object among the steps without output
        output.num_nans_in_logits = {**(output.num_nans_in_logits or {}), **dict.fromkeys(request_ids, 1)}
