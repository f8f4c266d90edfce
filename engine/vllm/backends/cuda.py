"""The steering backend for GPUs: interventions, token slots and recorded sums at fixed addresses on the device.

The host writes between steps, on the stream that the steps run on, and a step reads only the device. So the model can
be compiled and its steps can be replayed from CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, product

import numpy as np
import torch
from torch import nn

from ampsweep.domain.neurons.layer_widths import LayerWidths, Width
from engine.kernels import host_copies
from engine.kernels.activation import MlpForm
from engine.kernels.cuda.expert_pairs import MANY_PAIRS
from engine.kernels.cuda.steer_triton import LONG_BATCH
from engine.kernels.device_table import DeviceTable, SlotEntries
from engine.kernels.token_slots import TokenSlots
from engine.vllm.backends.base import StepLayout
from engine.vllm.backends.device_buffers import DeviceBuffers
from engine.vllm.backends.device_experts import DeviceExperts
from engine.vllm.backends.device_residual import DeviceResidual
from engine.vllm.backends.fused_activation import FusedActivation
from engine.vllm.backends.step_needs import StepNeeds, set_needs
from engine.vllm.worker.outputs.recording import Recording


class CudaBackend:
    """A `SteeringBackend` on a GPU. It allocates all of its memory at the start."""

    def __init__(
        self,
        forms: Sequence[MlpForm | None],
        *,
        width: Width,
        hidden_size: int,
        slots: int,
        entries: int,
        tokens: int,
        recording: Recording,
        statistics: bool,
        device: torch.device,
        experts: Sequence[int] = (),
        reached: Width | None = None,
    ) -> None:
        """Allocate the buffers of one worker.

        Args:
            forms: What the MLP of each row of the worker's shard computes, see `Shard`; None for a layer without an
                MLP. The other methods take the number of a row as `layer`.
            width: Neurons of a row on this worker; one number for each of `forms` where they differ.
            hidden_size: Size of the residual stream.
            slots: Slots of the table, besides slot 0.
            entries: Entries of the table, over all slots.
            tokens: Most tokens in a step, padding included.
            recording: Where recorded sentences are counted and summed.
            statistics: Whether interventions may use statistics.
            device: Where the buffers are.
            experts: Number of experts of each row, 1 for one without experts; empty if no row has any.
            reached: Neurons of each row that one token reaches; None for all of them.
        """
        self._forms = forms
        self._widths = LayerWidths(len(forms), width)
        self._experts = tuple(experts) or (1,) * len(forms)
        self._sections = list(accumulate(self._experts, initial=0))
        by_row = zip(self._widths.by_layer, self._experts, strict=True)
        self._table = DeviceTable(
            slots=slots,
            layers=len(forms),
            width=width if reached is None else reached,
            sections=[neurons // count for neurons, count in by_row for _ in range(count)],
            capacity=entries,
            device=device,
            statistics=statistics,
            hidden_size=hidden_size,
        )
        self._slots = TokenSlots(capacity=tokens, device=device)
        self._spans = torch.zeros(recording.rows, 2, dtype=torch.int32, device=device)
        self._spans_filled = False
        self._uses_statistic = np.zeros(slots + 1, dtype=np.bool_)
        self._adds_vector = np.zeros(slots + 1, dtype=np.bool_)
        self._tokens = tokens
        self._recording = recording
        self._buffers = DeviceBuffers(
            table=self._table.buffers,
            slots=self._slots.buffer,
            strengths=self._slots.strengths,
            spans=self._spans,
            counts=recording.counts,
            sums=recording.sums,
            reached=recording.reached,
        )
        plain = [int(count == 1) for count in self._experts]
        self._plain = torch.tensor(plain, dtype=torch.int32, device=device)

    @property
    def recording(self) -> Recording:
        """See `SteeringBackend.recording`."""
        return self._recording

    def fits(self, row: SlotEntries) -> bool:
        """See `SteeringBackend.fits`."""
        return len(row.indices) <= self._table.free

    def write(self, slot: int, row: SlotEntries) -> None:
        """See `SteeringBackend.write`."""
        self._table.write(slot, row)
        self._uses_statistic[slot] = row.statistic is not None
        self._adds_vector[slot] = row.vectors is not None

    def clear(self, slot: int) -> None:
        """See `SteeringBackend.clear`."""
        self._table.clear(slot)

    def activation(self, layer: int, inner: nn.Module) -> nn.Module:  # noqa: ARG002  # the fused module replaces `inner`
        """See `SteeringBackend.activation`."""
        return FusedActivation(self._buffers, layer=layer, section=self._sections[layer], form=self._form(layer))

    def experts(self, layer: int) -> nn.Module:
        """See `SteeringBackend.experts`."""
        return DeviceExperts(self._buffers, layer=layer, section=self._sections[layer], form=self._form(layer))

    def residual(self, layer: int) -> nn.Module:
        """See `SteeringBackend.residual`."""
        return DeviceResidual(
            layer,
            slots=self._slots.buffer,
            strengths=self._slots.strengths,
            vectors=self._table.vectors,
            spans=self._spans,
            sums=self._recording.residual,
        )

    def begin_step(self, layout: StepLayout) -> None:
        """See `SteeringBackend.begin_step`."""
        set_needs(
            StepNeeds(
                statistics=bool(self._uses_statistic[layout.slots].any()),
                vectors=bool(self._adds_vector[layout.slots].any()),
                recording=bool(layout.recorded),
                captured=layout.captured,
            )
        )
        self._recording.begin_step([span.row for span in layout.recorded])
        self._slots.write(layout.slots, layout.strengths)
        if layout.recorded or self._spans_filled:
            spans = np.zeros(self._spans.shape, dtype=np.int32)
            for span in layout.recorded:
                spans[span.row] = span.first, span.end
                if self._recording.reached is not None:  # all tokens reach an MLP without experts
                    self._recording.reached[:, span.row, 0].add_(self._plain, alpha=span.end - span.first)
            host_copies.write(self._spans, torch.from_numpy(spans))
            self._spans_filled = bool(layout.recorded)

    def warm_up(self, dtype: torch.dtype) -> None:
        """Compile every kernel that a step may launch, so that none is compiled while a CUDA graph is captured.

        For those of experts see `warm_up_experts`.
        """
        shapes = zip(self._forms, self._widths.by_layer, self._experts, strict=True)
        first_of = {shape: layer for layer, shape in reversed(list(enumerate(shapes)))}
        for (form, width, experts), layer in first_of.items():
            if form is None or experts > 1:
                continue
            module = self.activation(layer, nn.Identity())
            columns = width * (2 if form.gated else 1)
            for tokens in {1, min(LONG_BATCH, self._tokens)}:
                x = torch.zeros(tokens, columns, dtype=dtype, device=self._spans.device)
                for statistics in (True, False):
                    set_needs(StepNeeds(statistics=statistics))
                    module(x)
        set_needs()
        hidden = torch.zeros(1, self._recording.residual.shape[-1], dtype=dtype, device=self._spans.device)
        for residual in (None, hidden.clone()):
            self.residual(0)(hidden, residual)

    def warm_up_experts(
        self,
        compute: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], object],
        *,
        experts: int,
        each: int,
        dtype: torch.dtype,
    ) -> None:
        """Compile the kernels of a layer of experts.

        Args:
            compute: Computes the layer from its inputs [T, H], the shares [T, k], and the chosen experts [T, k].
            experts: Number of experts.
            each: Experts of a token, k.
            dtype: Data type of the model.
        """
        device, hidden_size = self._spans.device, self._recording.residual.shape[-1]
        sizes = {1, *(min(-(-pairs // each), self._tokens) for pairs in (MANY_PAIRS * experts, LONG_BATCH))}
        for tokens, statistics in product(sorted(sizes), (True, False)):
            set_needs(StepNeeds(statistics=statistics))
            numbers = torch.arange(tokens * each, dtype=torch.int32, device=device) % experts
            x = torch.zeros(tokens, hidden_size, dtype=dtype, device=device)
            compute(x, torch.zeros(tokens, each, device=device), numbers.view(tokens, each))
        set_needs()

    def _form(self, layer: int) -> MlpForm:
        form = self._forms[layer]
        assert form is not None, "a layer without an MLP has no neurons"
        return form
