"""LoRA adapters are identified by their content; what vLLM would not apply completely is rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.errors import InvalidRequest
from ampsweep.folders.adapter import CONFIG, WEIGHTS, check_adapter, read_adapter
from benchmarks.tiny_adapter import RANK, tiny_adapter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj", "down_proj"], seed=1)[0]


def test_an_adapter_is_known_by_its_modules_and_its_content(folder: Path, tmp_path: Path) -> None:
    adapter = read_adapter(folder, name="fr")
    assert (adapter.name, adapter.rank, adapter.targets) == ("fr", RANK, ("down_proj", "q_proj"))
    assert adapter.modules[0] == "model.layers.0.mlp.down_proj"
    assert len(adapter.modules) == 8
    check_adapter(adapter, ATLAS_MODEL)
    other, _ = tiny_adapter(ATLAS_MODEL, tmp_path / "other", targets=["q_proj", "down_proj"], seed=2)
    assert read_adapter(other, name="fr").fingerprint != adapter.fingerprint
    assert read_adapter(folder, name="another").fingerprint == adapter.fingerprint


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"peft_type": "IA3"}, "its type is IA3; only LORA is supported"),
        ({"use_dora": True}, "it uses use_dora, which is not supported; merge it into the model"),
        ({"modules_to_save": ["lm_head"]}, "it uses modules_to_save"),
        ({"bias": "all"}, "it uses bias"),
    ],
)
def test_what_is_more_than_lora_on_projections_is_rejected(
    setting: dict[str, Any], complaint: str, folder: Path
) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **setting}))
    with pytest.raises(InvalidRequest, match=f"adapter fr cannot be used: {complaint}") as caught:
        read_adapter(folder, name="fr")
    assert caught.value.param == "lora"


@pytest.mark.parametrize("module", ["lm_head", "model.embed_tokens"])
def test_an_adapter_of_the_head_or_the_embedding_is_rejected(module: str, folder: Path) -> None:
    more = {f"base_model.model.{module}.lora_A.weight": torch.zeros(1, 2)}
    save_file({**load_file(folder / WEIGHTS), **more}, folder / WEIGHTS)
    with pytest.raises(InvalidRequest, match=rf"changes base_model\.model\.{module}\.lora_A\.weight; only LoRA on"):
        read_adapter(folder, name="fr")


def test_an_adapter_of_another_model_is_rejected(folder: Path) -> None:
    more = {"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(1, 2)}
    save_file({**load_file(folder / WEIGHTS), **more}, folder / WEIGHTS)
    with pytest.raises(InvalidRequest, match=r"has no model\.layers\.9\.mlp\.up_proj; use an adapter of this model"):
        check_adapter(read_adapter(folder, name="fr"), ATLAS_MODEL)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_folder_without_one_of_the_two_files_is_rejected(file: str, folder: Path) -> None:
    (folder / file).unlink()
    with pytest.raises(InvalidRequest, match=f"has no {file}; save the adapter"):
        read_adapter(folder, name="fr")


def test_a_damaged_config_is_rejected(folder: Path) -> None:
    (folder / CONFIG).write_text("{")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_adapter(folder, name="fr")
