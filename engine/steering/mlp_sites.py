"""Finds where the layers of a model call their activation functions, in the models of Transformers and of vLLM.

A model has one list of layers, named `layers` or `h`; of the lists of a multimodal model, that of its language model
counts. Each layer has one MLP, named as in `_MLPS`, or is one itself (OPT). A first projection computes the input of an
activation module, and a second projection reads the result. A layer of a mixture of experts has a module `experts`,
which holds all of them, and in some families an MLP for all tokens beside them. A layer of Nemotron-H has one module,
`mixer`: an MLP or experts, or attention or Mamba, which have no neurons. Both libraries name most of these modules
alike. This module imports neither library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ampsweep.errors import UnsupportedModel

_LAYER = re.compile(r"^(.*\b(?:layers|h))\.(\d+)$")
_LANGUAGE_MODELS = frozenset({"language_model", "text_model"})
"""What both libraries call the language model inside a multimodal model."""
_MIXER = "mixer"
_MLPS = ("mlp", "feed_forward", "shared_mlp", _MIXER)
"""What a layer calls its MLP: most families; Falcon-H1, LFM2 and Llama 4; Granite 4; Nemotron-H."""
_MIXERS_WITHOUT_MLP = frozenset({"NemotronHAttention", "NemotronHMamba2Mixer", "MambaMixer2"})
"""Classes of a `mixer` that makes its layer one without an MLP: in both libraries, in Transformers, in vLLM."""
_EXPERTS = "experts"
_BLOCKS = ("mlp", "block_sparse_moe", "feed_forward", _MIXER)
"""What a layer calls the module that has a router and `experts`: most families; Granite 4, and Mixtral in vLLM; LFM2
and Llama 4; Nemotron-H. In Gemma 4 the layer itself has them."""
_SHARED = ("shared_expert", "shared_experts", "shared_mlp")
"""What the libraries call an MLP for all tokens beside the experts."""
_NAMES = (  # the attributes of an MLP that hold the activation and the projection after it
    ("act_fn", "down_proj"),  # Llama, and most families since
    ("activation_fn", "down_proj"),  # Phi-3
    ("act_fn", "w2"),  # LFM2
    ("activation_fn", "fc2"),  # Phi, OPT
    ("act_fn", "output_linear"),  # Granite 4 in vLLM
    ("activation", "output_linear"),  # Granite 4 in Transformers
    ("act", "c_proj"),  # GPT-2, StarCoder2, EXAONE 3
    ("act", "fc_out"),  # GPT-J
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


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpertsSite:
    """The experts of one layer, in one module.

    Attributes:
        owner: The module that calls the experts, with what its router has chosen.
        experts: The module of the experts.
    """

    owner: Any
    experts: Any

    def replace(self, experts: nn.Module) -> None:
        """Replace the module of the experts."""
        setattr(self.owner, _EXPERTS, experts)


Site = MlpSite | ExpertsSite


def find_layers(model: nn.Module) -> Mapping[int, nn.Module]:
    """Return the layers of a model, those of its language model if it is multimodal, by their index.

    Raises:
        UnsupportedModel: The model has no list of layers, or several in its language model.
    """
    name = type(model).__name__
    lists: dict[str, dict[int, nn.Module]] = {}
    for path, module in model.named_modules():
        if match := _LAYER.match(path):
            lists.setdefault(match[1], {})[int(match[2])] = module
    if not lists:
        raise UnsupportedModel(f"{name} cannot be steered: it has no list of layers", param="model")
    candidates = language_models(lists)
    if len(candidates) > 1:
        raise UnsupportedModel(
            f"{name} cannot be steered: it has several lists of layers ({', '.join(sorted(candidates))})", param="model"
        )
    return lists[candidates[0]]


def language_models(paths: Iterable[str]) -> list[str]:
    """Return the paths that lead into a language model; all of them if none does, as in a text model.

    Args:
        paths: Paths of modules, for example `model.language_model.layers` and `model.vision_tower.layers`.
    """
    paths = list(paths)
    return [path for path in paths if not _LANGUAGE_MODELS.isdisjoint(path.split("."))] or paths


def find_sites(layer: nn.Module | None, *, index: int, model: str) -> tuple[Site, ...]:
    """Return where a layer calls its activations, in the order of its neurons.

    That is one MLP; or experts; or experts and an MLP for all tokens, whose neurons follow those of the experts; or
    nothing in a layer that is known to have no MLP.

    Args:
        layer: The layer, None if the model does not have it.
        index: Index of the layer, for the error.
        model: Class of the model, for the error.

    Raises:
        UnsupportedModel: The layer has something else, or not one residual stream.
    """
    if isinstance(getattr(layer, "altup", None), nn.Module):  # Gemma 3n
        raise UnsupportedModel(
            f"{model} cannot be steered: layer {index} passes on several residual streams (AltUp)", param="model"
        )
    if type(getattr(layer, _MIXER, None)).__name__ in _MIXERS_WITHOUT_MLP:
        return ()
    owner = next((getattr(layer, name) for name in _MLPS if hasattr(layer, name)), layer)
    if layer is None:
        reason = "is missing"
    elif any(_EXPERTS in path.split(".") for path, _ in layer.named_modules()):
        if sites := _mixture(layer):
            return sites
        reason = "has experts of an unknown form, or an MLP of an unknown form beside them"
    elif (site := _mlp(owner)) is not None:
        return (site,)
    else:
        reason = f"has a {type(owner).__name__}, not an MLP with one activation function"
    raise UnsupportedModel(f"{model} cannot be steered: layer {index} {reason}", param="model")


def _mlp(owner: Any) -> MlpSite | None:
    """Return where an MLP calls its activation, None if it has no such place."""
    for name, target in _NAMES:
        modules = getattr(owner, name, None), getattr(owner, target, None)
        if all(isinstance(module, nn.Module) for module in modules):
            return MlpSite(owner=owner, name=name, target=modules[1])
    return None


def _mixture(layer: nn.Module) -> tuple[Site, ...]:
    """Return the experts of a layer and its shared MLP, if it has one; an empty tuple if either has another form."""
    for owner in (*(getattr(layer, name) for name in _BLOCKS if hasattr(layer, name)), layer):
        experts = getattr(owner, _EXPERTS, None)
        if not isinstance(experts, nn.Module):
            continue
        shared = [getattr(module, name, None) for module in dict.fromkeys((layer, owner)) for name in _SHARED]
        if owner is layer:
            shared.append(getattr(layer, "mlp", None))  # Gemma 4
        beside = [module for module in shared if isinstance(module, nn.Module)]
        sites = [_mlp(module) for module in beside]
        if len(sites) > 1 or None in sites:
            return ()
        return (ExpertsSite(owner=owner, experts=experts), *(site for site in sites if site is not None))
    return ()
