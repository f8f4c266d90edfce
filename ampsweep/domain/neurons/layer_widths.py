"""How many neurons each layer of a model has: one number for all layers, or one for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any, cast

Width = int | tuple[int, ...]
"""Neurons of a layer: a number if all layers have the same, otherwise one number for each layer, 0 without an MLP.

Fields named `width` have this type. In JSON it is a number or a list of numbers.
"""
MAX_LAYERS = 10_000
"""The most layers of a model: files of unknown origin name the number, and a list of as many is made."""
MAX_NEURONS = 2**31 - 1
"""The most neurons of a layer."""


@dataclass(frozen=True)
class LayerWidths:
    """The widths of the layers of a model. `parse` validates them; equal models have equal objects.

    Where the neurons of all layers are numbered through, they are in the order of the layers.

    Attributes:
        layers: Number of layers.
        width: Neurons of a layer; a tuple only where layers differ.

    Example:
        >>> widths = LayerWidths.parse(3, [8, 8, 16])
        >>> widths.of(2), widths.total, widths.offsets
        (16, 32, (0, 8, 16, 32))
        >>> LayerWidths.parse(2, [8, 8]).width
        8
    """

    layers: int
    width: Width

    @classmethod
    def parse(cls, layers: object, width: object) -> LayerWidths:
        """Validate the number of layers and their widths.

        Args:
            layers: Number of layers.
            width: Neurons of a layer, or a list with one number for each layer, 0 for a layer without an MLP.

        Raises:
            ValueError: A number is missing, no whole number or too large, no layer has neurons, or the list has another
                length than `layers`.
        """
        if not _is_count(layers) or not layers:
            raise ValueError(f"the number of layers must be a whole number above 0; got {layers!r}")
        if cast("int", layers) > MAX_LAYERS:
            raise ValueError(f"the number of layers must be at most {MAX_LAYERS}; got {layers}")
        by_layer: list[Any] = list(width) if isinstance(width, Sequence) and not isinstance(width, str) else [width]
        if not all(map(_is_count, by_layer)) or not any(by_layer):
            raise ValueError(
                "the neurons of a layer must be a whole number above 0, or one for each layer, 0 for a layer without "
                f"an MLP; got {width!r}"
            )
        if max(by_layer) > MAX_NEURONS:
            raise ValueError(f"a layer must have at most {MAX_NEURONS} neurons; got {max(by_layer)}")
        if isinstance(width, Sequence) and len(by_layer) != layers:
            raise ValueError(f"{layers} layers need as many numbers of neurons; got {len(by_layer)}")
        assert isinstance(layers, int)
        return cls.of_layers(by_layer) if isinstance(width, Sequence) else cls(layers, by_layer[0])

    @classmethod
    def of_layers(cls, by_layer: Sequence[int]) -> LayerWidths:
        """Return the widths of layers that have these numbers of neurons, which may all be 0 in a part of a model."""
        return cls(len(by_layer), by_layer[0] if len(set(by_layer)) == 1 else tuple(by_layer))

    def of(self, layer: int) -> int:
        """Return the number of neurons of one layer."""
        return self.width if isinstance(self.width, int) else self.width[layer]

    @property
    def by_layer(self) -> tuple[int, ...]:
        """The number of neurons of each layer."""
        return tuple(repeat(self.width, self.layers)) if isinstance(self.width, int) else self.width

    @property
    def total(self) -> int:
        """The number of neurons of all layers."""
        return self.layers * self.width if isinstance(self.width, int) else sum(self.width)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The number of each layer's first neuron, and the total: `layers` + 1 numbers."""
        return tuple(accumulate(self.by_layer, initial=0))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array with a value for each neuron: (layers, width), or (total,) where layers differ."""
        return (self.layers, self.width) if isinstance(self.width, int) else (self.total,)

    def __str__(self) -> str:
        """Return for example `3 layers of 8 neurons`, or `3 layers of 8 to 16 neurons` where layers differ.

        Layers without an MLP are named: `3 layers, 2 of them of 8 neurons and 1 without an MLP`.
        """
        if isinstance(self.width, int):
            return f"{self.layers} layers of {self.width} neurons"
        present = [width for width in self.width if width]
        low, high = min(present), max(present)
        neurons = f"of {low} neurons" if low == high else f"of {low} to {high} neurons"
        if without := self.layers - len(present):
            return f"{self.layers} layers, {len(present)} of them {neurons} and {without} without an MLP"
        return f"{self.layers} layers {neurons}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
