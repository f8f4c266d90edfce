"""Checks the CUDA backend without vLLM: steps replayed from a CUDA graph, and copies for which the host need not wait.

A graph is captured once and replayed for steps that steer, record and add vectors differently. Each replay must give
what the same step gives without a graph. Without CUDA the replay is a further run that launches every kernel, as a
captured one does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.statistic import Statistic
from engine.kernels import host_copies
from engine.kernels.activation import MlpForm
from engine.kernels.device_table import SlotEntries
from engine.vllm.backends.base import NOTHING, RecordedSpan, StepLayout
from engine.vllm.backends.cuda import CudaBackend
from engine.vllm.backends.step_needs import set_needs
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.table import Shard

LAYERS, WIDTH, HIDDEN, TOKENS = 2, 75, 48, 12
_BUSY_CYCLES = 400_000_000
"""How long the device is behind the host, about a fifth of a second."""
_COPIES, _COPIED = 64, 1000


class BackendCheck:
    """The checks on one device.

    Args:
        device: Where the kernels run; on a CPU Triton must interpret them.
        random: Draws the inputs.
    """

    def __init__(self, device: torch.device, random: np.random.Generator) -> None:
        self._device, self._random = device, random

    def graphs(self) -> int:
        """Check replays of a graph with two layers; return the number of steps."""
        backend = self._backend()
        activations = [backend.activation(layer, nn.Identity()) for layer in range(LAYERS)]
        residuals = [backend.residual(layer) for layer in range(LAYERS)]
        x, hidden, rest = (torch.empty(TOKENS, size, device=self._device) for size in (2 * WIDTH, HIDDEN, HIDDEN))

        def run() -> list[torch.Tensor]:
            steered = hidden.clone()
            outputs = [activation(x) for activation in activations]
            residuals[0](steered, rest)
            residuals[1](steered, None)
            return [*outputs, steered]

        recording = backend.recording
        recorded = (recording.counts, recording.sums, recording.residual)
        backend.begin_step(NOTHING)
        replay = self._captured(run)
        steps = self._steps()
        for number, layout in enumerate(steps):
            for tensor in (x, hidden, rest):
                tensor.copy_(self._normal(*tensor.shape))
            if number == 1:  # a slot is filled again between two replays
                backend.clear(2)
                backend.write(2, self._entries())
            recording.clear([0, 1])
            backend.begin_step(layout)
            expected = [*(each.clone() for each in run()), *(each.clone() for each in recorded)]
            recording.clear([0, 1])
            actual = [*replay(), *recorded]
            for one, other in zip(actual, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        assert recorded[0].any(), "the last step records"
        return len(steps)

    def copies(self) -> int:
        """Check copies while the device is busy; return their number."""
        target = torch.zeros(_COPIES, _COPIED, dtype=torch.int32, device=self._device)
        for first in (True, False):
            self._keep_busy()
            for row in range(_COPIES):
                values = torch.full((_COPIED,), row + 1, dtype=torch.int32)
                host_copies.write(target[row], values)
                values.fill_(-1)
            host_copies.write(target[:0], torch.empty(0, _COPIED, dtype=torch.int32))
            backwards = host_copies.to_device(torch.arange(_COPIES - 1, -1, -1), self._device)
            copy, wait = host_copies.to_host(target[backwards])
            nothing, wait_for_nothing = host_copies.to_host(target[:0])
            target.zero_()
            self._assert_busy(first=first)
            wait()
            wait_for_nothing()
            assert copy[:, 0].tolist() == copy[:, -1].tolist() == list(range(_COPIES, 0, -1))
            assert nothing.shape == (0, _COPIED)
        return _COPIES

    def recordings(self) -> int:
        """Check that recorded sentences are read, and added up, while a later step runs; return their number."""
        backend = self._backend()
        recording, activation = backend.recording, backend.activation(0, nn.Identity())
        for first, group in ((True, None), (False, None), (False, "added up")):
            x, alone = self._normal(TOKENS, 2 * WIDTH), group is None
            rows = {key: recording.open(key, sums=alone, group=group) for key in "ab"}
            recording.clear([*rows.values()])
            spans = (RecordedSpan(rows["a"], 0, 5, alone), RecordedSpan(rows["b"], 5, TOKENS, alone))
            backend.begin_step(StepLayout(slots=np.zeros(TOKENS, dtype=np.int32), recorded=spans))
            activation(x)
            backend.begin_step(NOTHING)
            self._keep_busy()
            parts = recording.take([*rows])
            self._assert_busy(first=first)
            if not alone:
                assert parts[0] is not None
                assert parts[1] is None
                assert parts[0].counts[0].tolist() == (x[:, :WIDTH] > 0).sum(0).tolist()
                continue
            for part, (row, begin, end, *_) in zip(parts, spans, strict=True):
                assert part is not None
                expected = (x[begin:end, :WIDTH] > 0).sum(0).tolist()
                assert part.counts[0].tolist() == recording.counts[0, row].tolist() == expected
                assert part.sums is not None
                assert part.sums[0].tolist() == recording.sums[0, row].tolist()
                assert part.sums[0].any()
        return len(parts)

    def _keep_busy(self) -> None:
        """Let the device compute for a while, if it is not the CPU."""
        if self._device.type == "cuda":
            sleep: Any = torch.cuda._sleep  # noqa: SLF001  # PyTorch has no public function that keeps a GPU busy
            sleep(_BUSY_CYCLES)

    def _assert_busy(self, *, first: bool) -> None:
        """Assert that the device still computes; the first time, memory is allocated, for which the host may wait."""
        if self._device.type == "cuda" and not first:
            assert not torch.cuda.current_stream().query(), "the host has waited for the device"

    def _captured(self, run: Callable[[], list[torch.Tensor]]) -> Callable[[], list[torch.Tensor]]:
        """Return what runs `run` again: from a CUDA graph, where there is one."""
        if self._device.type == "cpu":

            def run_all() -> list[torch.Tensor]:
                set_needs()
                return run()

            return run_all
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = run()

        def replay() -> list[torch.Tensor]:
            graph.replay()
            return outputs

        return replay

    def _backend(self) -> CudaBackend:
        widths = LayerWidths(LAYERS, WIDTH)
        shard = Shard.of_rank(range(LAYERS), widths)
        backend = CudaBackend(
            [MlpForm(activation="silu", gated=True)] * LAYERS,
            width=WIDTH,
            hidden_size=HIDDEN,
            slots=3,
            entries=4 * LAYERS * WIDTH,
            tokens=TOKENS,
            recording=Recording(shard, rows=2, hidden_size=HIDDEN, device=self._device),
            statistics=True,
            device=self._device,
        )
        backend.warm_up(torch.float32)
        backend.write(1, self._entries())
        backend.write(2, self._entries(statistic=Statistic.parse("p90")))
        backend.write(3, self._entries(vectors=self._random.normal(size=(LAYERS, HIDDEN)).astype(np.float32)))
        return backend

    def _steps(self) -> list[StepLayout]:
        """Return steps of fewer and of all tokens, of which the last one records."""

        def slots(*runs: int) -> Any:
            return np.repeat(np.array(runs, dtype=np.int32), TOKENS // len(runs))

        strengths = self._random.random(TOKENS).astype(np.float32)
        spans = (RecordedSpan(0, 0, 5, True), RecordedSpan(1, 5, TOKENS, True))
        return [
            StepLayout(slots=slots(1, 0, 2)),
            StepLayout(slots=slots(2, 3), strengths=strengths),
            NOTHING,
            StepLayout(slots=slots(3)[: TOKENS // 2]),
            StepLayout(slots=slots(0, 2, 1), recorded=spans),
        ]

    def _entries(self, *, statistic: Statistic | None = None, vectors: Any = None) -> SlotEntries:
        """Return entries for a third of each layer's neurons, drawn at random."""
        count = WIDTH // 3
        neurons = [np.sort(self._random.choice(WIDTH, count, replace=False)) for _ in range(LAYERS)]
        mult, add, coef = (self._random.normal(size=LAYERS * count).astype(np.float32) for _ in range(3))
        return SlotEntries(
            offsets=np.arange(LAYERS + 1, dtype=np.int64) * count,
            indices=np.concatenate(neurons).astype(np.int32),
            mult=mult,
            add=add,
            statistic=statistic,
            coef=None if statistic is None else coef,
            takes=None if statistic is None else np.ones(LAYERS, dtype=np.bool_),
            vectors=vectors,
        )

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._random.standard_normal(shape, dtype=np.float32)).to(self._device)
