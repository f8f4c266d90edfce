"""Log-probabilities of continuations. The language-model head runs only at scored positions, for a whole batch at once.

vLLM's own prompt log-probabilities compute every position of a prompt, one request after the other, and create a Python
object for each position. Here the scored positions of a step go through the head together, and a request's result is
one array. A continuation's last token is never fed, because the state after it is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from engine.kernels.host_copies import to_device, to_host

ROWS_AT_ONCE = 256
"""Positions whose logits (rows x vocabulary, float32) are in memory at once. They fit into a CPU's cache; on a GPU they
take no more memory than the sampler's logits of as many requests, which vLLM reserves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scored:
    """One request.

    Attributes:
        tokens: The scored token ids, int64 [n].
        first: The position of the first of them.
        logprobs: Their log-probabilities, float32 [n].
        computed: Which of these are set, bool [n].
    """

    tokens: NDArray[np.int64]
    first: int
    logprobs: NDArray[np.float32]
    computed: NDArray[np.bool_]


class ScoredChunk(NamedTuple):
    """The tokens of a scored request in a step: `tokens` of them, from the row `row` and the position `position` on."""

    key: str
    row: int
    position: int
    tokens: int


class _Unread(NamedTuple):
    """What a step has scored: log-probabilities in host memory, float32 [n], complete once `wait` has returned.

    `outputs` are the requests that they belong to, in order, each with their places in it.
    """

    logprobs: torch.Tensor
    wait: Callable[[], object]
    outputs: Sequence[tuple[_Scored, slice]]


class Scoring:
    """The scoring requests of one worker, and the results that have not been collected yet.

    The host does not wait for a step's scores before it prepares the next step: it reads them when that step has been
    launched, or when a request of the last step is taken. The next step may have been launched before a request of this
    one is taken, so the host must not wait for that step then.
    """

    def __init__(self, compute_logits: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
        """Score with `compute_logits`, the head: states [n, H] to logits [n, V], or None if another rank has it."""
        self._compute_logits = compute_logits
        self._scored: dict[str, _Scored] = {}
        self._unread: _Unread | None = None  # of the last step

    def open(self, key: str, prompt: Sequence[int], first: int, last: int) -> None:
        """Start to score a prompt's tokens from position `first` on and then `last`, each given all before it."""
        tokens = np.array([*prompt[first:], last], dtype=np.int64)
        logprobs, computed = np.empty(len(tokens), dtype=np.float32), np.zeros(len(tokens), dtype=np.bool_)
        self._scored[key] = _Scored(tokens=tokens, first=first, logprobs=logprobs, computed=computed)

    def collect(self, hidden: torch.Tensor, chunks: Sequence[ScoredChunk]) -> None:
        """Score the tokens that a step computed.

        Args:
            hidden: The last hidden states of the step's tokens, [T, H].
            chunks: The scored requests; rows are those of `hidden`.
        """
        self._read()
        rows, targets, outputs = [], [], list[tuple[_Scored, slice]]()
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
                outputs.append((scored, predicted))
        if rows and (logprobs := self._logprobs(hidden, np.concatenate(rows), np.concatenate(targets))) is not None:
            self._unread = _Unread(*to_host(logprobs), outputs)

    def take(self, keys: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """Return and drop the log-probabilities (natural logarithms) of requests, float32 [scored tokens] each.

        None if they were not all computed: on a rank without the head. NaN is what a model computes that overflows.
        """
        taken = [self._scored.pop(key) for key in keys]
        if not all(scored.computed.all() for scored in taken):
            self._read()
        return [scored.logprobs if scored.computed.all() else None for scored in taken]

    def drop(self, key: str) -> None:
        """Drop a request whose result is not collected."""
        self._scored.pop(key, None)

    def _read(self) -> None:
        """Read the scores of the last step, if it had any, as soon as they are in host memory."""
        if self._unread is None:
            return
        logprobs, wait, outputs = self._unread
        self._unread = None
        wait()
        first = 0
        for scored, places in outputs:
            count = places.stop - places.start
            scored.logprobs[places] = logprobs[first : first + count].numpy()
            scored.computed[places] = True
            first += count

    def _logprobs(
        self, hidden: torch.Tensor, rows: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> torch.Tensor | None:
        """Return the log-probability of each target, given the state in its row, on the device of `hidden`.

        Return None if another rank has the head.
        """
        positions, tokens = (to_device(torch.from_numpy(array), hidden.device) for array in (rows, targets))
        parts = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            batch = slice(start, start + ROWS_AT_ONCE)
            logits = self._compute_logits(hidden[positions[batch]])
            if logits is not None:
                parts.append(_log_softmax_at(logits, tokens[batch]))
        return torch.cat(parts) if parts else None


def _log_softmax_at(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the log-softmax of each row of `logits` [n, V] at its token, float32 [n]. Overwrites float32 logits.

    On CPUs this is twelve times as fast as `torch.logsumexp`, which does not vectorize its exponentials.
    """
    logits = logits.float()
    logits.sub_(logits.amax(dim=1, keepdim=True))
    selected = logits.gather(1, tokens.unsqueeze(1)).squeeze(1)
    return selected - logits.exp_().sum(dim=1).log_()
