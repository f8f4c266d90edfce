"""The places in a Hugging Face model where activations can be changed or watched: plain, slow and obvious.

Each decoder layer's MLP calls an activation function, on `gate_proj(x)`, on the gate's half of a fused `gate_up_proj`,
or on `fc1(x)`. That function is replaced, a layer each, by one that asks `Hooks` what to do with its result. Between
`steer` or `watch` blocks the model computes what it always did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ampsweep.errors import UnsupportedModel
from engine.edits import Edits
from engine.kernels.statistic import Statistic

_SHAPES = (  # of an MLP: its activation function, what feeds it, what comes after; the last gives the width
    ("act_fn", "gate_proj", "down_proj"),
    ("activation_fn", "gate_up_proj", "down_proj"),
    ("activation_fn", "fc1", "fc2"),
)


class Hooks:
    """The activations of one model's MLPs: `layers` of them, `width` neurons each, [1, T, F] at a time."""

    def __init__(self, model: nn.Module) -> None:
        """Put the hooks in; raises UnsupportedModel where an MLP is of no known shape (a mixture of experts, say)."""
        layers = getattr(getattr(model, "model", None), "layers", None)
        if not isinstance(layers, nn.ModuleList) or not len(layers):
            raise UnsupportedModel(f"{type(model).__name__} cannot be steered: it has no list of layers", param="model")
        widths = {self._replace(model, at, getattr(layer, "mlp", None)) for at, layer in enumerate(layers)}
        if len(widths) != 1:
            raise UnsupportedModel(
                f"{type(model).__name__} cannot be steered: its layers have {sorted(widths)} neurons", param="model"
            )
        self.layers = len(layers)
        self.width = widths.pop()
        self._on_activation: Callable[[int, Tensor], Tensor] | None = None

    @contextmanager
    def steer(self, edits: Edits | None, tokens: Tensor) -> Iterator[None]:
        """Within the block, apply `edits` (None: nothing) at the tokens where `tokens`, bool [T], is true.

        A statistic is that of the token's activations as the model computed them.
        """
        rows = tokens.nonzero()

        def apply(layer: int, activation: Tensor) -> Tensor:
            assert edits is not None
            own = edits.entries(layer)
            indices, mult, add = (
                torch.from_numpy(part[own]).to(activation.device) for part in (edits.indices, edits.mult, edits.add)
            )
            edited = activation.clone()
            values = activation[0, rows, indices].float() * mult + add
            if edits.statistic is not None and edits.coef is not None:
                coef = torch.from_numpy(edits.coef[own]).to(activation.device)
                taken = [row_statistic(activation[0, row], edits.statistic) for row in rows]
                values += coef * torch.tensor(taken, device=activation.device).reshape(-1, 1)
            edited[0, rows, indices] = values.to(activation.dtype)
            return edited

        with self._within(None if edits is None else apply):
            yield

    @contextmanager
    def watch(self, see: Callable[[int, Tensor], None]) -> Iterator[None]:
        """Within the block, show `see` each layer's number and activations [T, F]."""

        def show(layer: int, activation: Tensor) -> Tensor:
            see(layer, activation[0])
            return activation

        with self._within(show):
            yield

    def after_activation(self, layer: int, activation: Tensor) -> Tensor:
        """Return what the activations [1, T, F] of a layer are to be; called by the model itself."""
        return activation if self._on_activation is None else self._on_activation(layer, activation)

    @contextmanager
    def _within(self, on_activation: Callable[[int, Tensor], Tensor] | None) -> Iterator[None]:
        self._on_activation = on_activation
        try:
            yield
        finally:
            self._on_activation = None

    def _replace(self, model: nn.Module, layer: int, mlp: object) -> int:
        """Put a hook into the MLP of a layer and return its number of neurons."""
        for activation, source, target in _SHAPES:
            function, projection = getattr(mlp, activation, None), getattr(mlp, target, None)
            if callable(function) and hasattr(mlp, source) and isinstance(projection, nn.Linear):
                setattr(mlp, activation, _HookedActivation(function, layer, self))
                return projection.in_features
        raise UnsupportedModel(
            f"{type(model).__name__} cannot be steered: layer {layer} has a {type(mlp).__name__}, "
            "not an MLP with one activation function",
            param="model",
        )


def row_statistic(activations: Tensor, statistic: Statistic) -> float:
    """Return a statistic of one token's activations [F], computed in float64."""
    values = activations.double().flatten()
    if statistic.name == "mad":
        return float((values - values.median()).abs().median())
    if statistic.name == "iqr":
        return float(values.quantile(0.75) - values.quantile(0.25))
    if statistic.name == "percentile":
        return float(values.quantile(statistic.percent / 100.0))
    if statistic.name == "std":
        return float(values.std()) if len(values) > 1 else 0.0
    return float(getattr(values, statistic.name)())


class _HookedActivation(nn.Module):
    """An activation function whose result passes through the hooks."""

    def __init__(self, function: Callable[[Tensor], Tensor], layer: int, hooks: Hooks) -> None:
        super().__init__()
        self.function = function
        self.layer = layer
        self.hooks = hooks

    def forward(self, x: Tensor) -> Tensor:
        return self.hooks.after_activation(self.layer, self.function(x))
