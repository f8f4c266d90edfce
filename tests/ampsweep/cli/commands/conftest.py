"""A corpus, and the neurons that the fake engine finds on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ampsweep.cli.commands.local_commands import call


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "en.txt").write_text("Hello there.\nHow are you?\n")
    (folder / "fr.txt").write_text("Bonjour.\nVous allez bien ?\n")
    return folder


@pytest.fixture
def neurons(model: Path, corpus: Path, tmp_path: Path) -> Path:
    out = tmp_path / "neurons"
    result = call("identify", "--model", model, "--corpus", corpus, "--out", out, "--engine", "fake")
    assert result.exit_code == 0, result.output
    return out
