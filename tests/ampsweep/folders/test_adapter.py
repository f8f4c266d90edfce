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
from ampsweep.folders.adapter import CONFIG, WEIGHTS, AdapterFolder, check_adapter, read_adapter, stored_shapes
from benchmarks.models.adapter import RANK, tiny_adapter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_adapter(ATLAS_MODEL, tmp_path, targets=["q_proj", "down_proj"], seed=1)[0]


def check(adapter: AdapterFolder) -> None:
    check_adapter(adapter, stored_shapes(ATLAS_MODEL), model="atlas")


def test_an_adapter_is_known_by_its_modules_and_its_content(folder: Path, tmp_path: Path) -> None:
    adapter = read_adapter(folder, name="fr")
    assert (adapter.name, adapter.rank, adapter.targets) == ("fr", RANK, ("down_proj", "q_proj"))
    assert next(iter(adapter.modules.items())) == ("model.layers.0.mlp.down_proj", (128, 1024))
    assert len(adapter.modules) == 8
    assert adapter.values == sum(RANK * sum(shape) for shape in adapter.modules.values())
    check(adapter)
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
        ({"use_qalora": True}, "it uses use_qalora"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "its init_lora_weights 'pissa_niter_4' changes",
        ),
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


UP = "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(
    ("module", "sizes", "complaint"),
    [
        (
            UP.replace("0", "9"),
            (128, 1024),
            r"atlas has no model\.layers\.9\.mlp\.up_proj; it was trained on org/other; use an",
        ),
        (
            UP,
            (128, 2048),
            rf"{UP} is 2048 x 128 in the adapter and 1024 x 128 in atlas; it was trained on",
        ),
        ("model.layers.0.mlp.experts.3.up_proj", (128, 64), "it changes experts, .* merge it into the model"),
        ("vision_tower.layers.0.up_proj", (128, 64), "which reads images or sound, .* use an adapter of the language"),
    ],
)
def test_an_adapter_of_another_model_is_rejected(
    module: str, sizes: tuple[int, int], complaint: str, folder: Path
) -> None:
    inputs, outputs = sizes
    name = f"base_model.model.{module}"
    pair = {f"{name}.lora_A.weight": torch.zeros(2, inputs), f"{name}.lora_B.weight": torch.zeros(outputs, 2)}
    save_file({**load_file(folder / WEIGHTS), **pair}, folder / WEIGHTS)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": "org/other"}))
    with pytest.raises(InvalidRequest, match=f"adapter fr cannot be used: .*{complaint}") as caught:
        check(read_adapter(folder, name="fr"))
    assert caught.value.param == "lora"


def test_half_an_adapter_is_rejected(folder: Path) -> None:
    half = {name: weight for name, weight in load_file(folder / WEIGHTS).items() if "lora_B" not in name}
    save_file(half, folder / WEIGHTS)
    with pytest.raises(InvalidRequest, match=r"the two matrices of .* do not belong together"):
        read_adapter(folder, name="fr")


@pytest.mark.parametrize(
    ("module", "stored"),
    [
        ("model.language_model.layers.0.mlp.up_proj", "language_model.model.layers.0.mlp.up_proj"),  # other releases
        ("transformer.h.0.mlp.up_proj", "h.0.mlp.up_proj"),
        (UP, UP),
    ],
)
def test_modules_are_found_whichever_release_stored_the_model(module: str, stored: str, tmp_path: Path) -> None:
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    model.mkdir()
    adapter.mkdir()
    save_file({f"{stored}.weight": torch.zeros(8, 4)}, model / "model.safetensors")
    name = f"base_model.model.{module}"
    pair = {f"{name}.lora_A.weight": torch.zeros(2, 4), f"{name}.lora_B.weight": torch.zeros(8, 2)}
    save_file(pair, adapter / WEIGHTS)
    (adapter / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    check_adapter(read_adapter(adapter, name="fr"), stored_shapes(model), model="tiny")


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_folder_without_one_of_the_two_files_is_rejected(file: str, folder: Path) -> None:
    (folder / file).unlink()
    with pytest.raises(InvalidRequest, match=f"has no {file}; save the adapter"):
        read_adapter(folder, name="fr")


def test_the_rank_of_the_config_counts_too(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    patterns = {"init_lora_weights": "gaussian", "rank_pattern": {"nothing": 32}}
    (folder / CONFIG).write_text(json.dumps({**config, **patterns}))
    assert read_adapter(folder, name="fr").rank == 32


def test_a_damaged_config_is_rejected(folder: Path) -> None:
    (folder / CONFIG).write_text("{")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_adapter(folder, name="fr")
