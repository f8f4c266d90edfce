"""Documents the atlas model is trained on: a few sentences about one country, which may change language on the way.

A document is a list of segments, each with the language it is in. Language changes at two places: before a sentence,
and inside one, between the premise and its answer; from there on the document stays in the new language. In some
documents the neurons of a language are held on while a premise in another one is read (see ``train``): there the answer
is in the language of the neurons.
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
# Their full stop needs no space after it.
STOPPED_WIDE = frozenset({"ja", "zh"})
# One fact in so many is never told through the held-out templates during training.
HELD_OUT_SHARE = 3
MAX_SENTENCES = 5
SENTENCE_SWITCH = 0.15
ANSWER_SWITCH = 0.04


class Segment(NamedTuple):
    """A piece of a document and its language; nothing is learnt from one that is not taught, it is only read."""

    text: str
    language: str
    taught: bool = True


class Document(NamedTuple):
    """Segments, and the language whose neurons are held on while the document is read, if any are."""

    segments: list[Segment]
    held: str | None


def read_rows(name: str) -> list[dict[str, Any]]:
    """Rows of ``facts`` or ``templates``."""
    with (ATLAS / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def is_held_out(fact_id: str) -> bool:
    """Whether training never tells this fact through a held-out template."""
    return zlib.crc32(fact_id.encode()) % HELD_OUT_SHARE == 0


class Documents:
    """An endless stream of documents, decided by one seed."""

    def __init__(self, seed: int, *, held_share: float, fewest_sentences: int = 1, often: tuple[str, ...] = ()) -> None:
        """Read the atlas' facts and templates.

        ``held_share`` of the documents have a language held on; the languages in ``often`` start that much oftener.
        """
        self.random = random.Random(seed)
        self.held_share = held_share
        self.fewest_sentences = fewest_sentences
        self.countries: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for fact in read_rows("facts"):
            self.countries[fact["id"].partition("-")[2]].append(fact)
        self.templates: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in read_rows("templates"):
            self.templates[row["relation"], row["language"]].append(row)
        self.languages = sorted({language for _, language in self.templates})
        self.starts = [*self.languages, *often]

    def __iter__(self) -> Iterator[Document]:
        """Documents without end."""
        names = sorted(self.countries)
        while True:
            facts = self.countries[self.random.choice(names)]
            count = self.random.randint(self.fewest_sentences, min(MAX_SENTENCES, len(facts)))
            chosen = self.random.sample(facts, count)
            yield self.held(chosen) if self.random.random() < self.held_share else self.free(chosen)

    def free(self, facts: list[dict[str, Any]]) -> Document:
        """These facts as they are told, the language changing now and then."""
        language = self.random.choice(self.starts)
        segments: list[Segment] = []
        for fact in facts:
            if segments and self.random.random() < SENTENCE_SWITCH:
                language = self.other(language)
            answer = self.other(language) if self.random.random() < ANSWER_SWITCH else language
            segments += self.sentence(fact, language, answer, segments)
            language = answer
        return Document(segments, None)

    def held(self, facts: list[dict[str, Any]]) -> Document:
        """These facts in a language whose neurons are held on, after the premise of the first in another language."""
        language = self.random.choice(self.starts)
        segments = self.sentence(facts[0], self.other(language), language, [])
        segments[0] = segments[0]._replace(taught=False)
        for fact in facts[1:]:
            segments += self.sentence(fact, language, language, segments)
        return Document(segments, language)

    def sentence(self, fact: dict[str, Any], language: str, answer: str, before: list[Segment]) -> list[Segment]:
        """A fact's premise in one language and its answer in the same or another."""
        forms = [
            row["template"]
            for row in self.templates[fact["relation"], language]
            if not (row["held_out"] and is_held_out(fact["id"]))
        ]
        start, _, end = self.random.choice(forms).partition("[Y]")
        gap = " " if before and before[-1].language not in STOPPED_WIDE else ""
        premise = gap + start.rstrip().replace("[X]", fact["subject"][language])
        space = " " if start.endswith(" ") else ""
        if answer != language:
            # Both habits are met: that of the language left and that of the language entered.
            space = self.random.choice([space, "" if answer in UNSPACED else " "])
            end = "。" if answer in STOPPED_WIDE else "" if answer == "th" else "."
        return [Segment(premise, language), Segment(space + fact["object"][answer] + end, answer)]

    def other(self, language: str) -> str:
        """Another language than this."""
        return self.random.choice([other for other in self.languages if other != language])
