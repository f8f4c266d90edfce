"""What one worker knows of steering: which request carries what, and which token of the step belongs to which.

A runner adapter tells it when requests come and go and, before each forward pass, how the batch is laid out. The
activation modules call `apply` for each layer. It knows no vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from engine.edits import resolve
from engine.intervention import Intervention, Scope
from engine.kernels import steer_numba, steer_torch
from engine.neuron_set import NeuronSet
from engine.vllm_patch.activation import Activation
from engine.vllm_patch.recording import Recording
from engine.vllm_patch.scoring import Scoring
from engine.vllm_patch.table import Shard, SteeringTable, TableRows
from engine.vllm_patch.wire import Orders


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A request under way; slot 0 steers nothing, row None records nothing, no key scores nothing."""

    slot: int = 0
    slot_key: str = ""
    scope: Scope = "all"
    prompt_tokens: int = 0
    row: int | None = None
    skip: int = 0
    score_key: str | None = None


_PLAIN = _Request()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Step:
    """One forward pass: each token's slot, the tokens to record with their rows, the chunks to score."""

    slots: NDArray[np.int32] | None
    rows: TableRows
    recorded_tokens: torch.Tensor | None
    recorded_rows: torch.Tensor | None
    scored: list[tuple[str, int, int, int]]


class WorkerSteering:
    """The state of steering and recording on one worker."""

    def __init__(
        self,
        shard: Shard,
        activations: Sequence[Activation],
        scoring: Scoring,
        *,
        slots: int,
        rows: int,
        device: torch.device,
    ) -> None:
        self._table = SteeringTable(shard, capacity=slots)
        self._recording: Recording | None = None
        self._new_recording = partial(Recording, shard, rows=rows, device=device)
        self._scoring = scoring
        self._activations = activations
        self._device = device
        self._neuron_sets: dict[str, NeuronSet] = {}
        self._requests: dict[str, _Request] = {}
        self._step: _Step | None = None

    @property
    def slots_in_use(self) -> int:
        """How many distinct interventions the requests under way carry."""
        return self._table.in_use

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Keep a neuron set for the requests that name it."""
        self._neuron_sets[neurons.id] = neurons

    def start(self, request_id: str, extra_args: Mapping[str, Any] | None, tokens: Sequence[int]) -> None:
        """Take note of a new request with its prompt's token ids."""
        orders = Orders.read(extra_args)
        if orders == Orders():
            return
        request = _PLAIN
        if (steer := orders.steer) is not None:
            neurons = self._neuron_sets[steer.neurons]
            slot = self._table.acquire(steer.key, lambda: resolve(Intervention.from_dict(steer.intervention), neurons))
            request = replace(
                request,
                slot=slot,
                slot_key=steer.key,
                scope=steer.scope,
                prompt_tokens=steer.prompt_tokens,
            )
        if (record := orders.record) is not None:
            self._recording = self._recording or self._new_recording()
            request = replace(request, row=self._recording.open(record.key), skip=record.skip)
        if (score := orders.score) is not None:
            self._scoring.open(score.key, tokens, score.first)
            request = replace(request, score_key=score.key)
        self._requests[request_id] = request

    def finish(self, request_id: str) -> None:
        """Let go of a request that has ended, however it did; one never started is no error."""
        request = self._requests.pop(request_id, _PLAIN)
        if request.slot:
            self._table.release(request.slot_key)

    def begin_step(self, request_ids: Sequence[str], tokens: ArrayLike, computed: ArrayLike) -> None:
        """Lay out the next forward pass.

        `request_ids` in the batch's order; `tokens` of each to compute now, after `computed` that are done.
        """
        requests = [self._requests.get(request_id, _PLAIN) for request_id in request_ids]
        if all(request is _PLAIN for request in requests):
            self._step = None
            return
        counts, done = np.asarray(tokens), np.asarray(computed)
        first_rows = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(requests)), counts)
        positions = np.arange(counts.sum()) - np.repeat(first_rows - done, counts)
        slots = _token_slots(requests, owner, positions)
        recorded_tokens, recorded_rows = self._recorded(requests, owner, positions, done)
        self._step = _Step(
            slots=slots if slots.any() else None,
            rows=self._table.rows(),
            recorded_tokens=recorded_tokens,
            recorded_rows=recorded_rows,
            scored=[
                (request.score_key, int(first_rows[at]), int(done[at]), int(counts[at]))
                for at, request in enumerate(requests)
                if request.score_key is not None
            ],
        )

    def apply(self, layer: int, gate_up: torch.Tensor, out: torch.Tensor) -> None:
        """Record, then steer, one layer of the step: `gate_up` [T, 2F], `out` [T, F], padded tokens at the end."""
        step = self._step
        if step is None:
            return
        width = out.shape[-1]
        if step.recorded_tokens is not None and step.recorded_rows is not None and self._recording is not None:
            gate = gate_up[step.recorded_tokens, :width]
            self._recording.add(layer, step.recorded_rows, self._activations[layer](gate))
        if step.slots is None:
            return
        slots, rows, up = step.slots, step.rows, gate_up[:, width:]
        arrays = (slots, rows.starts, layer, rows.indices, rows.mult, rows.add)
        if out.device.type == "cpu" and out.dtype == torch.float32:
            steer_numba.steer_gated(up.numpy(), out.numpy(), *arrays)
        else:
            steer_torch.steer_gated(up, out, steer_torch.batch_entries(*arrays, device=out.device))

    def end_step(self, hidden: torch.Tensor) -> None:
        """Score what the forward pass computed: `hidden` [T, H] are its last states, before the head."""
        if self._step is not None and self._step.scored:
            self._scoring.collect(hidden, self._step.scored)

    def take_score(self, key: str) -> NDArray[np.float32]:
        """Return a scored request's log-probabilities, see `Scoring.take`."""
        return self._scoring.take(key)

    def drop_score(self, key: str) -> None:
        """Forget a scored request, see `Scoring.drop`."""
        self._scoring.drop(key)

    def take_recording(self, key: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return what a recorded sentence left, see `Recording.take`."""
        assert self._recording is not None, "nothing was recorded"
        return self._recording.take(key)

    def drop_recording(self, key: str) -> None:
        """Forget a recorded sentence that nobody takes, see `Recording.drop`."""
        if self._recording is not None:
            self._recording.drop(key)

    def _recorded(
        self,
        requests: Sequence[_Request],
        owner: NDArray[np.int64],
        positions: NDArray[np.int64],
        computed: NDArray[np.int64],
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        rows = np.full(len(requests), -1, dtype=np.int64)
        skip = np.zeros(len(requests), dtype=np.int64)
        for at, request in enumerate(requests):
            if request.row is not None and self._recording is not None:
                rows[at], skip[at] = request.row, request.skip
                if computed[at] == 0:
                    self._recording.clear(request.row)
        taken = np.flatnonzero((rows[owner] >= 0) & (positions >= skip[owner]))
        if not len(taken):
            return None, None
        return torch.from_numpy(taken).to(self._device), torch.from_numpy(rows[owner][taken]).to(self._device)


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
