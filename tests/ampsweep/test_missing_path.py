from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep.missing_path import is_path, no_file, no_folder


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("models/gemma", "models/.hidden", "corpus"):
        Path(folder).mkdir(parents=True)
    Path("models/notes.txt").touch()
    Path("spec.yaml").touch()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("models/gema", True),
        ("./gema", True),
        ("../gema", True),
        ("/gema", True),
        ("~/gema", True),
        ("lab/models/gema", True),
        ("gema", True),
        ("google/gemma-3-270m", False),
        ("google/gemma-3-270m@main", False),
    ],
)
def test_a_value_is_a_path_unless_it_has_the_form_of_a_hub_name(value: str, expected: bool) -> None:
    assert is_path(value) is expected


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("models/gema", "there is no folder models/gema; did you mean models/gemma?"),
        ("models/llama", "there is no folder models/llama; models has gemma"),
        ("models/notes.txt", "models/notes.txt is not a folder"),
        ("corpsu", "there is no folder corpsu; did you mean corpus?"),
        ("corpus/x", "there is no folder corpus/x"),
        ("lab/models/gema", "there is no folder lab/models/gema, since there is no folder lab"),
        ("~/gema", "there is no folder ~/gema; ~ was not expanded, write the path of your home folder"),
    ],
)
def test_the_folder_that_was_meant_is_named(path: str, message: str) -> None:
    assert no_folder(Path(path)) == message


def test_the_file_that_was_meant_is_named() -> None:
    assert no_file(Path("spec.yml")) == "there is no file spec.yml; did you mean spec.yaml?"
    assert no_file(Path("corpus")) == "corpus is not a file"
