"""Hooks that change or observe the activations and the residual stream of a Hugging Face model.

Written to be simple, not fast.

Each layer's MLP calls an activation function, on its gate projection or on its only first projection (see
`engine.steering.mlp_sites`). That function is replaced in each layer by one that passes its result through `Hooks`.
The experts of a layer pass through `Hooks` as one MLP, see `engine.hf.experts`. A layer with experts and an MLP beside
them has two parts; one without an MLP has none. The residual stream is what a layer returns; it passes through `Hooks`
in a forward hook of the layer. Outside `steer` and `watch` blocks the model is unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.statistic import Statistic
from ampsweep.errors import UnsupportedModel
from engine.hf.experts import HookedExperts, HookedLlama4Activation, Part, experts_width
from engine.hf.functional_activations import add_activation_modules
from engine.steering.edits import Edits
from engine.steering.mlp_sites import ExpertsSite, Site, find_layers, find_sites

_ChangeActivation = Callable[[Part, Tensor], Tensor]
"""Maps a part of a layer and its activations [1, T, F] to what takes their place.

An activation is NaN where a token does not reach the neuron's expert.
"""
_ChangeResidual = Callable[[int, Tensor], Tensor]
"""Maps a layer's index and its residual [1, T, H] to what takes its place."""


class Hooks:
    """The hooks in the layers of one model, whose MLPs have the widths `widths`."""

    def __init__(self, model: nn.Module) -> None:
        """Install the hooks; raise UnsupportedModel for an MLP or experts of unknown form."""
        name = type(model).__name__
        add_activation_modules(model)
        layers = find_layers(model)
        sites = [find_sites(layers.get(index), index=index, model=name) for index in range(max(layers) + 1)]
        parts = [_parts(sites_of_layer, layer=index, model=name) for index, sites_of_layer in enumerate(sites)]
        by_layer = [parts_of_layer[-1].end if parts_of_layer else 0 for parts_of_layer in parts]
        if not any(by_layer):
            raise UnsupportedModel(f"{name} cannot be steered: none of its layers has an MLP", param="model")
        self.widths = LayerWidths.of_layers(by_layer)
        self.mixture = any(isinstance(site, ExpertsSite) for site in chain.from_iterable(sites))
        for site, part in zip(chain.from_iterable(sites), chain.from_iterable(parts), strict=True):
            self._hook(site, part)
        for index in range(len(sites)):
            layers[index].register_forward_hook(partial(self._after_layer, index))
        self._on_activation: _ChangeActivation | None = None
        self._on_residual: _ChangeResidual | None = None

    @contextmanager
    def steer(
        self, edits: Edits | None, strengths: Tensor, *, see: Callable[[Part, Tensor], None] | None = None
    ) -> Iterator[None]:
        """Apply `edits` within the block: a' = a + s * (op(a) - a), where s is a token's number in `strengths`.

        `strengths` is float32 [T]; tokens where it is 0 are not edited.

        `see` is called with each part of a layer and its activations [T, F] before they are edited.

        A statistic is that of the token's activations before the edits, or of the whole forward pass; see `Edits`. It
        is taken over the part of the layer that the edited neuron belongs to.
        """
        on_activation: _ChangeActivation | None = None
        on_residual: _ChangeResidual | None = None
        if edits is not None and edits.vectors is not None:
            on_residual = partial(_shift, edits.vectors, strengths)
        elif edits is not None:
            on_activation = partial(_edit, edits, strengths)
        if see is not None:
            on_activation = partial(_show, see, on_activation)
        with self._within(on_activation, on_residual):
            yield

    @contextmanager
    def watch(
        self, see: Callable[[int, Tensor], None], see_residual: Callable[[int, Tensor], None] | None = None
    ) -> Iterator[None]:
        """Within the block, call `see` with the index and the activations [T, F] of each layer that has neurons.

        `see_residual` is called with its index and the residual stream at its output, [T, H].
        """
        parts: list[tuple[Part, Tensor]] = []

        def collect(part: Part, activation: Tensor) -> Tensor:
            parts.append((part, activation[0]))
            return activation

        def show(layer: int, residual: Tensor) -> Tensor:
            if parts:
                in_order = sorted(parts, key=lambda part: part[0])
                parts.clear()
                see(layer, torch.cat([activations for _, activations in in_order], dim=-1))
            if see_residual is not None:
                see_residual(layer, residual[0])
            return residual

        with self._within(collect, show):
            yield

    def after_activation(self, part: Part, activation: Tensor) -> Tensor:
        """Return the activations [1, T, F] that a part of a layer continues with; called by the model."""
        return activation if self._on_activation is None else self._on_activation(part, activation)

    def _hook(self, site: Site, part: Part) -> None:
        """Let the activations at `site` pass through the hooks."""
        after_activation = partial(self.after_activation, part)
        if not isinstance(site, ExpertsSite):
            site.replace(_HookedActivation(site.activation, after_activation))
            return
        experts = site.experts
        if type(experts).__name__ == "Llama4TextExperts":
            experts.act_fn = HookedLlama4Activation(
                experts.act_fn, is_active=self._is_active, after_activation=after_activation
            )
        else:
            site.replace(HookedExperts(experts, is_active=self._is_active, after_activation=after_activation))

    def _is_active(self) -> bool:
        """Return whether activations are changed or watched."""
        return self._on_activation is not None

    def _after_layer(self, layer: int, _module: nn.Module, _inputs: object, output: Any) -> Any:
        """Return what a layer returns, a tensor [1, T, H] or a tuple that begins with one; None leaves it as it is."""
        if self._on_residual is None:
            return None
        if isinstance(output, tuple):
            return (self._on_residual(layer, output[0]), *output[1:])
        return self._on_residual(layer, output)

    @contextmanager
    def _within(self, on_activation: _ChangeActivation | None, on_residual: _ChangeResidual | None) -> Iterator[None]:
        self._on_activation, self._on_residual = on_activation, on_residual
        try:
            yield
        finally:
            self._on_activation = self._on_residual = None


