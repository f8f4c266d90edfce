"""Widths of layers: validated once, one number for equal layers, and the numbering of neurons through all layers."""

from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.neurons.layer_widths import LayerWidths


def test_equal_layers_have_one_number() -> None:
    widths = LayerWidths.parse(3, 8)
    assert LayerWidths.parse(3, [8, 8, 8]) == widths
    assert (widths.width, widths.total, widths.shape, widths.by_layer) == (8, 24, (3, 8), (8, 8, 8))
    assert widths.offsets == (0, 8, 16, 24)
    assert str(widths) == "3 layers of 8 neurons"


def test_unequal_layers_have_one_number_each() -> None:
    widths = LayerWidths.parse(3, [8, 2, 5])
    assert (widths.width, widths.total, widths.shape, widths.by_layer) == ((8, 2, 5), 15, (15,), (8, 2, 5))
    assert (widths.offsets, [widths.of(layer) for layer in range(3)]) == ((0, 8, 10, 15), [8, 2, 5])
    assert str(widths) == "3 layers of 2 to 8 neurons"


def test_a_layer_without_an_mlp_has_no_neurons() -> None:
    widths = LayerWidths.parse(4, [0, 8, 0, 8])
    assert (widths.width, widths.total, widths.offsets) == ((0, 8, 0, 8), 16, (0, 0, 8, 8, 16))
    assert str(widths) == "4 layers, 2 of them of 8 neurons and 2 without an MLP"
    assert str(LayerWidths.parse(3, [4, 0, 8])) == "3 layers, 2 of them of 4 to 8 neurons and 1 without an MLP"


@pytest.mark.parametrize(
    ("layers", "width", "reason"),
    [
        (0, 8, "number of layers must be"),
        ("3", 8, "number of layers must be"),
        (3, 0, "neurons of a layer must be"),
        (3, True, "neurons of a layer must be"),
        (3, "888", "neurons of a layer must be"),
        (3, [8, -1, 8], "neurons of a layer must be"),
        (3, [0, 0, 0], "neurons of a layer must be"),
        (3, [], "neurons of a layer must be"),
        (3, [8, 16], "3 layers need as many numbers of neurons; got 2"),
        (3, None, "neurons of a layer must be"),
        (10_001, 8, "number of layers must be at most 10000; got 10001"),
        (10**9, 8, "number of layers must be at most 10000"),
        (2, [8, 2**31], "at most 2147483647 neurons; got 2147483648"),
    ],
)
def test_widths_that_fit_no_model_are_refused(layers: Any, width: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LayerWidths.parse(layers, width)
