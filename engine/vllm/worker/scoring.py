"""Log-probabilities of continuations. The language-model head runs only at scored positions, for a whole batch at once.

vLLM's own prompt log-probabilities compute every position of a prompt, one request after the other, and create a Python
object for each position. Here the scored positions of a step go through the head together, and a request's result is
one array. A continuation's last token is never fed, because the state after it is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

ROWS_AT_ONCE = 256
"""Positions whose logits (rows x vocabulary, float32) are in memory at once. They fit into a CPU's cache; on a GPU they
take no more memory than the sampler's logits of as many requests, which vLLM reserves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    """One request: the scored token ids int64 [n], the position of the first, and their log-probabilities."""

    tokens: NDArray[np.int64]
    first: int
    logprobs: NDArray[np.float32]


class Scoring:
    """The scoring requests of one worker, and the results that have not been collected yet."""

    def __init__(self, compute_logits: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
        """Score with `compute_logits`, the head: states [n, H] to logits [n, V], or None if another rank has it."""
        self._compute_logits = compute_logits
        self._scored: dict[str, _Scored] = {}

    def open(self, key: str, prompt: Sequence[int], first: int, last: int) -> None:
        """Start to score a prompt's tokens from position `first` on and then `last`, each given all before it."""
        tokens = np.array([*prompt[first:], last], dtype=np.int64)
        logprobs = np.full(len(tokens), np.nan, dtype=np.float32)
        self._scored[key] = _Scored(tokens=tokens, first=first, logprobs=logprobs)

    def collect(self, hidden: torch.Tensor, chunks: Sequence[tuple[str, int, int, int]]) -> None:
        """Score the tokens that a step computed.

        Args:
            hidden: The last hidden states of the step's tokens, [T, H].
            chunks: For each scored request its key, the row of its first token in `hidden`, that token's position in
                the request, and the number of its tokens in the step.
        """
        rows, targets, outputs = [], [], []
        for key, row, position, count in chunks:
            scored = self._scored.get(key)
            if scored is None:
                continue
            start = max(position, scored.first - 1)  # the state at a position predicts the token after it
            end = min(position + count, scored.first - 1 + len(scored.tokens))
            if start < end:
                rows.append(np.arange(start, end) - position + row)
                predicted = slice(start + 1 - scored.first, end + 1 - scored.first)
                targets.append(scored.tokens[predicted])
                outputs.append(scored.logprobs[predicted])
        if rows:
            logprobs = self._logprobs(hidden, np.concatenate(rows), np.concatenate(targets))
            borders = np.cumsum([len(output) for output in outputs])[:-1]
            for output, values in zip(outputs, np.split(logprobs, borders), strict=True):
                output[:] = values

    def take(self, key: str) -> NDArray[np.float32]:
        """Return and drop a request's log-probabilities (natural logarithms), float32 [scored tokens].

        They are NaN where nothing was computed: on a rank without the head, or for an aborted request.
        """
        return self._scored.pop(key).logprobs

    def drop(self, key: str) -> None:
        """Drop a request whose result is not collected."""
        self._scored.pop(key, None)

    def _logprobs(
        self, hidden: torch.Tensor, rows: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the log-probability of each target, given the state in its row; all are read back at once."""
        positions, tokens = (torch.from_numpy(array).to(hidden.device) for array in (rows, targets))
        logprobs = torch.full((len(rows),), torch.nan, device=hidden.device)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            batch = slice(start, start + ROWS_AT_ONCE)
            logits = self._compute_logits(hidden[positions[batch]])
            if logits is not None:
                logprobs[batch] = _log_softmax_at(logits, tokens[batch])
        values: NDArray[np.float32] = logprobs.cpu().numpy()
        return values


def _log_softmax_at(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the log-softmax of each row of `logits` [n, V] at its token, float32 [n]. Overwrites float32 logits.

    On CPUs this is twelve times as fast as `torch.logsumexp`, which does not vectorize its exponentials.
    """
    logits = logits.float()
    logits.sub_(logits.amax(dim=1, keepdim=True))
    selected = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
    return selected - logits.exp_().sum(dim=1).log_()
