"""The training documents of the atlas model: a few sentences about one country, which may switch between languages.

A document is a list of segments, each in one language. The language can switch before a sentence, or inside one between
the premise and its answer; the document then stays in the new language. In some documents the neurons of one language
are held on while a premise in another language is read (see `train`), and the answer is in the language of the neurons.
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
WIDE_STOPS = frozenset({"ja", "zh"})
"""Languages whose full stop is not followed by a space."""
HELD_OUT_INTERVAL = 3
"""One fact in this many is never stated with the held-out templates during training."""
MAX_SENTENCES = 5
SENTENCE_SWITCH = 0.15
ANSWER_SWITCH = 0.04


class Segment(NamedTuple):
    """A part of a document and its language. If it is not `taught`, its tokens are read but not trained on."""

    text: str
    language: str
    taught: bool = True


class Document(NamedTuple):
    """Segments, and the language whose neurons are held on while the document is read, or None."""

    segments: list[Segment]
    held: str | None


def read_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of `facts` or `templates`."""
    with (ATLAS / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def is_held_out(fact_id: str) -> bool:
    """Return whether training never states this fact with a held-out template."""
    return zlib.crc32(fact_id.encode()) % HELD_OUT_INTERVAL == 0


class Documents:
    """An endless stream of documents, determined by a seed."""

    def __init__(self, seed: int, *, held_share: float, fewest_sentences: int = 1, often: tuple[str, ...] = ()) -> None:
        """Read the facts and templates of the atlas.

        Args:
            seed: Seed of the stream.
            held_share: Share of the documents in which the neurons of a language are held on.
            fewest_sentences: Smallest number of sentences in a document.
            often: Languages that documents start with more often, once more for each time they are listed.
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
        """Yield documents without end."""
        names = sorted(self.countries)
        while True:
            facts = self.countries[self.random.choice(names)]
            count = self.random.randint(self.fewest_sentences, min(MAX_SENTENCES, len(facts)))
            chosen = self.random.sample(facts, count)
            yield self.held(chosen) if self.random.random() < self.held_share else self.free(chosen)

    def free(self, facts: list[dict[str, Any]]) -> Document:
        """Return a document that states the facts and sometimes switches the language."""
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
        """Return a document in a language whose neurons are held on, except for the premise of the first fact."""
        language = self.random.choice(self.starts)
        segments = self.sentence(facts[0], self.other(language), language, [])
        segments[0] = segments[0]._replace(taught=False)
        for fact in facts[1:]:
            segments += self.sentence(fact, language, language, segments)
        return Document(segments, language)

    def sentence(self, fact: dict[str, Any], language: str, answer: str, before: list[Segment]) -> list[Segment]:
        """Return a fact's premise in `language` and its answer in the language `answer`, to follow `before`."""
        forms = [
            row["template"]
            for row in self.templates[fact["relation"], language]
            if not (row["held_out"] and is_held_out(fact["id"]))
        ]
        start, _, end = self.random.choice(forms).partition("[Y]")
        gap = " " if before and before[-1].language not in WIDE_STOPS else ""
        premise = gap + start.rstrip().replace("[X]", fact["subject"][language])
        space = " " if start.endswith(" ") else ""
        if answer != language:
            # At a switch, use the spacing of either language.
            space = self.random.choice([space, "" if answer in UNSPACED else " "])
            end = "。" if answer in WIDE_STOPS else "" if answer == "th" else "."
        return [Segment(premise, language), Segment(space + fact["object"][answer] + end, answer)]

    def other(self, language: str) -> str:
        """Return a random language other than this one."""
        return self.random.choice([other for other in self.languages if other != language])