def _edit(edits: Edits, strengths: Tensor, part: Part, activation: Tensor) -> Tensor:
    """Return the activations [1, T, F] of a part of a layer with the edits of its neurons."""
    rows = strengths.nonzero()
    strength = strengths[rows]
    entries = _entries(edits, part)
    indices, mult, add = (
        torch.from_numpy(array[entries]).to(activation.device)
        for array in (edits.indices - part.first, edits.mult, edits.add)
    )
    mult = (1 - strength) + strength * mult
    scaled = activation[0, rows, indices].float() * mult
    values = torch.where(mult != 0, scaled, 0.0) + strength * add  # an infinite activation times 0 would be NaN
    if edits.statistic is not None and edits.coef is not None:
        coef = torch.from_numpy(edits.coef[entries]).to(activation.device)
        if edits.whole_pass:
            statistics = [pass_statistic(activation[0], edits.statistic, changed=indices[coef != 0])]
        else:
            statistics = [row_statistic(activation[0, row], edits.statistic) for row in rows]
        taken = coef * torch.tensor(statistics, device=activation.device).reshape(-1, 1)
        values += strength * torch.where(coef != 0, taken, 0.0)  # the statistic may be infinite too
    edited = activation.clone()
    edited[0, rows, indices] = values.to(activation.dtype)
    return edited


def _shift(vectors: NDArray[np.float32], strengths: Tensor, layer: int, residual: Tensor) -> Tensor:
    """Return the residual [1, T, H] at a layer's output with the layer's vector added to it."""
    vector = torch.from_numpy(vectors[layer]).to(residual.device)
    shifted = residual.clone()
    if vector.any():
        rows = strengths.nonzero()
        added = strengths[rows][:, :, None] * vector
        shifted[0, rows] = (residual[0, rows].float() + added).to(residual.dtype)
    return shifted


def _show(
    see: Callable[[Part, Tensor], None], change: _ChangeActivation | None, part: Part, activation: Tensor
) -> Tensor:
    """Pass the activations of a part of a layer to `see`, and return them with a change or without."""
    see(part, activation[0])
    return activation if change is None else change(part, activation)


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
    if not len(values):  # the model computes NaN in a layer below
        return math.nan
    if statistic.name == "mad":
        return float((values - values.median()).abs().median())
    if statistic.name == "iqr":
        return float(np.subtract(*np.percentile(values.cpu().numpy(), (75.0, 25.0))))
    if statistic.name == "percentile":  # torch.quantile is limited to 16 million values
        return float(np.percentile(values.cpu().numpy(), statistic.percent))
    if statistic.name == "std":
        return float(values.std()) if len(values) > 1 else 0.0
    return float(getattr(values, statistic.name)())


def _reached(activations: Tensor) -> Tensor:
    """Return the activations of neurons that their token reaches, float64 [n]."""
    values = activations.double().flatten()
    return values[~values.isnan()]


class _HookedActivation(nn.Module):
    """An activation function whose result passes through the hooks."""

    def __init__(self, function: Callable[[Tensor], Tensor], after_activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self._after_activation = after_activation

    def forward(self, x: Tensor) -> Tensor:
        activation = self.function(x)
        rows = activation.view(1, -1, activation.shape[-1])  # OPT's activations have no batch dimension
        return self._after_activation(rows).view(activation.shape)


def _parts(sites: Sequence[Site], *, layer: int, model: str) -> list[Part]:
    """Return the neurons of each site of a layer, numbered through the layer."""
    parts: list[Part] = []
    for site in sites:
        if isinstance(site, ExpertsSite):
            width = experts_width(site.experts, layer=layer, model=model)
        else:
            width = _inputs(site.target)
        first = parts[-1].end if parts else 0
        parts.append(Part(layer, first, first + width))
    return parts


def _entries(edits: Edits, part: Part) -> slice:
    """Return the slice of the entries of one part of a layer."""
    entries = edits.entries(part.layer)
    first, end = entries.start + np.searchsorted(edits.indices[entries], (part.first, part.end))
    return slice(int(first), int(end))


def _inputs(projection: nn.Module) -> int:
    """Return the input width of the projection after the activation; GPT-2's is a Conv1D, with a transposed weight."""
    if isinstance(projection, nn.Linear):
        return projection.in_features
    assert isinstance(projection, Conv1D), type(projection).__name__
    return int(projection.nx)
