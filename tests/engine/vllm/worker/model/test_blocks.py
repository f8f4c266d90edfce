"""The output of a layer, in each of the forms in which a layer returns it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.vllm.worker.model import blocks
from tests.engine.vllm.vllm_source import VllmSource


class Adding(nn.Module):
    """Adds a number to a layer's output, and notes what it got."""

    def __init__(self, position: int, notes: list[tuple[int, torch.Tensor | None]]) -> None:
        super().__init__()
        self.position = position
        self.notes = notes

    def forward(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> None:
        self.notes.append((self.position, residual))
        hidden += 10.0


class Layer(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + 1


class FusedLayer(nn.Module):
    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return hidden + 1, hidden


class StablelmDecoderLayer(FusedLayer):
    """A layer whose first tensor is the output, whatever the second is."""


class Model(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


@pytest.mark.parametrize(("layer", "rest"), [(Layer, None), (FusedLayer, torch.zeros(1)), (StablelmDecoderLayer, None)])
def test_a_module_gets_the_output_in_the_form_that_the_layer_returns(layer: Any, rest: torch.Tensor | None) -> None:
    notes: list[tuple[int, torch.Tensor | None]] = []
    model = Model([layer() for _ in range(4)])
    blocks.attach(model, layers=range(1, 3), make=lambda position: Adding(position, notes))
    for index, steered in enumerate([False, True, True, False]):
        output = model.layers[index](torch.zeros(1))
        hidden = output if rest is None and layer is Layer else output[0]
        assert hidden.item() == (11.0 if steered else 1.0)
    assert [position for position, _ in notes] == [0, 1]
    assert all((seen is None) == (rest is None) for _, seen in notes)


def test_a_second_output_that_is_none_is_not_added() -> None:
    hidden = torch.ones(1)
    assert blocks.split_output((hidden, None), complete=False) == (hidden, None)
    assert blocks.split_output((hidden,), complete=False) == (hidden, None)


def test_every_layer_of_vllm_that_returns_its_output_and_what_it_began_with_is_known() -> None:
    """Both would be added, unnoticed: vectors and recorded residual streams would be wrong, answers would not."""
    source = VllmSource.installed()
    assert source is not None
    folder = source.root / "vllm" / "model_executor" / "models"
    complete = {name for path in folder.glob("*.py") for name in _sums(path)}
    assert complete == blocks._COMPLETE


def _sums(path: Path) -> Iterator[str]:
    """Yield the classes of layers that return a tensor and one that has just been added to it."""
    text = path.read_text(encoding="utf-8")
    if "+ residual" not in text and "residual +" not in text:
        return
    for layer in ast.parse(text).body:
        if not isinstance(layer, ast.ClassDef) or not layer.name.endswith("DecoderLayer"):
            continue
        for method in layer.body:
            if isinstance(method, ast.FunctionDef) and method.name == "forward":
                last = [node for node in ast.walk(method) if isinstance(node, (ast.Assign, ast.Return))]
                *_, assigned, returned = sorted(last, key=lambda node: node.lineno)
                added = {name.id for name in ast.walk(assigned) if isinstance(name, ast.Name)}
                if isinstance(returned.value, ast.Tuple) and ast.unparse(returned.value.elts[1]) in added:
                    yield layer.name
