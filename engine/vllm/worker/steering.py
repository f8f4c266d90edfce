"""The steering state of one worker: what each request carries, and which token of a step belongs to which request.

A runner adapter reports when requests start and finish and, before each forward pass, the layout of the batch. The
backend does the arithmetic on activations. This module knows nothing of vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from engine.kernels.device_table import SlotEntries
from engine.neurons.neuron_set import NeuronSet
from engine.steering.drift import SwitchHistory
from engine.steering.edits import resolve
from engine.steering.token_scope import EVERY_TOKEN, TokenScope
from engine.vllm.backends.base import NOTHING, RecordedSpan, SteeringBackend, StepLayout
from engine.vllm.requests.request_extras import RequestExtras, SteeringArgs
from engine.vllm.worker.outputs.capturing import CapturedRow, CapturedSpan, Capturing
from engine.vllm.worker.outputs.results import ResultKind, WorkerResults
from engine.vllm.worker.outputs.scoring import ScoredChunk, Scoring
from engine.vllm.worker.overflow import OverflowCheck
from engine.vllm.worker.slots import Slots
from engine.vllm.worker.table import Shard


@dataclass(frozen=True, kw_only=True)
class _Record:
    """A sentence's row, and how many tokens at its start are not recorded. For the others see `RecordedSpan`."""

    row: int
    skip: int
    sums: bool
    residual_counts: bool


@dataclass(frozen=True, kw_only=True)
class _Request:
    """An unfinished request.

    Slot 0 steers nothing. Without `record`, `score_key` or `captured` it records, scores or captures nothing. With
    `switch` it is steered only where `history` has it switched on, by position.
    """

    slot: int = 0
    slot_key: str = ""
    scope: TokenScope = EVERY_TOKEN
    record: _Record | None = None
    score_key: str | None = None
    captured: Mapping[int, CapturedRow] | None = None
    switch: str | None = None
    history: SwitchHistory | None = None


_PLAIN = _Request()


