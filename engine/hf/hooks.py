"""Hooks that change or observe the activations and the residual stream of a Hugging Face model.

Written to be simple, not fast.

Each layer's MLP calls an activation function, on its gate projection or on its only first projection (see
`engine.steering.mlp_sites`). That function is replaced in each layer by one that passes its result through `Hooks`.
The experts of a layer pass through `Hooks` as one MLP, see `engine.hf.experts`. A layer without an MLP has 0 neurons
and calls nothing. The residual stream is what a layer
returns; it passes through `Hooks` in a forward hook of the layer. Outside `steer` and `watch` blocks the model is
unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ampsweep.domain.layer_widths import LayerWidths
from ampsweep.domain.statistic import Statistic
from ampsweep.errors import UnsupportedModel
from engine.hf.experts import HookedExperts, experts_width
from engine.hf.functional_activations import add_activation_modules
from engine.steering.edits import Edits
from engine.steering.mlp_sites import ExpertsSite, MlpSite, find_layers, find_site

_Change = Callable[[int, Tensor], Tensor]
"""Maps a layer's index and its activations [1, T, F], or its residual [1, T, H], to what takes their place.

An activation is NaN where a token does not reach the neuron's expert.
"""


class Hooks:
    """The hooks in the layers of one model, whose MLPs have the widths `widths`."""

    def __init__(self, model: nn.Module) -> None:
        """Install the hooks; raise UnsupportedModel for an MLP or experts of unknown form."""
        name = type(model).__name__
        add_activation_modules(model)
        layers = find_layers(model)
        sites = [find_site(layers.get(index), index=index, model=name) for index in range(max(layers) + 1)]
        by_layer = [_width(site, layer=index, model=name) for index, site in enumerate(sites)]
        if not any(by_layer):
            raise UnsupportedModel(f"{name} cannot be steered: none of its layers has an MLP", param="model")
        self.widths = LayerWidths.of_layers(by_layer)
        self.mixture = any(isinstance(site, ExpertsSite) for site in sites)
        for index, site in enumerate(sites):
            if site is not None:
                site.replace(self._hooked(site, index))
            layers[index].register_forward_hook(partial(self._after_layer, index))
        self._on_activation: _Change | None = None
        self._on_residual: _Change | None = None

    @contextmanager
    def steer(self, edits: Edits | None, tokens: Tensor) -> Iterator[None]:
        """Apply `edits` within the block, at the tokens where `tokens`, bool [T], is true.

        A statistic is that of the token's activations before the edits, or of the whole forward pass; see `Edits`.
        """
        rows = tokens.nonzero()

        def apply(layer: int, activation: Tensor) -> Tensor:
            assert edits is not None
            entries = edits.entries(layer)
            indices, mult, add = (
                torch.from_numpy(values[entries]).to(activation.device)
                for values in (edits.indices, edits.mult, edits.add)
            )
            edited = activation.clone()
            scaled = activation[0, rows, indices].float() * mult
            values = torch.where(mult != 0, scaled, 0.0) + add  # an infinite activation times 0 would be NaN
            if edits.statistic is not None and edits.coef is not None:
                coef = torch.from_numpy(edits.coef[entries]).to(activation.device)
                if edits.whole_pass:
                    statistics = [pass_statistic(activation[0], edits.statistic, changed=indices[coef != 0])]
                else:
                    statistics = [row_statistic(activation[0, row], edits.statistic) for row in rows]
                values += coef * torch.tensor(statistics, device=activation.device).reshape(-1, 1)
            edited[0, rows, indices] = values.to(activation.dtype)
            return edited

        def shift(layer: int, residual: Tensor) -> Tensor:
            assert edits is not None
            assert edits.vectors is not None
            vector = torch.from_numpy(edits.vectors[layer]).to(residual.device)
            shifted = residual.clone()
            if vector.any():
                shifted[0, rows] = (residual[0, rows].float() + vector).to(residual.dtype)
            return shifted

        on_activation = apply if edits is not None and edits.vectors is None else None
        on_residual = shift if edits is not None and edits.vectors is not None else None
        with self._within(on_activation, on_residual):
            yield

    @contextmanager
    def watch(
        self, see: Callable[[int, Tensor], None], see_residual: Callable[[int, Tensor], None] | None = None
    ) -> Iterator[None]:
        """Within the block, call `see` with each layer's index and activations [T, F].

        `see_residual` is called with its index and the residual stream at its output, [T, H].
        """

        def show(layer: int, activation: Tensor) -> Tensor:
            see(layer, activation[0])
            return activation

        def show_residual(layer: int, residual: Tensor) -> Tensor:
            if see_residual is not None:
                see_residual(layer, residual[0])
            return residual

        with self._within(show, show_residual):
            yield

    def after_activation(self, layer: int, activation: Tensor) -> Tensor:
        """Return the activations [1, T, F] that a layer continues with; called by the model."""
        return activation if self._on_activation is None else self._on_activation(layer, activation)

    def _hooked(self, site: MlpSite | ExpertsSite, layer: int) -> nn.Module:
        """Return the module that takes the place of the one at `site`."""
        if isinstance(site, ExpertsSite):
            return HookedExperts(
                site.experts,
                is_active=lambda: self._on_activation is not None,
                after_activation=partial(self.after_activation, layer),
            )
        return _HookedActivation(site.activation, layer, self)

    def _after_layer(self, layer: int, _module: nn.Module, _inputs: object, output: Any) -> Any:
        """Return what a layer returns, a tensor [1, T, H] or a tuple that begins with one; None leaves it as it is."""
        if self._on_residual is None:
            return None
        if isinstance(output, tuple):
            return (self._on_residual(layer, output[0]), *output[1:])
        return self._on_residual(layer, output)

    @contextmanager
    def _within(self, on_activation: _Change | None, on_residual: _Change | None) -> Iterator[None]:
        self._on_activation, self._on_residual = on_activation, on_residual
        try:
            yield
        finally:
            self._on_activation = self._on_residual = None


def pass_statistic(activations: Tensor, statistic: Statistic, *, changed: Tensor) -> float:
    """Return the statistic of all tokens' activations [T, F] together, as the published code does.

    See `Edits.whole_pass`. `changed` are the neurons that the statistic is applied to.
    """
    if statistic.name != "mad":
        return row_statistic(activations, statistic)
    distances = (activations.double()[:, changed] - _reached(activations).median()).abs()
    return 0.0 if distances.isnan().all() else float(distances.nanmedian())


def row_statistic(activations: Tensor, statistic: Statistic) -> float:
    """Return a statistic of one token's activations [F], or of all elements of a larger tensor, in float64.

    Neurons of experts that a token does not reach are left out.
    """
    values = _reached(activations)
    if statistic.name == "mad":
        return float((values - values.median()).abs().median())
    if statistic.name == "iqr":
        return float(np.subtract(*np.percentile(values.cpu().numpy(), (75.0, 25.0))))
    if statistic.name == "percentile":
        return float(
            np.percentile(values.cpu().numpy(), statistic.percent)
        )  # torch.quantile is limited to 16 million values
    if statistic.name == "std":
        return float(values.std()) if len(values) > 1 else 0.0
    return float(getattr(values, statistic.name)())


def _reached(activations: Tensor) -> Tensor:
    """Return the activations of neurons that their token reaches, float64 [n]."""
    values = activations.double().flatten()
    return values[~values.isnan()]


class _HookedActivation(nn.Module):
    """An activation function whose result passes through the hooks."""

    def __init__(self, function: Callable[[Tensor], Tensor], layer: int, hooks: Hooks) -> None:
        super().__init__()
        self.function = function
        self.layer = layer
        self.hooks = hooks

    def forward(self, x: Tensor) -> Tensor:
        activation = self.function(x)
        rows = activation.view(1, -1, activation.shape[-1])  # OPT's activations have no batch dimension
        return self.hooks.after_activation(self.layer, rows).view(activation.shape)


def _width(site: MlpSite | ExpertsSite | None, *, layer: int, model: str) -> int:
    """Return the neurons of a layer."""
    if site is None:
        return 0
    if isinstance(site, ExpertsSite):
        return experts_width(site.experts, layer=layer, model=model)
    return _inputs(site.target)


def _inputs(projection: nn.Module) -> int:
    """Return the input width of the projection after the activation; GPT-2's is a Conv1D, with a transposed weight."""
    if isinstance(projection, nn.Linear):
        return projection.in_features
    assert isinstance(projection, Conv1D), type(projection).__name__
    return int(projection.nx)
