"""Log-probabilities of given continuations: the language-model head only where they are asked for, for a batch at once.

vLLM's own prompt log-probabilities compute every position of a prompt, request by request, and make a Python object of
each; here a step's positions go through the head together, and a request's answers are one array. A continuation's last
token is never fed: nothing is asked of the state after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

ROWS_AT_ONCE = 256
"""Positions whose logits (rows x vocabulary, float32) are in memory at the same time: few enough for a CPU's cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    """One request: the scored token ids int64 [n], the position of the first, and room for the answers."""

    tokens: NDArray[np.int64]
    first: int
    answers: NDArray[np.float32]


class Scoring:
    """The scoring requests under way on one worker, and the answers that wait to be taken."""

    def __init__(self, compute_logits: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
        """`compute_logits` is the model's head: states [n, H] to logits [n, V], None where another rank has it."""
        self._compute_logits = compute_logits
        self._scored: dict[str, _Scored] = {}

    def open(self, key: str, prompt: Sequence[int], first: int, last: int) -> None:
        """Score a prompt's tokens from position `first` on, and after them `last`, each given all before it."""
        tokens = np.array([*prompt[first:], last], dtype=np.int64)
        answers = np.full(len(tokens), np.nan, dtype=np.float32)
        self._scored[key] = _Scored(tokens=tokens, first=first, answers=answers)

    def collect(self, hidden: torch.Tensor, chunks: Sequence[tuple[str, int, int, int]]) -> None:
        """Score what a step computed.

        `hidden` [T, H] are the last layer's states of the step's tokens. Each chunk is a request's key, the row of its
        first token in `hidden`, that token's position in the request, and how many tokens follow from there.
        """
        rows, targets, places = [], [], []
        for key, row, position, count in chunks:
            scored = self._scored.get(key)
            if scored is None:
                continue
            start = max(position, scored.first - 1)  # the state at a position predicts the token after it
            end = min(position + count, scored.first - 1 + len(scored.tokens))
            if start < end:
                rows.append(np.arange(start, end) - position + row)
                own = slice(start + 1 - scored.first, end + 1 - scored.first)
                targets.append(scored.tokens[own])
                places.append(scored.answers[own])
        if rows:
            found = self._logprobs(hidden, np.concatenate(rows), np.concatenate(targets))
            for place, part in zip(
                places, np.split(found, np.cumsum([len(place) for place in places])[:-1]), strict=True
            ):
                place[:] = part

    def take(self, key: str) -> NDArray[np.float32]:
        """Return a request's log-probabilities (natural log), float32, one a scored token, and forget it.

        NaN stands where nothing was computed: on a rank without the head, or for a request that was aborted.
        """
        return self._scored.pop(key).answers

    def drop(self, key: str) -> None:
        """Forget a request whose answer nobody takes."""
        self._scored.pop(key, None)

    def _logprobs(
        self, hidden: torch.Tensor, rows: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        found = np.full(len(rows), np.nan, dtype=np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            logits = self._compute_logits(hidden[torch.from_numpy(rows[part]).to(hidden.device)])
            if logits is not None:
                found[part] = _log_softmax_at(logits, torch.from_numpy(targets[part]).to(logits.device)).cpu().numpy()
        return found


def _log_softmax_at(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return float32 [n], the log-softmax of each row of `logits` [n, V] at its token; float32 logits are overwritten.

    On CPUs twelve times as fast as `torch.logsumexp`, which does not vectorize its exponentials.
    """
    logits = logits.float()
    logits.sub_(logits.amax(dim=1, keepdim=True))
    own = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
    return own - logits.exp_().sum(dim=1).log_()