class _Spans(NamedTuple):
    """The tokens of a batch's requests in a step, int64 [R] each: `counts` of them from the row `first` on.

    `computed` are the tokens of each request before them, so it is also the position of the first of them.
    """

    first: NDArray[np.int64]
    counts: NDArray[np.int64]
    computed: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """What the requests of a batch need, in the batch's order. It is reused while the batch has the same requests.

    Request r is steered by `slots` int32 [R] from its position `first` int64 [R] up to `last` int64 [R]; or only at the
    positions that `listed` int64 [P, 2] has for it, in pairs of r and a position. The strength is multiplied by `decay`
    float64 [R] at each token after `first`. `histories` has the requests whose steering is switched.
    """

    request_ids: list[str]
    slots: NDArray[np.int32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    listed: NDArray[np.int64]
    decay: NDArray[np.float64]
    recorded: list[tuple[int, _Record]]
    scored: list[tuple[int, str]]
    captured: list[tuple[int, Mapping[int, CapturedRow]]]
    histories: dict[int, SwitchHistory] = field(default_factory=dict)

    @classmethod
    def of(cls, request_ids: Sequence[str], requests: Sequence[_Request]) -> _Batch:
        scopes = [request.scope for request in requests]
        last = [scope.end if scope.positions is None else scope.first for scope in scopes]
        listed = [(index, position) for index, scope in enumerate(scopes) for position in scope.positions or ()]
        return cls(
            request_ids=list(request_ids),
            slots=np.array([request.slot for request in requests], dtype=np.int32),
            first=np.array([scope.first for scope in scopes], dtype=np.int64),
            last=np.array(last, dtype=np.int64),
            listed=np.array(listed, dtype=np.int64).reshape(-1, 2),
            decay=np.array([scope.decay for scope in scopes]),
            recorded=[(index, request.record) for index, request in enumerate(requests) if request.record is not None],
            scored=[
                (index, request.score_key) for index, request in enumerate(requests) if request.score_key is not None
            ],
            captured=[
                (index, request.captured) for index, request in enumerate(requests) if request.captured is not None
            ],
            histories={index: request.history for index, request in enumerate(requests) if request.history is not None},
        )

    def token_slots(self, spans: _Spans) -> tuple[NDArray[np.int32], NDArray[np.float32] | None]:
        """Return each token's slot, int32 [T], and the strengths, see `StepLayout`.

        The slot is that of the token's request if the position is in the scope, else 0.
        """
        first_rows, counts, computed = spans
        if not self.slots.any():
            return np.zeros(counts.sum(), dtype=np.int32), None
        owner = np.repeat(np.arange(len(counts)), counts)
        positions = np.arange(len(owner)) - (first_rows - computed)[owner]
        inside = (positions >= self.first[owner]) & (positions < self.last[owner])
        requests, listed = self.listed.T
        offsets = listed - computed[requests]
        present = (offsets >= 0) & (offsets < counts[requests])
        inside[(first_rows[requests] + offsets)[present]] = True
        for index, history in self.histories.items():
            first, count = int(computed[index]), int(counts[index])
            rows = slice(int(first_rows[index]), int(first_rows[index]) + count)
            if first >= history.since:  # no token of the step is before the last switch
                inside[rows] &= history.on
            else:
                inside[rows] &= history.steered(first, count)
        slots = np.where(inside, self.slots[owner], np.int32(0))
        if (self.decay == 1).all():
            return slots, None
        strengths = (self.decay[owner] ** np.maximum(positions - self.first[owner], 0)).astype(np.float32)
        return np.where(strengths > 0, slots, np.int32(0)), strengths


class WorkerSteering:
    """Steering, recording, scoring and capture on one worker, which holds `shard` of the model."""

    def __init__(
        self,
        shard: Shard,
        backend: SteeringBackend,
        scoring: Scoring,
        *,
        slots: int,
        overflow: OverflowCheck | None = None,
    ) -> None:
        self._shard = shard
        self._backend = backend
        self._slots = Slots(backend, capacity=slots)
        self._scoring = scoring
        self._overflow = overflow
        self._capturing = Capturing(shard)
        self._neuron_sets: dict[str, NeuronSet] = {}
        self._requests: dict[str, _Request] = {}
        self._histories: dict[str, SwitchHistory] = {}  # by the name of the switch
        self._batch: _Batch | None = None
        self._scored: list[ScoredChunk] = []

    @property
    def slots_in_use(self) -> int:
        """How many distinct interventions the unfinished requests carry."""
        return self._slots.in_use

    def add_neurons(self, neurons: NeuronSet) -> None:
        """Load a neuron set for the requests that name it."""
        self._neuron_sets[neurons.id] = neurons

    def drop_neurons(self, neuron_set_id: str) -> None:
        """Drop a neuron set; slots that it filled stay filled."""
        self._neuron_sets.pop(neuron_set_id, None)

    def start(self, request_id: str, extra_args: Mapping[str, Any] | None, tokens: Sequence[int]) -> None:
        """Register a new request with its prompt's token ids. A known request has been preempted and starts over."""
        extras = RequestExtras.read(extra_args)
        if extras == RequestExtras() or request_id in self._requests:
            return
        request = _PLAIN
        if (steer := extras.steer) is not None:
            request = replace(
                request,
                slot=self._slots.acquire(steer.key, lambda: self._row(steer)),
                slot_key=steer.key,
                scope=TokenScope.of(steer.intervention, prompt_tokens=steer.prompt_tokens),
            )
            if steer.switch is not None:
                history = self._histories[steer.switch] = SwitchHistory()
                if steer.on:
                    history.switch(steer.prompt_tokens)
                request = replace(request, switch=steer.switch, history=history)
        if (record := extras.record) is not None:
            counted = record.residual_counts
            row = self._backend.recording.open(
                record.key, sums=record.sums, residual_counts=counted, group=record.group
            )
            request = replace(
                request, record=_Record(row=row, skip=record.skip, sums=record.sums, residual_counts=counted)
            )
        if (score := extras.score) is not None:
            self._scoring.open(score.key, tokens, score.first, score.last)
            request = replace(request, score_key=score.key)
        if extras.capture is not None:
            request = replace(request, captured=self._capturing.open(extras.capture, tokens=len(tokens)))
        self._requests[request_id] = request
        self._batch = None

    def finish(self, request_id: str) -> None:
        """Forget a request that has ended in any way; a request that never started is not an error."""
        request = self._requests.pop(request_id, _PLAIN)
        self._batch = None
        if request.slot:
            self._slots.release(request.slot_key)
        if request.switch is not None:
            del self._histories[request.switch]

    def switch(self, positions: Mapping[str, int]) -> None:
        """Switch the steering of requests, by the names of their switches, from a position on that is not computed yet.

        A request that has ended is not an error.
        """
        for name, position in positions.items():
            if (history := self._histories.get(name)) is not None:
                history.switch(position)

    def begin_step(self, request_ids: Sequence[str], tokens: ArrayLike, computed: ArrayLike) -> None:
        """Set the layout of the next forward pass.

        Args:
            request_ids: The batch's requests, in order.
            tokens: Tokens of each request to compute in this step.
            computed: Tokens of each request computed before.
        """
        if not self._requests:
            self.begin_dummy_step()
            return
        if self._batch is None or self._batch.request_ids != request_ids:
            self._batch = _Batch.of(request_ids, [self._requests.get(request_id, _PLAIN) for request_id in request_ids])
        batch = self._batch
        counts = np.asarray(tokens)
        spans = _Spans(np.cumsum(counts) - counts, counts, np.asarray(computed))
        slots, strengths = batch.token_slots(spans)
        self._backend.begin_step(
            StepLayout(
                slots=slots,
                strengths=strengths,
                recorded=self._recorded(batch.recorded, spans),
                captured=_captured(batch.captured, spans),
            )
        )
        self._scored = [
            ScoredChunk(key, int(spans.first[index]), int(spans.computed[index]), int(counts[index]))
            for index, key in batch.scored
        ]
        if self._overflow is not None:
            last_rows = spans.first + counts - 1
            steered = np.flatnonzero(batch.slots)
            self._overflow.begin([(batch.request_ids[index], int(last_rows[index])) for index in steered])

    def begin_dummy_step(self) -> None:
        """Set the layout of a forward pass whose tokens belong to no request."""
        self._backend.begin_step(NOTHING)
        self._scored = []
        if self._overflow is not None:
            self._overflow.begin(())

    def end_step(self, hidden: torch.Tensor) -> None:
        """Score the tokens of the forward pass from `hidden` [T, H], the last hidden states, before the head."""
        if self._scored:
            self._scoring.collect(hidden, self._scored)
        if self._overflow is not None:
            self._overflow.read(hidden)

    def reported(self, output: Any) -> Any:
        """Return the output of vLLM's runner, with the requests that overflowed in the step; see `OverflowCheck`."""
        return output if self._overflow is None else self._overflow.report(output)

    def results(self, kind: ResultKind) -> WorkerResults:
        """Return the results of a kind that wait to be collected."""
        match kind:
            case "score":
                return self._scoring
            case "recording":
                return self._backend.recording
            case "capture":
                return self._capturing

    def _row(self, steer: SteeringArgs) -> SlotEntries:
        edits = resolve(steer.intervention, self._neuron_sets[steer.neurons])
        return self._shard.cut(edits)

    def _recorded(self, recorded: Sequence[tuple[int, _Record]], spans: _Spans) -> tuple[RecordedSpan, ...]:
        if started := [record.row for index, record in recorded if spans.computed[index] == 0]:
            self._backend.recording.clear(started)
        kept = []
        for index, record in recorded:
            skipped = max(record.skip - int(spans.computed[index]), 0)
            first, end = int(spans.first[index]) + skipped, int(spans.first[index] + spans.counts[index])
            if first < end:
                kept.append(RecordedSpan(record.row, first, end, record.sums, record.residual_counts))
        return tuple(kept)


def _captured(captured: Sequence[tuple[int, Mapping[int, CapturedRow]]], spans: _Spans) -> tuple[CapturedSpan, ...]:
    """Return the tokens of a step that are captured: those of prompts, not what is generated after them."""
    kept = []
    for index, rows in captured:
        prompt = max((len(row.values) for row in rows.values()), default=0)
        first, position = int(spans.first[index]), int(spans.computed[index])
        end = first + min(int(spans.counts[index]), prompt - position)
        if first < end:
            kept.append(CapturedSpan(rows, first, end, position))
    return tuple(kept)
