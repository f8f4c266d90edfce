"""Statistics of tokens: by Numba on a CPU, in torch operations on other devices."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ampsweep.domain.statistic import DEVIATION, MAX, MEAN, NONE, QUANTILE, SPREAD, STD
from engine.kernels.cpu import statistic_numba


def take_statistics(activations: torch.Tensor, plan: NDArray[np.int32], weights: NDArray[np.float32]) -> torch.Tensor:
    """Return one statistic for each token, float32 [T], on the device of `activations`, without waiting for it.

    Args:
        activations: [T, F].
        plan: Kind and ranks of each token's statistic, int32 [T, 3]; see `StatisticPlan`.
        weights: Weights of each token's statistic, float32 [T, 2].
    """
    values = activations.float()
    if values.device.type == "cpu":
        return torch.from_numpy(statistic_numba.take_statistics(values.numpy(), plan, weights))
    return in_torch(values, torch.from_numpy(plan).to(values.device), torch.from_numpy(weights).to(values.device))


def in_torch(values: torch.Tensor, plan: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the same from float32 `values`; all arguments are on one device.

    Computes every kind of statistic for every token and then selects.
    """
    ascending = values.sort(dim=1).values
    first, second = (_quantile(ascending, plan[:, 1 + index], weights[:, index]) for index in (0, 1))
    distances = (values - first[:, None]).abs().sort(dim=1).values
    mean, width = values.mean(dim=1), values.shape[1]
    squares = (values - mean[:, None]).square().sum(dim=1)
    kinds = {
        NONE: torch.zeros_like(first),
        MEAN: mean,
        STD: (squares / max(width - 1, 1)).sqrt(),
        MAX: ascending[:, -1],
        QUANTILE: first,
        SPREAD: first - second,
        DEVIATION: _quantile(distances, plan[:, 1], weights[:, 0]),
    }
    table = torch.stack([kinds[kind] for kind in range(len(kinds))])
    return table.gather(0, plan[None, :, 0].long())[0]


def _quantile(ascending: torch.Tensor, rank: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    low = rank.long()[:, None]
    value = ascending.gather(1, low)[:, 0]
    following = ascending.gather(1, (low + 1).clamp(max=ascending.shape[1] - 1))[:, 0]
    return torch.where(weight > 0, value + weight * (following - value), value)
