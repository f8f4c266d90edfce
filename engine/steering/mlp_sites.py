"""Where a model's layers call their activation functions: the same names in Hugging Face models and in vLLM's.

A model's layers stand in one list, `layers` or `h`; each calls one activation module, in its `mlp` or itself (OPT),
on what a first projection gives, and a second projection takes the result. Knows neither library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ampsweep.errors import UnsupportedModel

_LAYER = re.compile(r"^(.*\b(?:layers|h))\.(\d+)$")
_NAMES = (  # of the activation, and of the projection after it
    ("act_fn", "down_proj"),  # Llama and its many likes
    ("activation_fn", "down_proj"),  # Phi-3
    ("activation_fn", "fc2"),  # Phi, OPT
    ("act", "c_proj"),  # GPT-2, StarCoder2, EXAONE 3
    ("act", "dense_4h_to_h"),  # GPT-NeoX, Falcon
    ("gelu_impl", "dense_4h_to_h"),  # BLOOM
)


@dataclass(frozen=True, kw_only=True, eq=False)
class MlpSite:
    """One layer's MLP: `owner` calls its activation, its attribute `name`, and then the projection `target`."""

    owner: Any
    name: str
    target: Any

    @property
    def activation(self) -> Any:
        """The activation module that is there now."""
        return getattr(self.owner, self.name)

    def replace(self, activation: nn.Module) -> None:
        """Put another module in the activation's place."""
        setattr(self.owner, self.name, activation)


def find_layers(model: nn.Module) -> Mapping[int, nn.Module]:
    """Return the model's layers by their index; raises UnsupportedModel unless they stand in exactly one list."""
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
    """Return where `layer`, number `index` of the class `model`, calls its activation, or raise UnsupportedModel."""
    owner = getattr(layer, "mlp", layer)
    for name, target in _NAMES:
        if isinstance(getattr(owner, name, None), nn.Module) and isinstance(getattr(owner, target, None), nn.Module):
            return MlpSite(owner=owner, name=name, target=getattr(owner, target))
    if layer is None:
        reason = "is not there"
    elif any("experts" in path.split(".") for path, _ in layer.named_modules()):
        reason = "is a mixture of experts"
    else:
        reason = f"has a {type(owner).__name__}, not an MLP with one activation function"
    raise UnsupportedModel(f"{model} cannot be steered: layer {index} {reason}", param="model")
