"""Finds where the layers of a model call their activation functions, in the models of Transformers and of vLLM.

A model has one list of layers, named `layers` or `h`. Each layer has one MLP: its `mlp`, or the layer itself (OPT). A
first projection computes the input of an activation module, and a second projection reads the result. Both libraries
name these modules alike. This module imports neither library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ampsweep.errors import UnsupportedModel

_LAYER = re.compile(r"^(.*\b(?:layers|h))\.(\d+)$")
_NAMES = (  # the attributes of an MLP that hold the activation and the projection after it
    ("act_fn", "down_proj"),  # Llama, and most families since
    ("activation_fn", "down_proj"),  # Phi-3
    ("activation_fn", "fc2"),  # Phi, OPT
    ("act", "c_proj"),  # GPT-2, StarCoder2, EXAONE 3
    ("act", "dense_4h_to_h"),  # GPT-NeoX, Falcon
    ("gelu_impl", "dense_4h_to_h"),  # BLOOM
)


@dataclass(frozen=True, kw_only=True, eq=False)
class MlpSite:
    """The MLP of one layer.

    Attributes:
        owner: The module that calls the activation.
        name: Name of the attribute of `owner` that holds the activation.
        target: The projection that reads the activations.
    """

    owner: Any
    name: str
    target: Any

    @property
    def activation(self) -> Any:
        """The current activation module."""
        return getattr(self.owner, self.name)

    def replace(self, activation: nn.Module) -> None:
        """Replace the activation module."""
        setattr(self.owner, self.name, activation)


def find_layers(model: nn.Module) -> Mapping[int, nn.Module]:
    """Return the layers of a model by their index.

    Raises:
        UnsupportedModel: The model has no list of layers, or several.
    """
    name = type(model).__name__
    lists: dict[str, dict[int, nn.Module]] = {}
    for path, module in model.named_modules():
        if match := _LAYER.match(path):
            lists.setdefault(match[1], {})[int(match[2])] = module
    if not lists:
        raise UnsupportedModel(f"{name} cannot be steered: it has no list of layers", param="model")
    if len(lists) > 1:
        raise UnsupportedModel(
            f"{name} cannot be steered: it has several lists of layers ({', '.join(sorted(lists))})", param="model"
        )
    return lists.popitem()[1]


def find_site(layer: nn.Module | None, *, index: int, model: str) -> MlpSite:
    """Return where a layer calls its activation.

    Args:
        layer: The layer, None if the model does not have it.
        index: Index of the layer, for the error.
        model: Class of the model, for the error.

    Raises:
        UnsupportedModel: The layer does not have exactly one MLP with one activation.
    """
    owner = getattr(layer, "mlp", layer)
    for name, target in _NAMES:
        if isinstance(getattr(owner, name, None), nn.Module) and isinstance(getattr(owner, target, None), nn.Module):
            return MlpSite(owner=owner, name=name, target=getattr(owner, target))
    if layer is None:
        reason = "is missing"
    elif any("experts" in path.split(".") for path, _ in layer.named_modules()):
        reason = "is a mixture of experts"
    else:
        reason = f"has a {type(owner).__name__}, not an MLP with one activation function"
    raise UnsupportedModel(f"{model} cannot be steered: layer {index} {reason}", param="model")
