"""The tutorial: every command works, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.shell import run_page

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

PAGE = DOCS / "tutorial.md"


def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    printed = run_page(PAGE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "which Git ignores"
    folder = tmp_path / "out" / "tutorial"
    rows = pq.read_table(folder / "study" / "summary.parquet").to_pylist()
    assert {row["task"] for row in rows} == {"lss", "perplexity"}
    assert r"\begin{tabular}" in (folder / "tables" / "self_cross.tex").read_text()
    assert "<html" in (folder / "study.html").read_text()
    shown = {_without_numbers(line) for block in blocks(PAGE, "text") for line in block.text.splitlines()}
    assert shown - {_without_numbers(line) for line in printed.splitlines()} == set()


def _without_numbers(line: str) -> str:
    """The last digits differ between processors, and so may a fact of a random control."""
    return re.sub(r"[\d.]+", "#", line)
