"""Random rows of a device table, and their effect on a batch computed in float64, token by token."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from ampsweep.domain.statistic import Statistic
from benchmarks.kernels.float64_activation import XIELU, activation_in_float64
from engine.kernels.activation import ActivationName
from engine.kernels.device_table import SlotEntries


def constants_of(name: ActivationName) -> tuple[float, ...]:
    """Return the constants that an activation function has in these tests."""
    return XIELU if name == "xielu" else ()


def draw_row(
    rng: np.random.Generator, *, layers: int, width: int, share: float, statistic: Statistic | None = None
) -> SlotEntries:
    """Return a row with about `share` of the neurons; those at borders of blocks of 16 are four times as likely."""
    likely = np.where(np.isin(np.arange(width) % 16, (0, 15)), 4 * share, share)
    layer, index = np.nonzero(rng.random((layers, width)) < likely)
    count = len(index)
    return SlotEntries(
        offsets=np.searchsorted(layer, np.arange(layers + 1)).astype(np.int64),
        indices=index.astype(np.int32),
        mult=rng.normal(size=count).astype(np.float32),
        add=(rng.normal(size=count) * (rng.random(count) < 0.5)).astype(np.float32),
        statistic=statistic,
        coef=None if statistic is None else rng.normal(size=count).astype(np.float32),
    )


def neutral(row: SlotEntries) -> SlotEntries:
    """Return a row with the same neurons and neutral entries."""
    coef = None if row.coef is None else np.zeros_like(row.coef)
    return replace(row, mult=np.ones_like(row.mult), add=np.zeros_like(row.add), coef=coef)


def steered(
    x: torch.Tensor,
    slots: list[int],
    rows: dict[int, SlotEntries],
    layer: int,
    *,
    name: ActivationName,
    gated: bool,
    strengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return activation, interventions and product of `x` [T, 2F] or [T, F], float64 [T, F].

    `strengths` are those of the tokens, 1 by default.
    """
    width = x.shape[1] // (2 if gated else 1)
    active = activation_in_float64(x[:, :width], name)
    changed = active.clone()
    for token, slot in enumerate(slots):
        if slot in rows:
            row = rows[slot]
            entries = slice(int(row.offsets[layer]), int(row.offsets[layer + 1]))
            neurons = torch.from_numpy(row.indices[entries].astype(np.int64))
            mult, add = torch.from_numpy(row.mult[entries]), torch.from_numpy(row.add[entries])
            changed[token, neurons] = mult.double() * active[token, neurons] + add.double()
            if row.statistic is not None and row.coef is not None:
                shift = torch.from_numpy(row.coef[entries]).double() * taken(active[token], row.statistic)
                changed[token, neurons] += shift
            if strengths is not None:
                changed[token] = active[token] + strengths[token].double() * (changed[token] - active[token])
    return changed * x[:, width:].double() if gated else changed


def taken(active: torch.Tensor, statistic: Statistic) -> float:
    """Return a statistic of one token's activations, float64 [F]."""
    values = active.double()
    if statistic.name == "mad":
        return float((values - values.median()).abs().median())
    if statistic.name in ("iqr", "percentile"):
        ascending = values.sort().values.numpy()
        if statistic.name == "iqr":
            return _percentile(ascending, 75.0) - _percentile(ascending, 25.0)
        return _percentile(ascending, statistic.percent)
    return float(getattr(values, statistic.name)())


def _percentile(ascending: np.ndarray, percent: float) -> float:
    position = percent / 100.0 * (len(ascending) - 1)
    low, high = ascending[math.floor(position)], ascending[math.ceil(position)]
    return float(low + (position - math.floor(position)) * (high - low))
