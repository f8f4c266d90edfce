"""The buffers that the CUDA backend's operators read and write, and how a module passes them to its operator.

An operator takes tensors at fixed addresses and plain numbers. So torch.compile can trace it and a CUDA graph can
contain it. What differs between layers is a tensor too: a number would be a constant of the compiled graph, and equal
layers could not share one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.kernels.activation import MlpForm
from engine.kernels.device_table import StatisticBuffers, TableBuffers


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceBuffers:
    """The buffers that one worker's layers read and write, at fixed addresses.

    Attributes:
        table: The slots' entries.
        slots: Each token's slot, int32 [at least T].
        strengths: Each token's strength, float32 [at least T].
        spans: The tokens of each recorded sentence, int32 [R, 2].
        counts: How often each neuron was above 0, int32 [L, R, F of the widest layer]; see `record_triton.record`.
        sums: Sums of activations, float32 of the same shape.
        reached: Tokens that were routed to each expert, int32 [L, R, E]; None for a model without experts.
    """

    table: TableBuffers
    slots: torch.Tensor
    strengths: torch.Tensor
    spans: torch.Tensor
    counts: torch.Tensor
    sums: torch.Tensor
    reached: torch.Tensor | None = None


def table_of(entries: list[torch.Tensor], statistic: list[torch.Tensor], shape: list[int]) -> TableBuffers:
    """Return the table that a module has passed to its operator, see `DeviceModule.passed`."""
    offsets, neurons, mult, add = entries
    sections, width, block = shape
    return TableBuffers(
        sections=sections,
        width=width,
        block=block,
        offsets=offsets,
        neurons=neurons,
        mult=mult,
        add=add,
        statistics=StatisticBuffers(coef=statistic[0], plan=statistic[1], weights=statistic[2]) if statistic else None,
    )


class DeviceModule(nn.Module):
    """A module whose operator steers and records one layer.

    Args:
        buffers: The worker's buffers.
        layer: Number of the layer's row in the worker's shard.
        section: The layer's section of the table; of a layer of experts, the section of the first one.
        form: What the layer's MLP, or each of its experts, computes.
    """

    SCHEMA = (
        "Tensor[] tokens, Tensor[] entries, Tensor[] statistic, Tensor[] recording, Tensor layer, Tensor section, "
        "int[] shape, str activation, Tensor? constants"
    )
    """The part of an operator's schema that `passed` fills."""

    def __init__(self, buffers: DeviceBuffers, *, layer: int, section: int, form: MlpForm) -> None:
        super().__init__()
        table, device = buffers.table, buffers.slots.device
        groups: dict[str, dict[str, torch.Tensor]] = {
            "tokens": {"slots": buffers.slots, "strengths": buffers.strengths},
            "entries": {"offsets": table.offsets, "neurons": table.neurons, "mult": table.mult, "add": table.add},
            "statistic": {},
            "recording": {"spans": buffers.spans, "counts": buffers.counts, "sums": buffers.sums},
        }
        if (statistics := table.statistics) is not None:
            groups["statistic"] = {"coef": statistics.coef, "plan": statistics.plan, "weights": statistics.weights}
        if buffers.reached is not None:
            groups["recording"]["reached"] = buffers.reached
        own = {
            "layer": torch.tensor(layer, dtype=torch.int32, device=device),
            "section": torch.tensor(section, dtype=torch.int32, device=device),
            "constants": torch.tensor(form.constants, dtype=torch.float32, device=device),
        }
        for tensors in (*groups.values(), own):
            for name, tensor in tensors.items():
                self.register_buffer(name, tensor, persistent=False)
        self._names = [list(tensors) for tensors in groups.values()]
        self._shape = [table.sections, table.width, table.block]
        self._form = form

    def passed(self) -> tuple[Any, ...]:
        """Return the arguments for `SCHEMA`, in its order."""
        lists = [[getattr(self, name) for name in names] for names in self._names]
        constants = self.constants if self._form.constants else None
        return (*lists, self.layer, self.section, self._shape, self._form.activation, constants)
