from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import ModelFolder
from engine.lape_lists import from_lape_lists
from engine.neuron_json import from_json

MODEL = ModelFolder(name="made-up", fingerprint="f" * 64, layers=2, width=8)
EXPECTED = {"fr": {0: [1, 3]}, "en": {1: [7]}}


def _saved(path: Path, value: Any) -> Path:
    torch.save(value, path / "lape.pt")
    return path / "lape.pt"


@pytest.mark.parametrize(
    "lists",
    [
        # RUCAIBox and Language-Neurons-Manipulation: int64, sorted, also where a layer has none.
        [[torch.tensor([1, 3]), torch.tensor([]).long()], [torch.tensor([]).long(), torch.tensor([7])]],
        # lang-task-neuron, by average precision and by overlap: empty layers are float32, the order is a set's.
        [[torch.tensor([3, 1]), torch.tensor([])], [torch.tensor([]), torch.tensor([7])]],
        # lang-task-neuron, by activation: flat indices less a float offset, so all are float32.
        [[torch.tensor([1, 3]) - 0.0, torch.tensor([]).long() - 8.0], [torch.tensor([]), torch.tensor([15]) - 8.0]],
    ],
    ids=["lape", "average-precision", "activated"],
)
def test_the_lists_of_published_code_are_read(tmp_path: Path, lists: Any) -> None:
    neurons = from_lape_lists(_saved(tmp_path, lists), languages=["fr", "en"], model=MODEL)
    assert neurons.id == from_json(EXPECTED, model=MODEL).id


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[torch.tensor([1]), torch.tensor([2])]], r"has 1 languages, 2 are named \(fr, en\)"),
        ([[torch.tensor([1])], [torch.tensor([1])]], "has 1 layers, made-up has 2; give the model"),
        ([[torch.tensor([8]), torch.tensor([1])]] * 2, "from 0 to 7; got 8"),
        ([[torch.tensor([1, 1]), torch.tensor([1])]] * 2, "neuron 1 is there twice"),
        ([[torch.tensor([1.5]), torch.tensor([1])]] * 2, "whole numbers"),
        ([[torch.tensor([float("nan")]), torch.tensor([1])]] * 2, "whole numbers"),
        ([[torch.tensor([True]), torch.tensor([1])]] * 2, "whole numbers"),
        ([[torch.tensor([[1]]), torch.tensor([1])]] * 2, "one dimension"),
        ([], "must be a list over languages"),
        ({"n": 9, "over_zero": torch.zeros(2, 8)}, "counts activations; give the file that the project's LAPE"),
        ([{"lang": "fra_Latn", "num": 9, "over_zero": torch.zeros(2, 8)}], "counts activations"),
        (torch.zeros(2, 5, 16), r"one tensor of values \(2 x 5 x 16\); give the lists"),
        ({0: "fra_Latn", 1: "eng_Latn"}, "names languages; give it as --languages-from"),
    ],
)
def test_other_files_are_refused_with_what_they_are(tmp_path: Path, lists: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        from_lape_lists(_saved(tmp_path, lists), languages=["fr", "en"], model=MODEL)


def test_a_language_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="named once; got fr, fr") as caught:
        from_lape_lists(_saved(tmp_path, [[torch.tensor([1])] * 2] * 2), languages=["fr", "fr"], model=MODEL)
    assert caught.value.param == "languages"
