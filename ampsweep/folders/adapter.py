"""Reads LoRA adapters in the format of PEFT: `adapter_config.json` and `adapter_model.safetensors` in a folder.

Interprets names and shapes, not values, and imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import is_tower, language_model_weight, read_header, weight_files
from ampsweep.hashing import files_hash
from ampsweep.missing_path import no_folder

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of a model's parts."""
_A, _B = ".lora_A.weight", ".lora_B.weight"
_HEADS = ("lm_head", "embed_tokens", "wte", "word_embeddings")
_UNSUPPORTED = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "alora_invocation_tokens",
    "use_bdlora",
    "use_qalora",
)
"""Settings of adapters that do more than add a product of two matrices to a projection."""
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of `init_lora_weights` that leave the model's weights as they are; PiSSA, OLoRA and others change them."""


@dataclass(frozen=True, kw_only=True)
class AdapterFolder:
    """A LoRA adapter.

    Attributes:
        name: The name of the adapter in requests.
        path: Its folder.
        fingerprint: Hash (64 hex digits) of its two files.
        rank: The largest rank of its matrices, or that of its config if it is larger.
        modules: The shape (outputs, inputs) of each projection that it changes, by the name of the projection in the
            model that PEFT wrapped.
        values: Number of values of all its matrices.
        base_model: The model that it was trained on, as its config says; None if it does not say.
    """

    name: str
    path: Path
    fingerprint: str
    rank: int
    modules: Mapping[str, tuple[int, int]]
    values: int
    base_model: str | None

    @property
    def targets(self) -> tuple[str, ...]:
        """The last parts of the names of the modules, for example "q_proj"."""
        return tuple(sorted({module.rpartition(".")[2] for module in self.modules}))


def read_adapter(folder: Path, *, name: str) -> AdapterFolder:
    """Read which projections an adapter changes.

    Args:
        folder: The folder of the adapter.
        name: The name of the adapter in requests.

    Raises:
        InvalidRequest: The folder holds no LoRA adapter, or one with parts that are not supported (param "lora").
    """
    if not folder.is_dir():
        raise unusable(name, no_folder(folder))
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise unusable(name, f"{folder} has no {file}; save the adapter with PEFT's save_pretrained")
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind, initial = config.get("peft_type"), config.get("init_lora_weights")
        used = [setting for setting in _UNSUPPORTED if config.get(setting)]
        ranks = [int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())]
    except (ValueError, TypeError, AttributeError) as error:
        raise unusable(name, f"{CONFIG} cannot be read: {error}; save the adapter again") from error
    if kind != "LORA":
        raise unusable(name, f"its type is {kind}; only LORA is supported")
    if used or config.get("bias", "none") != "none":
        raise unusable(name, f"it uses {', '.join(used) or 'bias'}, which is not supported; merge it into the model")
    if isinstance(initial, str) and initial.lower() not in _PLAIN_INITS:
        remedy = "save it as a regular adapter with PEFT's path_initial_model_for_weight_conversion"
        raise unusable(name, f"its init_lora_weights {initial!r} changes the weights of the model; {remedy}")
    shapes = _shapes(folder, name)
    return AdapterFolder(
        name=name,
        path=folder,
        fingerprint=files_hash([folder / CONFIG, folder / WEIGHTS]),
        rank=max(*ranks, *(a[0] for a, _ in shapes.values())),
        modules={module: (b[0], a[1]) for module, (a, b) in sorted(shapes.items())},
        values=sum(math.prod(shape) for pair in shapes.values() for shape in pair),
        base_model=str(config.get("base_model_name_or_path") or "") or None,
    )


def check_adapter(adapter: AdapterFolder, stored: Mapping[str, tuple[int, int] | None], *, model: str) -> None:
    """Check that a model has the projections that an adapter changes, in these shapes; vLLM would ignore the others.

    Args:
        adapter: The adapter.
        stored: What `stored_shapes` returns for the model.
        model: The name of the model, for errors.

    Raises:
        InvalidRequest: A projection is missing, has another shape, or cannot be adapted (param "lora").
    """
    trained_on = f"; it was trained on {adapter.base_model}" if adapter.base_model else ""
    remedy = "use an adapter of this model, or the model that it belongs to"
    for module, shape in adapter.modules.items():
        if is_tower(module):
            reason = f"it changes {module}, which reads images or sound, and requests are text only"
            raise unusable(adapter.name, f"{reason}; use an adapter of the language model's layers alone")
        if ".experts" in module:
            reason = f"it changes experts, which are computed without adapters ({module})"
            raise unusable(adapter.name, f"{reason}; merge it into the model")
        if (place := _place(module, stored)) is None:
            raise unusable(adapter.name, f"{model} has no {module}{trained_on}; {remedy}")
        size = stored[place]
        if size is not None and size not in (shape, shape[::-1]):
            sizes = f"{module} is {_size(shape)} in the adapter and {_size(size)} in {model}"
            raise unusable(adapter.name, f"{sizes}{trained_on}; {remedy}")


def stored_shapes(model: Path) -> dict[str, tuple[int, int] | None]:
    """Return the shape of each part of a model's language model that has weights.

    Returns:
        Shapes by the names that the parts have in the language model alone; (outputs, inputs) of a weight that is a
        matrix of floats, None of another one.
    """
    shapes: dict[str, tuple[int, int] | None] = {}
    for path in weight_files(model):
        for tensor, entry in read_header(path)[1].items():
            if (name := language_model_weight(tensor)) is not None:
                part, _, kind = name.rpartition(".")
                is_matrix = kind == "weight" and len(entry["shape"]) == 2 and entry["dtype"].startswith(("F", "BF"))
                shapes[part] = tuple(entry["shape"]) if is_matrix else shapes.get(part)
    return shapes


def unusable(name: str, reason: str) -> InvalidRequest:
    """Return the error of an adapter that cannot be used."""
    return InvalidRequest(f"adapter {name} cannot be used: {reason}", param="lora")


def _place(module: str, stored: Mapping[str, object]) -> str | None:
    """Return the name under which the checkpoint has a module; some leave out the first part, such as "transformer"."""
    name = language_model_weight(module) or module
    return next((place for place in (name, name.partition(".")[2]) if place in stored), None)


def _shapes(folder: Path, name: str) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
    """Return the shapes (rank, inputs) and (outputs, rank) of the two matrices of each module."""
    try:
        header = read_header(folder / WEIGHTS)[1]
    except InvalidRequest as error:
        raise unusable(name, error.message) from error
    pairs: dict[str, dict[str, tuple[int, int]]] = {}
    for tensor, entry in header.items():
        module = tensor.removeprefix(PREFIX).removesuffix(_A).removesuffix(_B)
        shape = tuple(entry["shape"])
        if not tensor.endswith((_A, _B)) or module.rpartition(".")[2] in _HEADS or len(shape) != 2:
            raise unusable(name, f"it changes {tensor}; only LoRA on projections in layers is supported")
        pairs.setdefault(module, {})[_A if tensor.endswith(_A) else _B] = shape
    if not pairs:
        raise unusable(name, f"{WEIGHTS} holds no LoRA matrices; save the adapter again")
    for module, pair in pairs.items():
        if len(pair) < 2 or pair[_A][0] != pair[_B][1]:
            raise unusable(name, f"the two matrices of {module} do not belong together; save the adapter again")
    return {module: (pair[_A], pair[_B]) for module, pair in pairs.items()}


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
