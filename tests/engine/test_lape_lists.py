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


def _saved(path: Path, value: Any) -> Path:
    torch.save(value, path / "lape.pt")
    return path / "lape.pt"


def test_the_lists_of_published_code_are_read(tmp_path: Path) -> None:
    lists = [[torch.tensor([3, 1]).long(), torch.tensor([]).long()], [torch.tensor([]), torch.tensor([7]).long()]]
    neurons = from_lape_lists(_saved(tmp_path, lists), languages=["fr", "en"], model=MODEL)
    assert neurons.id == from_json({"fr": {0: [1, 3]}, "en": {1: [7]}}, model=MODEL).id


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[torch.tensor([1]), torch.tensor([2])]], "has 1 languages"),
        ([[torch.tensor([1])], [torch.tensor([1])]], "has 1 layers; the model 2"),
        ([[torch.tensor([8]), torch.tensor([1])]] * 2, "from 0 to 7; got 8"),
        ([[torch.tensor([1, 1]), torch.tensor([1])]] * 2, "neuron 1 is there twice"),
        ([[torch.tensor([1.5]), torch.tensor([1])]] * 2, "whole numbers"),
        ([[torch.tensor([True]), torch.tensor([1])]] * 2, "whole numbers"),
        ([[torch.tensor([[1]]), torch.tensor([1])]] * 2, "one dimension"),
        ({"fr": []}, "not a list over languages"),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, lists: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        from_lape_lists(_saved(tmp_path, lists), languages=["fr", "en"], model=MODEL)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of the file was run",)


def test_code_in_the_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        from_lape_lists(_saved(tmp_path, [_Code()]), languages=["fr"], model=MODEL)
    assert "was run" not in capsys.readouterr().out


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no tensors")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        from_lape_lists(tmp_path / "text.pt", languages=["fr"], model=MODEL)
