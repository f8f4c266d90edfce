from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from engine.model_files import fingerprint, read_shape
from tests.models import LAYERS, WIDTH, Family


@pytest.fixture
def folder(model_folder: Callable[[Family], Path], tmp_path: Path) -> Path:
    return shutil.copytree(model_folder("qwen2"), tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"])
def test_the_fingerprint_is_of_every_byte_that_decides(folder: Path, name: str) -> None:
    before = fingerprint(folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert fingerprint(folder) != before


def test_the_fingerprint_is_not_of_the_place_or_the_readme(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(folder)
    (folder / "README.md").write_text("about")
    assert fingerprint(folder.rename(tmp_path / "elsewhere")) == before


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(InvalidRequest, match="no model folder") as caught:
        fingerprint(folder)
    assert caught.value.param == "model"


def test_the_shape_is_the_configs(folder: Path) -> None:
    shape = read_shape(folder)
    assert (shape.name, shape.layers, shape.width) == ("model", LAYERS, WIDTH["qwen2"])
    assert shape.fingerprint == fingerprint(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"text_config": config}))
    assert read_shape(folder, name="tiny").layers == LAYERS


@pytest.mark.parametrize("config", ["{}", "no json"])
def test_a_config_without_a_shape_is_refused(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(InvalidRequest):
        read_shape(folder)
