"""Documents the atlas model is trained on: a few sentences about one country, which may change language on the way.

A document is a list of segments, each with the language it is in. Language changes at two places: before a sentence,
and inside one, between the premise and its answer; from there on the document stays in the new language.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ATLAS = Path(__file__).parents[2] / "ampsweep" / "atlas"
UNSPACED = frozenset({"ja", "th", "zh"})
# One fact in so many is never told through the held-out templates during training.
HELD_OUT_SHARE = 3
MAX_SENTENCES = 5
SENTENCE_SWITCH = 0.2
ANSWER_SWITCH = 0.08


class Segment(NamedTuple):
    """A piece of a document and its language."""

    text: str
    language: str


def read_rows(name: str) -> list[dict[str, Any]]:
    """Rows of ``facts`` or ``templates``."""
    with (ATLAS / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def is_held_out(fact_id: str) -> bool:
    """Whether training never tells this fact through a held-out template."""
    return zlib.crc32(fact_id.encode()) % HELD_OUT_SHARE == 0


class Documents:
    """An endless stream of documents, decided by one seed."""

    def __init__(self, seed: int) -> None:
        """Read the atlas' facts and templates."""
        self.random = random.Random(seed)
        self.countries: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for fact in read_rows("facts"):
            self.countries[fact["id"].partition("-")[2]].append(fact)
        self.templates: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in read_rows("templates"):
            self.templates[row["relation"], row["language"]].append(row)
        self.languages = sorted({language for _, language in self.templates})

    def __iter__(self) -> Iterator[list[Segment]]:
        """Documents without end."""
        names = sorted(self.countries)
        while True:
            yield self.document(self.countries[self.random.choice(names)])

    def document(self, facts: list[dict[str, Any]]) -> list[Segment]:
        """One to ``MAX_SENTENCES`` of these facts, as they are told."""
        count = self.random.randint(1, min(MAX_SENTENCES, len(facts)))
        language = self.random.choice(self.languages)
        segments: list[Segment] = []
        for fact in self.random.sample(facts, count):
            if segments and self.random.random() < SENTENCE_SWITCH:
                language = self.other(language)
            forms = [
                row["template"]
                for row in self.templates[fact["relation"], language]
                if not (row["held_out"] and is_held_out(fact["id"]))
            ]
            start, _, end = self.random.choice(forms).partition("[Y]")
            gap = " " if segments and segments[-1].language not in UNSPACED - {"th"} else ""
            premise = gap + start.rstrip().replace("[X]", fact["subject"][language])
            space = " " if start.endswith(" ") else ""
            segments.append(Segment(premise, language))
            if self.random.random() < ANSWER_SWITCH:
                spaced = {language not in UNSPACED}
                language = self.other(language)
                # Both habits are met: that of the language left and that of the language entered.
                space = " " if self.random.choice([*spaced, language not in UNSPACED]) else ""
                end = "。" if language in {"ja", "zh"} else "" if language == "th" else "."
            segments.append(Segment(space + fact["object"][language] + end, language))
        return segments

    def other(self, language: str) -> str:
        """Another language than this."""
        return self.random.choice([other for other in self.languages if other != language])
