"""`ampsweep report` of what is neither a folder nor the id of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "there is no folder nowhere; give the folder that `ampsweep run --out` wrote to"),
        ("studi", "there is no folder studi; did you mean study?"),
        ("file.parquet", "file.parquet is a file; give the folder that it is in"),
    ],
)
def test_a_missing_folder_is_named_without_asking_a_server(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study").mkdir()
    (tmp_path / "file.parquet").touch()
    result = CliRunner().invoke(app, ["report", name, "--server", "http://127.0.0.1:9"])
    assert (result.exit_code, result.stderr) == (3, f"error: {message}\n")
