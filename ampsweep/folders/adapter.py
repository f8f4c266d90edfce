"""Reads LoRA adapters in the format of PEFT: `adapter_config.json` and `adapter_model.safetensors` in a folder.

Interprets names and shapes, not values, and imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import read_header, weight_files
from ampsweep.hashing import files_hash

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
_HEADS = ("lm_head", "embed_tokens", "wte", "word_embeddings")
_UNSUPPORTED = ("use_dora", "lora_bias", "modules_to_save", "layer_replication", "alora_invocation_tokens")
"""Settings of adapters that do more than add a product of two matrices to a projection."""


@dataclass(frozen=True, kw_only=True)
class AdapterFolder:
    """A LoRA adapter.

    Attributes:
        name: The name of the adapter in requests.
        path: Its folder.
        fingerprint: Hash (64 hex digits) of its two files.
        rank: The largest rank of its matrices.
        modules: The projections that it changes, by their names in the model.
    """

    name: str
    path: Path
    fingerprint: str
    rank: int
    modules: tuple[str, ...]

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
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise _unusable(name, f"{folder} has no {file}; save the adapter with PEFT's save_pretrained")
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config.get("peft_type")
        used = [setting for setting in _UNSUPPORTED if config.get(setting)]
    except (ValueError, AttributeError) as error:
        raise _unusable(name, f"{CONFIG} cannot be read: {error}; save the adapter again") from error
    if kind != "LORA":
        raise _unusable(name, f"its type is {kind}; only LORA is supported")
    if used or config.get("bias", "none") != "none":
        raise _unusable(name, f"it uses {', '.join(used) or 'bias'}, which is not supported; merge it into the model")
    ranks = _ranks(folder, name)
    return AdapterFolder(
        name=name,
        path=folder,
        fingerprint=files_hash([folder / CONFIG, folder / WEIGHTS]),
        rank=max(ranks.values()),
        modules=tuple(sorted(ranks)),
    )


def check_adapter(adapter: AdapterFolder, model: Path) -> None:
    """Check that a model has all projections that an adapter changes; vLLM would ignore missing ones.

    Args:
        adapter: The adapter.
        model: The folder of the model.

    Raises:
        InvalidRequest: A projection is missing (param "lora").
    """
    stored = {name.rpartition(".")[0] for path in weight_files(model) for name in read_header(path)[1]}
    unknown = [module for module in adapter.modules if module not in stored]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise _unusable(adapter.name, f"{model.name} has no {unknown[0]}{more}; use an adapter of this model")


def _ranks(folder: Path, name: str) -> dict[str, int]:
    """Return the rank of each module that an adapter changes."""
    try:
        header = read_header(folder / WEIGHTS)[1]
    except InvalidRequest as error:
        raise _unusable(name, error.message) from error
    ranks: dict[str, int] = {}
    for tensor, entry in header.items():
        module = tensor.removeprefix(_PREFIX).removesuffix(_A).removesuffix(_B)
        if not tensor.endswith((_A, _B)) or module.rpartition(".")[2] in _HEADS:
            raise _unusable(name, f"it changes {tensor}; only LoRA on projections in layers is supported")
        if tensor.endswith(_A):
            ranks[module] = entry["shape"][0]
    if not ranks:
        raise _unusable(name, f"{WEIGHTS} holds no LoRA matrices; save the adapter again")
    return ranks


def _unusable(name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"adapter {name} cannot be used: {reason}", param="lora")
