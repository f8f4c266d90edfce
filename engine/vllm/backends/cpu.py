"""The steering backend for CPUs: the model's own activation, then Numba or torch kernels on its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ampsweep.domain.layer_widths import Width
from engine.kernels import record_numba, residual_cpu, steer_numba, steer_torch
from engine.kernels.activation import MlpForm, activate
from engine.kernels.device_table import SlotEntries
from engine.kernels.take_statistics import take_statistics
from engine.vllm.backends.activation import SteeredActivation, set_step
from engine.vllm.backends.base import RecordedSpan, StepLayout
from engine.vllm.backends.residual import SteeredResidual
from engine.vllm.worker.recording import Recording
from engine.vllm.worker.table import CpuTable, TableRows

Gather = Callable[[torch.Tensor], torch.Tensor]
"""Concatenates the ranks' parts [T, F] of a layer to [T, all of its neurons], in any order of neurons.

All ranks must call it for the same tokens in the same order. Which tokens those are depends only on the batch.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Recorded:
    """The recorded sentences of a step and their recording."""

    recording: Recording
    spans: Sequence[RecordedSpan]

    def add(self, layer: int, form: MlpForm, x: torch.Tensor, out: torch.Tensor) -> None:
        """Add the counts and sums of one layer, from `x` [T, 2F or F] and `out` [T, F] before any intervention.

        Without a gate, `out` holds the activations. With one they are above 0 exactly where the gates are, see
        `MlpForm`, and are computed only to be summed.
        """
        counts, sums = self.recording.counts[layer], self.recording.sums[layer]
        width = out.shape[-1]
        signs = x if form.gated else out
        if signs.device.type == "cpu" and signs.dtype == torch.float32:
            spans = np.array([span[:3] for span in self.spans], dtype=np.int64)
            record_numba.count_positive(signs.numpy(), spans, counts.numpy(), width)
        else:
            for span in self.spans:
                counts[span.row, :width] += (signs[span.first : span.end, :width] > 0).sum(0, dtype=torch.int32)
        for span in self.spans:
            if span.sums:
                rows = slice(span.first, span.end)
                summed = activate(form.activation, x[rows, :width]) if form.gated else out[rows]
                sums[span.row, :width] += summed.float().sum(0)

    def add_residual(self, layer: int, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        """Add the sums of one layer's output: `hidden` [T, H], plus `residual` if there is one."""
        sums = self.recording.residual[layer]
        for span in self.spans:
            for part in (hidden, residual):
                if part is not None:
                    sums[span.row] += part[span.first : span.end].float().sum(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _CpuStep:
    """One forward pass, a `LayerStep`."""

    forms: Sequence[MlpForm]
    slots: NDArray[np.int32] | None
    rows: TableRows
    recorded: _Recorded | None
    gather: Gather

    def apply(self, layer: int, x: torch.Tensor, out: torch.Tensor) -> None:
        """Record one layer of the step, then steer it: `x` [T, 2F or F], `out` [T, F], padding tokens at the end."""
        width, form = out.shape[-1], self.forms[layer]
        if (recorded := self.recorded) is not None:
            recorded.add(layer, form, x, out)
        if self.slots is None:
            return
        rows, up = self.rows, x[:, width:]
        arrays = (self.slots, rows.starts, layer, rows.indices, rows.mult, rows.add, rows.coef)
        statistic = self._statistic(layer, x[:, :width])
        if out.device.type == "cpu" and out.dtype == torch.float32:
            if form.gated:
                steer_numba.steer_gated(up.numpy(), out.numpy(), *arrays, statistic.numpy())
            else:
                steer_numba.steer_plain(out.numpy(), *arrays, statistic.numpy())
            return
        entries = steer_torch.batch_entries(*arrays, statistic)
        if form.gated:
            steer_torch.steer_gated(up, out, entries)
        else:
            steer_torch.steer_plain(out, entries)

    def apply_residual(self, layer: int, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        """See `LayerStep.apply_residual`."""
        if self.recorded is not None:
            self.recorded.add_residual(layer, hidden, residual)
        if self.slots is not None and self.rows.vectors is not None:
            residual_cpu.add_vectors(hidden, self.slots, self.rows.adds, self.rows.vectors, layer)

    def _statistic(self, layer: int, gate: torch.Tensor) -> torch.Tensor:
        """Return each token's statistic over the whole layer, float32 [T]; 0 where its slot uses none."""
        assert self.slots is not None
        statistic = torch.zeros(len(self.slots), device=gate.device)
        tokens = np.flatnonzero(self.rows.takes[self.slots, layer])
        if len(tokens):
            on, slots = torch.from_numpy(tokens).to(gate.device), self.slots[tokens]
            form = self.forms[layer]
            activations = self.gather(activate(form.activation, gate[on], form.constants))
            statistic[on] = take_statistics(activations, self.rows.plan[slots, layer], self.rows.weights[slots, layer])
        return statistic


class CpuBackend:
    """A `SteeringBackend` on the CPU. It allocates memory for recordings when the first sentence is recorded."""

    def __init__(
        self,
        forms: Sequence[MlpForm],
        *,
        width: Width,
        slots: int,
        new_recording: Callable[[], Recording],
        gather: Gather,
    ) -> None:
        """Prepare the backend of one worker.

        Args:
            forms: What the MLP of each of the worker's layers computes.
            width: Neurons of a whole layer, over all ranks; one number for each of `forms` where they differ.
            slots: Slots of the table, besides slot 0.
            new_recording: Makes the worker's recording.
            gather: Concatenates the ranks' parts of a layer.
        """
        self._forms = forms
        self._gather = gather
        self._table = CpuTable(layers=len(forms), width=width, capacity=slots)
        self._new_recording = new_recording

    @cached_property
    def recording(self) -> Recording:
        """See `SteeringBackend.recording`."""
        return self._new_recording()

    def fits(self, row: SlotEntries) -> bool:  # noqa: ARG002  # the protocol's
        """Return True: only the machine's memory limits the table."""
        return True

    def write(self, slot: int, row: SlotEntries) -> None:
        """See `SteeringBackend.write`."""
        self._table.write(slot, row)

    def clear(self, slot: int) -> None:
        """See `SteeringBackend.clear`."""
        self._table.clear(slot)

    def activation(self, layer: int, inner: nn.Module) -> nn.Module:
        """See `SteeringBackend.activation`."""
        return SteeredActivation(inner, layer)

    def residual(self, layer: int) -> nn.Module:
        """See `SteeringBackend.residual`."""
        return SteeredResidual(layer)

    def begin_step(self, layout: StepLayout) -> None:
        """See `SteeringBackend.begin_step`."""
        steered = bool(layout.slots.any())
        if not steered and not layout.recorded:
            set_step(None)
            return
        set_step(
            _CpuStep(
                forms=self._forms,
                slots=layout.slots if steered else None,
                rows=self._table.rows(),
                recorded=_Recorded(recording=self.recording, spans=layout.recorded) if layout.recorded else None,
                gather=self._gather,
            )
        )
