from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.neurons.formats.neuron_file import read_neuron_file

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


def test_the_content_of_a_file_decides_how_it_is_read(lists: Path, text: Path) -> None:
    tensors = read_neuron_file(lists, model=MODEL, languages=["fr", "en"])
    assert tensors.id == read_neuron_file(text, model=MODEL, languages=None).id


def test_a_byte_order_mark_is_ignored(text: Path) -> None:
    plain = read_neuron_file(text, model=MODEL, languages=None)
    text.write_bytes(b"\xef\xbb\xbf" + text.read_bytes())
    assert read_neuron_file(text, model=MODEL, languages=None).id == plain.id


def test_lists_need_language_codes(lists: Path) -> None:
    with pytest.raises(InvalidRequest, match="--languages-from") as caught:
        read_neuron_file(lists, model=MODEL, languages=None)
    assert caught.value.param == "languages"


def test_json_takes_no_language_codes(text: Path) -> None:
    with pytest.raises(InvalidRequest, match="names its languages itself"):
        read_neuron_file(text, model=MODEL, languages=["fr", "en"])


def test_a_file_of_neither_kind_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no neurons")
    with pytest.raises(InvalidRequest, match=r"notes\.txt is neither JSON"):
        read_neuron_file(tmp_path / "notes.txt", model=MODEL, languages=None)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_is_read_in_the_encodings_of_windows(tmp_path: Path, text: Path, encoding: str) -> None:
    (tmp_path / "windows").write_text(text.read_text(), encoding=encoding)
    plain = read_neuron_file(text, model=MODEL, languages=None)
    assert read_neuron_file(tmp_path / "windows", model=MODEL, languages=None).id == plain.id


@pytest.mark.parametrize(
    ("content", "key"), [('{"fr": {"0": [3]}, "fr": {"0": [4]}}', "fr"), ('{"fr": {"0": [3], "0": [4]}}', "0")]
)
def test_a_duplicate_key_is_rejected(tmp_path: Path, content: str, key: str) -> None:
    (tmp_path / "twice.json").write_text(content)
    with pytest.raises(InvalidRequest, match=rf"twice\.json: the key '{key}' occurs twice"):
        read_neuron_file(tmp_path / "twice.json", model=MODEL, languages=None)


def test_files_of_other_libraries_are_rejected_with_the_reason(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1, 2]))
    save_file({"fr": torch.tensor([[0, 3]])}, tmp_path / "a.safetensors")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([[[3], [1]]], protocol=4))
    for name, reason in {"a.npy": "a NumPy array", "a.safetensors": "no agreed form", "a.pkl": "can run code"}.items():
        for languages in (None, ["fr"]):
            with pytest.raises(InvalidRequest, match=rf"{name} is .*{reason}.*; write JSON \{{language"):
                read_neuron_file(tmp_path / name, model=MODEL, languages=languages)
