"""Random LoRA adapters in PEFT's format; neither PEFT nor a download is needed.

Each adapter is written twice: as an adapter, and merged into a copy of the model, which any engine can load.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ampsweep.folders.weights import is_tower

RANK = 4
ALPHA = 8
_WEIGHTS = "model.safetensors"


def tiny_adapter(
    model: Path, path: Path, *, targets: Sequence[str], seed: int, scale: float = 0.1
) -> tuple[Path, Path]:
    """Write a random adapter of a model.

    Args:
        model: The folder of a model with its weights in one file.
        path: A folder for the adapter and the merged model, created if it does not exist.
        targets: The projections that the adapter changes in every layer of the language model, for example "q_proj".
        seed: Seed of the matrices.
        scale: Standard deviation of their numbers.

    Returns:
        The folder of the adapter, and that of the model with the adapter merged in: W + ALPHA / RANK * B A.
    """
    generator = torch.Generator().manual_seed(seed)
    adapter_folder = path / "adapter"
    adapter_folder.mkdir(parents=True, exist_ok=True)
    merged_folder = Path(shutil.copytree(model, path / "merged"))
    matrices: dict[str, Tensor] = {}
    merged: dict[str, Tensor] = {}
    for name, weight in load_file(model / _WEIGHTS).items():
        merged[name] = weight
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] not in targets or is_tower(name):
            continue
        outputs, inputs = weight.shape
        first = torch.randn(RANK, inputs, generator=generator) * scale
        second = torch.randn(outputs, RANK, generator=generator) * scale
        matrices[f"base_model.model.{module}.lora_A.weight"] = first
        matrices[f"base_model.model.{module}.lora_B.weight"] = second
        merged[name] = weight + ALPHA / RANK * second @ first
    save_file(matrices, adapter_folder / "adapter_model.safetensors")
    save_file(merged, merged_folder / _WEIGHTS, metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": list(targets), "bias": "none"}
    (adapter_folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return adapter_folder, merged_folder
