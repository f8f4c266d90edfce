"""The steering backend for CPUs: the model's own activation, then Numba or torch kernels on its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from ampsweep.domain.neurons.layer_widths import Width
from engine.kernels.activation import MlpForm, activate
from engine.kernels.cpu import record_numba, residual_cpu, steer_numba, steer_torch
from engine.kernels.cpu.take_statistics import take_statistics
from engine.kernels.device_table import SlotEntries
from engine.vllm.backends.activation import SteeredActivation, set_step
from engine.vllm.backends.base import RecordedSpan, StepLayout
from engine.vllm.backends.captured import capture, capture_experts
from engine.vllm.backends.experts import ExpertRows, SequentialExperts
from engine.vllm.backends.residual import SteeredResidual
from engine.vllm.worker.outputs.capturing import CapturedSpan
from engine.vllm.worker.outputs.recording import Recording
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
        counts, sums, reached = self.recording.counts[layer], self.recording.sums[layer], self.recording.reached
        width = out.shape[-1]
        signs = x if form.gated else out
        if signs.device.type == "cpu" and signs.dtype == torch.float32:
            spans = np.array([span[:3] for span in self.spans], dtype=np.int64)
            record_numba.count_positive(signs.numpy(), spans, counts.numpy(), width)
        else:
            for span in self.spans:
                counts[span.row, :width] += (signs[span.first : span.end, :width] > 0).sum(0, dtype=torch.int32)
        for span in self.spans:
            if reached is not None:
                reached[layer, span.row, 0] += span.end - span.first
            if span.sums:
                rows = slice(span.first, span.end)
                summed = activate(form.activation, x[rows, :width]) if form.gated else out[rows]
                sums[span.row, :width] += summed.float().sum(0)

    def add_experts(self, layer: int, form: MlpForm, rows: ExpertRows, x: torch.Tensor, out: torch.Tensor) -> None:
        """Add the counts and sums of a layer's experts, from their `x` [R, 2F or F] and `out` [R, F]."""
        assert self.recording.reached is not None
        gate = x[:, : out.shape[-1]]
        for span in self.spans:
            inside = ((rows.tokens >= span.first) & (rows.tokens < span.end)).nonzero()[:, 0]
            experts, gates = rows.experts[inside], gate[inside]
            self.recording.reached[layer, span.row].index_add_(0, experts, torch.ones_like(experts, dtype=torch.int32))
            self.recording.of_experts("counts", layer, span.row).index_add_(0, experts, (gates > 0).int())
            if span.sums:
                sums = self.recording.of_experts("sums", layer, span.row)
                sums.index_add_(0, experts, activate(form.activation, gates).float())

    def add_residual(self, layer: int, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        """Add the sums of one layer's output: `hidden` [T, H], plus `residual` if there is one.

        Where a sentence asks for it, also count how often the output is above 0.
        """
        sums, counts = self.recording.residual[layer], self.recording.residual_counts
        for span in self.spans:
            for part in (hidden, residual):
                if part is not None:
                    sums[span.row] += part[span.first : span.end].float().sum(0)
            if span.residual_counts:
                assert counts is not None, "counts are allocated when the first sentence asks for them"
                output = hidden[span.first : span.end].float()
                if residual is not None:
                    output = output + residual[span.first : span.end].float()
                counts[layer, span.row] += (output > 0).sum(0, dtype=torch.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class _CpuStep:
    """One forward pass, a `LayerStep`. `sections` has the first section of each layer in the table.

    Tokens have `strengths` float32 [T] where they have `slots`.
    """

    forms: Sequence[MlpForm | None]
    sections: Sequence[int]
    slots: NDArray[np.int32] | None
    strengths: NDArray[np.float32]
    rows: TableRows
    recorded: _Recorded | None
    captured: Sequence[CapturedSpan]
    gather: Gather

    def apply(self, layer: int, x: torch.Tensor, out: torch.Tensor) -> None:
        """Record and capture one layer of the step, then steer it.

        `x` is [T, 2F or F] and `out` [T, F], with padding tokens at the end.
        """
        width, form = out.shape[-1], self._form(layer)
        if (recorded := self.recorded) is not None:
            recorded.add(layer, form, x, out)
        capture(self.captured, layer, form, x)
        if self.slots is not None:
            statistic = self._statistic(layer, lambda on: x[on, :width], out.device)
            self._steer(form, self.sections[layer], self.slots, self.strengths, x, out, statistic)

    def apply_experts(self, layer: int, rows: ExpertRows, x: torch.Tensor, out: torch.Tensor) -> None:
        """See `LayerStep.apply_experts`."""
        width, form = out.shape[-1], self._form(layer)
        if self.recorded is not None:
            self.recorded.add_experts(layer, form, rows, x, out)
        capture_experts(self.captured, layer, form, rows, x, width)
        if self.slots is None:
            return
        padding, tokens = rows.tokens_total - len(self.slots), rows.tokens.cpu().numpy()
        slots = np.pad(self.slots, (0, padding))[tokens]  # 0 for padding tokens
        strengths = np.pad(self.strengths, (0, padding))[tokens]
        by_token = self._statistic(layer, lambda on: x[rows.by_token[on], :width].flatten(1), out.device)
        statistic = functional.pad(by_token, (0, rows.tokens_total - len(by_token)))[rows.tokens]
        for expert, first, end in rows.groups:
            if slots[first:end].any():
                section, part = self.sections[layer] + expert, slice(first, end)
                self._steer(form, section, slots[part], strengths[part], x[part], out[part], statistic[part])

    def _form(self, layer: int) -> MlpForm:
        form = self.forms[layer]
        assert form is not None, "a layer without an MLP has no activation"
        return form

    def _steer(
        self,
        form: MlpForm,
        section: int,
        slots: NDArray[np.int32],
        strengths: NDArray[np.float32],
        x: torch.Tensor,
        out: torch.Tensor,
        statistic: torch.Tensor,
    ) -> None:
        """Steer `out` [T, F] in place by the entries that the slots of its tokens have in one section of the table."""
        rows, up = self.rows, x[:, out.shape[-1] :]
        arrays = (slots, rows.starts, section, rows.indices, rows.mult, rows.add, rows.coef)
        if out.device.type == "cpu" and out.dtype == torch.float32:
            if form.gated:
                steer_numba.steer_gated(up.numpy(), out.numpy(), *arrays, statistic.numpy(), strengths)
            else:
                steer_numba.steer_plain(out.numpy(), *arrays, statistic.numpy(), strengths)
            return
        entries = steer_torch.batch_entries(*arrays, statistic, strengths)
        if form.gated:
            steer_torch.steer_gated(up, out, entries)
        else:
            steer_torch.steer_plain(out, entries)

    def apply_residual(self, layer: int, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        """See `LayerStep.apply_residual`."""
        if self.recorded is not None:
            self.recorded.add_residual(layer, hidden, residual)
        if self.slots is not None and self.rows.vectors is not None:
            vectors = self.rows.adds, self.rows.vectors
            residual_cpu.add_vectors(hidden, self.slots, *vectors, layer, self.strengths)

    def _statistic(
        self, layer: int, gate: Callable[[torch.Tensor], torch.Tensor], device: torch.device
    ) -> torch.Tensor:
        """Return each token's statistic over the neurons that it reaches, float32 [T]; 0 where its slot uses none.

        `gate` returns the inputs of the activation function at the given tokens.
        """
        assert self.slots is not None
        statistic = torch.zeros(len(self.slots), device=device)
        tokens = np.flatnonzero(self.rows.takes[self.slots, layer])
        if len(tokens):
            on, slots = torch.from_numpy(tokens).to(device), self.slots[tokens]
            form = self._form(layer)
            activations = self.gather(activate(form.activation, gate(on), form.constants))
            statistic[on] = take_statistics(activations, self.rows.plan[slots, layer], self.rows.weights[slots, layer])
        return statistic


class CpuBackend:
    """A `SteeringBackend` on the CPU. It allocates memory for recordings when the first sentence is recorded."""

    def __init__(
        self,
        forms: Sequence[MlpForm | None],
        *,
        width: Width,
        experts: Sequence[int] = (),
        slots: int,
        new_recording: Callable[[], Recording],
        gather: Gather,
    ) -> None:
        """Prepare the backend of one worker.

        Args:
            forms: What the MLP of each row of the worker's shard computes, see `Shard`; None for a layer without an
                MLP. The other methods take the number of a row as `layer`.
            width: Neurons of a whole row that one token reaches, over all ranks; one number for each of `forms` where
                they differ.
            experts: Number of experts of each row, 1 for one without experts; empty if no row has any.
            slots: Slots of the table, besides slot 0.
            new_recording: Makes the worker's recording.
            gather: Concatenates the ranks' parts of a layer.
        """
        self._forms = forms
        self._gather = gather
        experts = experts or [1] * len(forms)
        self._sections = list(accumulate(experts, initial=0))
        self._table = CpuTable(layers=len(forms), width=width, capacity=slots, sections=sum(experts))
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

    def experts(self, layer: int) -> nn.Module:
        """See `SteeringBackend.experts`."""
        form = self._forms[layer]
        assert form is not None, "a layer without an MLP has no experts"
        return SequentialExperts(layer, form.activation)

    def residual(self, layer: int) -> nn.Module:
        """See `SteeringBackend.residual`."""
        return SteeredResidual(layer)

    def begin_step(self, layout: StepLayout) -> None:
        """See `SteeringBackend.begin_step`."""
        steered, strengths = bool(layout.slots.any()), layout.strengths
        if not steered and not layout.recorded and not layout.captured:
            set_step(None)
            return
        set_step(
            _CpuStep(
                forms=self._forms,
                sections=self._sections,
                slots=layout.slots if steered else None,
                strengths=np.ones(len(layout.slots), dtype=np.float32) if strengths is None else strengths,
                rows=self._table.rows(),
                recorded=_Recorded(recording=self.recording, spans=layout.recorded) if layout.recorded else None,
                captured=layout.captured,
                gather=self._gather,
            )
        )
