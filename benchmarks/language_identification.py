"""Measures how often language identifiers recognize sentences and short lines of the project's languages.

Reads FLORES-200 sentences, one a line, from `FOLDER/devtest/<code>.txt` (or `.txt.gz`), or from `dev` if a language has
no devtest file. The short line of a sentence is its first 5 to 10 words, or 10 to 20 characters in languages written
without spaces; the length is drawn with a fixed seed. Identifiers whose package is not installed are left out. Prints a
Markdown table of shares (whole sentences / short lines) and of the seconds that each identifier took.

Usage: python -m benchmarks.language_identification FOLDER [--identifiers py3langid,lid.176.ftz] [--limit 500]
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ampsweep.domain.languages.codes import FLORES_CODES
from ampsweep.domain.languages.identifier import LanguageIdentifier
from ampsweep.errors import AmpsweepError
from ampsweep.folders.text import read_lines
from jobs.language_control.identifiers import open_identifier

IDENTIFIERS = "py3langid,lid.176.ftz,lingua"
WITHOUT_SPACES = frozenset({"ja", "th", "zh"})
SEED = 0


def sentences(folder: Path, limit: int) -> dict[str, list[str]]:
    """Return the first sentences of each language that has a file."""
    by_language = {}
    for language, code in FLORES_CODES.items():
        paths = [folder / split / f"{code}.txt{end}" for split in ("devtest", "dev") for end in ("", ".gz")]
        if path := next((path for path in paths if path.is_file()), None):
            by_language[language] = list(read_lines(path))[:limit]
    return by_language


def short_lines(texts: Sequence[str], language: str, rng: random.Random) -> list[str]:
    """Return the beginning of each text."""
    if language in WITHOUT_SPACES:
        return [text[: rng.randint(10, 20)] for text in texts]
    return [" ".join(text.split()[: rng.randint(5, 10)]) for text in texts]


def share(identifier: LanguageIdentifier, texts: Sequence[str], language: str) -> float:
    """Return the share of texts that are identified as the language."""
    return sum(identifier.identify(text).language == language for text in texts) / len(texts)


def table(rows: Mapping[str, Mapping[str, tuple[float, float]]], seconds: Mapping[str, float]) -> str:
    """Return a Markdown table with one row for each language and one column for each identifier."""
    names = list(rows)
    lines = [f"| language | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for language in next(iter(rows.values())):
        cells = (f"{rows[name][language][0]:.3f} / {rows[name][language][1]:.3f}" for name in names)
        lines.append(f"| {language} | {' | '.join(cells)} |")
    for label, values in (
        ("mean", [f"{mean(rows[name], 0):.3f} / {mean(rows[name], 1):.3f}" for name in names]),
        ("seconds", [f"{seconds[name]:.0f}" for name in names]),
    ):
        lines.append(f"| {label} | {' | '.join(values)} |")
    return "\n".join(lines)


def mean(row: Mapping[str, tuple[float, float]], index: int) -> float:
    """Return the mean share over languages."""
    return sum(shares[index] for shares in row.values()) / len(row)


def main() -> None:
    """Measure the identifiers and print the table."""
    parser = argparse.ArgumentParser(description="Accuracy of language identification on sentences and short lines.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--identifiers", default=IDENTIFIERS)
    parser.add_argument("--limit", type=int, default=500)
    options = parser.parse_args()
    whole = sentences(options.folder, options.limit)
    if not whole:
        parser.error(f"there is no file such as {options.folder}/devtest/fra_Latn.txt")
    rng = random.Random(SEED)
    short = {language: short_lines(texts, language, rng) for language, texts in whole.items()}
    rows: dict[str, dict[str, tuple[float, float]]] = {}
    seconds: dict[str, float] = {}
    for choice in options.identifiers.split(","):
        began = time.monotonic()
        try:
            identifier = open_identifier(choice)
        except AmpsweepError as error:
            print(f"{choice} is left out: {error}")
            continue
        rows[choice] = {
            name: (share(identifier, whole[name], name), share(identifier, short[name], name)) for name in whole
        }
        seconds[choice] = time.monotonic() - began
        print(f"{choice}: {identifier.identity}", flush=True)
    print(table(rows, seconds))


if __name__ == "__main__":
    main()
