"""The headers of weight files, whole and damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from ampsweep.folders.weights import INDEX, check_weight_files, read_header

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_with(path: Path, header: bytes, *, length: int | None = None, data: bytes = b"01234567") -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


def test_a_header_gives_where_each_tensor_is(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": TENSOR}).encode()
    assert read_header(file_with(tmp_path / "model.safetensors", header)) == (8 + len(header), {"a": TENSOR})
    assert read_header(file_with(tmp_path / "empty.safetensors", b"{}", data=b"")) == (10, {})


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [2]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": null}}',
    ],
)
def test_a_damaged_header_is_an_error_about_the_model(header: bytes, tmp_path: Path) -> None:
    path = file_with(tmp_path / "model.safetensors", header)
    with pytest.raises(
        InvalidRequest, match=r"model\.safetensors is not a safetensors file, or is truncated"
    ) as caught:
        read_header(path)
    assert caught.value.param == "model"


def test_a_header_that_claims_most_of_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = file_with(tmp_path / "model.safetensors", b"{}", length=150_000_000)
    with path.open("r+b") as file:
        file.truncate(200_000_000)  # sparse
    with pytest.raises(InvalidRequest, match="is not a safetensors file"):
        read_header(path)


@pytest.mark.parametrize("index", ["[]", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": null}'])
def test_a_damaged_index_is_an_error_about_the_model(index: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(InvalidRequest, match=INDEX) as caught:
        check_weight_files(tmp_path)
    assert caught.value.param == "model"
