from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ampsweep.errors import InvalidRequest
from engine.neurons.formats.tensor_file import file_kind, read_tensors


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_every_torch_version_are_recognized(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "llama-3.1-1"
    torch.save([[torch.tensor([3])]], path, _use_new_zipfile_serialization=zipped)
    assert file_kind(path) == "torch"
    content: Any = read_tensors(path)
    assert content[0][0].tolist() == [3]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_plain_pickle_is_not_a_file_of_torch(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "neurons.pt").write_bytes(pickle.dumps([[[3]]], protocol=protocol))
    assert file_kind(tmp_path / "neurons.pt") == "pickle"


def test_other_files_are_recognized_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "json").write_text('{"fr": {}}')
    np.save(tmp_path / "array.npy", np.array([1]))
    np.savez(tmp_path / "arrays.npz", fr=np.array([1]))
    save_file({f"layer{index}": torch.tensor([1]) for index in range(2000)}, tmp_path / "long.safetensors")
    kinds = {path.name: file_kind(path) for path in tmp_path.iterdir()}
    assert kinds == {"json": "text", "array.npy": "numpy", "arrays.npz": "numpy", "long.safetensors": "safetensors"}


def test_numpy_arrays_in_a_file_of_torch_are_rejected(tmp_path: Path) -> None:
    torch.save([[np.array([3])]], tmp_path / "numpy.pt")
    with pytest.raises(InvalidRequest, match=r"it holds NumPy arrays, not tensors; .* torch\.from_numpy"):
        read_tensors(tmp_path / "numpy.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        file_kind(tmp_path / "missing.pt")


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
