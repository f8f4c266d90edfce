from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neuron_file import read_neuron_file

MODEL = ModelFolder(name="made-up", fingerprint="f" * 64, layers=2, width=8)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    path = tmp_path / "Made-Up-7B.neuron.pth"
    torch.save([[torch.tensor([1, 3]), torch.tensor([]).long()], [torch.tensor([]).long(), torch.tensor([7])]], path)
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "neurons"
    path.write_text(json.dumps({"fr": {"0": [1, 3]}, "en": {"1": [7]}}))
    return path


def test_what_is_in_a_file_decides_how_it_is_read(lists: Path, text: Path) -> None:
    tensors = read_neuron_file(lists, model=MODEL, languages=["fr", "en"])
    assert tensors.id == read_neuron_file(text, model=MODEL, languages=None).id


def test_lists_need_the_names_of_their_languages(lists: Path) -> None:
    with pytest.raises(InvalidRequest, match="--languages-from") as caught:
        read_neuron_file(lists, model=MODEL, languages=None)
    assert caught.value.param == "languages"


def test_json_names_its_own(text: Path) -> None:
    with pytest.raises(InvalidRequest, match="names its languages itself"):
        read_neuron_file(text, model=MODEL, languages=["fr", "en"])


def test_a_file_of_neither_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no neurons")
    with pytest.raises(InvalidRequest, match=r"notes\.txt is neither JSON"):
        read_neuron_file(tmp_path / "notes.txt", model=MODEL, languages=None)
