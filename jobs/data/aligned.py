"""Texts that are translations of each other: a file a language, a sentence a line, the same one on the same line."""

from __future__ import annotations

from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Corpus
from ampsweep.folders.text import read_lines


def split_corpus(folder: Path, split: str) -> Corpus:
    """Return the texts `<folder>/<split>/<language>.txt`, or `.txt.gz`; InvalidRequest lists the splits there are."""
    if not (folder / split).is_dir():
        there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "none"
        raise InvalidRequest(f"{folder.name} has no split {split!r}; splits there: {there}")
    return Corpus.open(folder / split)


def read_aligned(source: Path, target: Path) -> list[tuple[str, str]]:
    """Return the pairs of lines of two files; InvalidRequest where one has more than the other."""
    sources, targets = list(read_lines(source)), list(read_lines(target))
    if len(sources) != len(targets):
        raise InvalidRequest(
            f"{source.name} and {target.name} are not aligned: they have {len(sources)} and {len(targets)} lines"
        )
    return list(zip(sources, targets, strict=True))
