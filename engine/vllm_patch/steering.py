"""What one worker knows of steering: which request carries what, and which token of the step belongs to which.

A runner adapter tells it when requests come and go and, before each forward pass, how the batch is laid out. What is
then done with the activations is its path's. It knows no vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from engine.edits import resolve
from engine.intervention import Intervention, Scope
from engine.kernels.device_table import DeviceRow
from engine.neuron_set import NeuronSet
from engine.vllm_patch.path import NOTHING, RecordedSpan, StepLayout, StepPath
from engine.vllm_patch.recorded_part import RecordedPart
from engine.vllm_patch.scoring import Scoring
from engine.vllm_patch.slots import Slots
from engine.vllm_patch.table import Shard
from engine.vllm_patch.wire import Orders, SteerOrder


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A request under way; slot 0 steers nothing, row None records nothing, no key scores nothing."""

    slot: int = 0
    slot_key: str = ""
    scope: Scope = "all"
    prompt_tokens: int = 0
    row: int | None = None
    skip: int = 0
    sums: bool = False
    score_key: str | None = None


_PLAIN = _Request()


class WorkerSteering:
    """The state of steering and recording on one worker, which holds `shard` of the model."""

    def __init__(self, shard: Shard, path: StepPath, scoring: Scoring, *, slots: int) -> None:
        self._shard = shard
        self._path = path
        self._slots = Slots(path, capacity=slots)
        self._scoring = scoring
        self._neuron_sets: dict[str, NeuronSet] = {}
        self._requests: dict[str, _Request] = {}
        self._scored: list[tuple[str, int, int, int]] = []

    @property
    def slots_in_use(self) -> int:
        """How many distinct interventions the requests under way carry."""
        return self._slots.in_use

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Keep a neuron set for the requests that name it."""
        self._neuron_sets[neurons.id] = neurons

    def start(self, request_id: str, extra_args: Mapping[str, Any] | None, tokens: Sequence[int]) -> None:
        """Take note of a new request with its prompt's token ids; one that is known starts over."""
        orders = Orders.read(extra_args)
        if orders == Orders() or request_id in self._requests:
            return
        request = _PLAIN
        if (steer := orders.steer) is not None:
            request = replace(
                request,
                slot=self._slots.acquire(steer.key, lambda: self._row(steer)),
                slot_key=steer.key,
                scope=steer.scope,
                prompt_tokens=steer.prompt_tokens,
            )
        if (record := orders.record) is not None:
            request = replace(
                request,
                row=self._path.recording.open(record.key, sums=record.sums),
                skip=record.skip,
                sums=record.sums,
            )
        if (score := orders.score) is not None:
            self._scoring.open(score.key, tokens, score.first, score.last)
            request = replace(request, score_key=score.key)
        self._requests[request_id] = request

    def finish(self, request_id: str) -> None:
        """Let go of a request that has ended, however it did; one never started is no error."""
        request = self._requests.pop(request_id, _PLAIN)
        if request.slot:
            self._slots.release(request.slot_key)

    def begin_step(self, request_ids: Sequence[str], tokens: ArrayLike, computed: ArrayLike) -> None:
        """Lay out the next forward pass.

        `request_ids` in the batch's order; `tokens` of each to compute now, after `computed` that are done.
        """
        requests = [self._requests.get(request_id, _PLAIN) for request_id in request_ids]
        if all(request is _PLAIN for request in requests):
            self.begin_dummy_step()
            return
        counts, done = np.asarray(tokens), np.asarray(computed)
        first_rows = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(requests)), counts)
        positions = np.arange(counts.sum()) - np.repeat(first_rows - done, counts)
        self._path.begin_step(
            StepLayout(
                slots=_token_slots(requests, owner, positions),
                recorded=self._recorded(requests, first_rows, counts, done),
            )
        )
        self._scored = [
            (request.score_key, int(first_rows[at]), int(done[at]), int(counts[at]))
            for at, request in enumerate(requests)
            if request.score_key is not None
        ]

    def begin_dummy_step(self) -> None:
        """Lay out a forward pass of tokens that are nobody's."""
        self._path.begin_step(NOTHING)
        self._scored = []

    def end_step(self, hidden: torch.Tensor) -> None:
        """Score what the forward pass computed: `hidden` [T, H] are its last states, before the head."""
        if self._scored:
            self._scoring.collect(hidden, self._scored)

    def take_score(self, key: str) -> NDArray[np.float32]:
        """Return a scored request's log-probabilities, see `Scoring.take`."""
        return self._scoring.take(key)

    def drop_score(self, key: str) -> None:
        """Forget a scored request, see `Scoring.drop`."""
        self._scoring.drop(key)

    def take_recording(self, key: str) -> RecordedPart:
        """Return what a recorded sentence left, see `Recording.take`."""
        return self._path.recording.take(key)

    def drop_recording(self, key: str) -> None:
        """Forget a recorded sentence that nobody takes, see `Recording.drop`."""
        self._path.recording.drop(key)

    def _row(self, steer: SteerOrder) -> DeviceRow:
        edits = resolve(Intervention.from_dict(steer.intervention), self._neuron_sets[steer.neurons])
        return self._shard.cut(edits)

    def _recorded(
        self,
        requests: Sequence[_Request],
        first_rows: NDArray[np.int64],
        counts: NDArray[np.int64],
        done: NDArray[np.int64],
    ) -> tuple[RecordedSpan, ...]:
        found = []
        for at, request in enumerate(requests):
            if request.row is not None:
                if done[at] == 0:
                    self._path.recording.clear(request.row)
                skipped = max(request.skip - int(done[at]), 0)
                first, end = int(first_rows[at]) + skipped, int(first_rows[at] + counts[at])
                if first < end:
                    found.append(RecordedSpan(request.row, first, end, request.sums))
        return tuple(found)


def _token_slots(
    requests: Sequence[_Request], owner: NDArray[np.int64], positions: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return each token's slot, int32 [T]: its request's, where the position is in the scope, else 0."""
    slots = np.zeros(len(requests), dtype=np.int32)
    first = np.zeros(len(requests), dtype=np.int64)
    last = np.full(len(requests), np.iinfo(np.int64).max)
    for at, request in enumerate(requests):
        slots[at] = request.slot
        if request.scope == "prompt":
            last[at] = request.prompt_tokens
        elif request.scope == "generation":
            first[at] = request.prompt_tokens
    inside = (positions >= first[owner]) & (positions < last[owner])
    return np.where(inside, slots[owner], 0).astype(np.int32)
