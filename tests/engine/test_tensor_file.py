from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ampsweep.errors import InvalidRequest
from engine.tensor_file import is_tensor_file, read_tensors


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_every_torch_are_known_by_their_content(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "llama-3.1-1"
    torch.save([[torch.tensor([3])]], path, _use_new_zipfile_serialization=zipped)
    assert is_tensor_file(path)
    content: Any = read_tensors(path)
    assert content[0][0].tolist() == [3]


def test_text_is_none(tmp_path: Path) -> None:
    (tmp_path / "neurons.pt").write_text('{"fr": {}}')
    assert not is_tensor_file(tmp_path / "neurons.pt")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        is_tensor_file(tmp_path / "missing.pt")


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of the file was run",)


def test_code_in_the_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save([_Code()], tmp_path / "code.pt")
    with pytest.raises(InvalidRequest, match="would run code") as caught:
        read_tensors(tmp_path / "code.pt")
    assert "weights_only" not in caught.value.message
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"PK\x03\x04 no archive", b"\x80\x02 no pickle", b"\x80\x02((.", b""])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"damaged\.pt cannot be read as plain tensors"):
        read_tensors(tmp_path / "damaged.pt")
