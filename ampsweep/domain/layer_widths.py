"""How many neurons each layer of a model has: one number for all layers, or one for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any

Width = int | tuple[int, ...]
"""Neurons of a layer: a number if all layers have the same, otherwise one number for each layer.

Fields named `width` have this type. In JSON it is a number or a list of numbers.
"""


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
            width: Neurons of a layer, or a list with one number for each layer.

        Raises:
            ValueError: A number is missing or no whole number above 0, or the list has another length than `layers`.
        """
        if not _is_count(layers):
            raise ValueError(f"the number of layers must be a whole number above 0; got {layers!r}")
        by_layer: list[Any] = list(width) if isinstance(width, Sequence) and not isinstance(width, str) else [width]
        if not by_layer or not all(map(_is_count, by_layer)):
            raise ValueError(f"the neurons of a layer must be a whole number above 0, or one for each; got {width!r}")
        if isinstance(width, Sequence) and len(by_layer) != layers:
            raise ValueError(f"{layers} layers need as many numbers of neurons; got {len(by_layer)}")
        assert isinstance(layers, int)
        return cls(layers, by_layer[0] if len(set(by_layer)) == 1 else tuple(by_layer))

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
        """Return for example `3 layers of 8 neurons`, or `3 layers of 8 to 16 neurons` where layers differ."""
        if isinstance(self.width, int):
            return f"{self.layers} layers of {self.width} neurons"
        return f"{self.layers} layers of {min(self.width)} to {max(self.width)} neurons"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
