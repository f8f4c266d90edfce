"""The Language Confusion Benchmark (Marchisio et al. 2024): does the model answer in the wanted language?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, zip_longest
from pathlib import Path

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.languages.identifier import has_letters
from ampsweep.errors import InvalidRequest
from ampsweep.folders.text import read_lines
from ampsweep.hashing import cached_hash, content_hash, files_hash
from jobs.cell import TaskRef
from jobs.data.language_files import TEXT_SUFFIXES, language_files
from jobs.data.texts import read_texts, subfolders
from jobs.language_control.identifiers import open_identifier
from jobs.language_control.language_confusion import WORD_LANGUAGES, english_word_list, english_words_by_language
from jobs.language_control.words import require_word_splitter
from jobs.metrics.base import Metric
from jobs.metrics.fluency import LENGTH, REPETITION
from jobs.metrics.pass_rate import (
    ENGLISH_WORDS,
    IDENTIFIER,
    LCPR,
    LPR,
    TARGET_LCPR,
    TARGET_LPR,
    TARGET_WPR,
    WPR,
)
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.requests import Answer
from jobs.tasks.sampled_task import SampledTask
from jobs.tasks.scoring import failed_sample, scored_sample

WORD_LIST = "english_words.txt"
"""A file in the data set's folder with one English word a line, for the word pass rate."""


class LanguageConfusion(SampledTask):
    """Samples one answer to each prompt, by default as published: 100 tokens, temperature 0.3, top-p 0.75.

    The data has a folder for each setting, which is the split: `monolingual` (a prompt in the language of the answer)
    or `crosslingual` (an English prompt that asks for an answer in the language). In it are folders by source
    (`okapi`, `aya`, ...), each with a file for each language, or the files themselves. `doc_id` is the source with the
    number of the line. `prediction` is the language of the whole answer. A limit takes prompts of all sources in turn.

    Word pass rates need a list of English words in the data set's folder, `english_words.txt`. The words of the list
    that an answer contains are stored in `measures`.
    """

    name = "language_confusion"
    version = 2
    metrics: tuple[Metric, ...] = (
        LPR,
        WPR,
        LCPR,
        TARGET_LPR,
        TARGET_WPR,
        TARGET_LCPR,
        REPETITION,
        LENGTH,
    )
    sampling = SamplingParams(max_tokens=100, temperature=0.3, top_p=0.75)
    needs_target_language = False
    default_data = "lcb"
    default_split = "monolingual"

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that a source has prompts for."""
        return frozenset(chain.from_iterable(self._by_source(folder, split).values()))

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the language's file of each source that has one."""
        return list(self._files(folder, split, language).values())

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with the hash of its files, their sources, the word list, and the language identifier."""
        identity = open_identifier(IDENTIFIER).identity
        sources = {
            source: files_hash([path]) for source, path in self._files(folder, ref.split, ref.data_language).items()
        }
        repairs = tuple(sorted(self.repairs(folder, ref).items()))
        word_list = [files_hash([folder / WORD_LIST])] if _read_word_list(folder) is not None else []
        for language in WORD_LANGUAGES if word_list else ():
            require_word_splitter(language)
        return replace(ref, data_hash=content_hash([sources, identity, *word_list], length=64), repairs=repairs)

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how many blank lines the reader leaves out."""
        counts: dict[str, int] = {}
        for path in self.files(folder, ref.split, ref.data_language):
            for kind, count in read_texts(path).repairs.items():
                counts[kind] = counts.get(kind, 0) + count
        return counts

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item for each answer to each prompt, taking one prompt from each source in turn."""
        sources = [
            [(source, text) for text in read_texts(path).items]
            for source, path in self._files(folder, ref.split, ref.data_language).items()
        ]
        prompts = [prompt for row in zip_longest(*sources) for prompt in row if prompt is not None]
        meta = {ENGLISH_WORDS: _read_word_list(folder)}
        items = [
            item
            for source, text in prompts[: ref.limit]
            for item in self.ask(f"{source}/{text.index}", text.text, ref, seed=seed, meta=meta)
        ]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Identify the language of the answer, and find its English words."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        text = answers[0].text or ""
        columns: dict[str, object] = {"completion": text, "measures": _measures(text, item.meta.get(ENGLISH_WORDS))}
        if has_letters(text):
            identification = open_identifier(IDENTIFIER).identify(text)
            columns |= {"prediction": identification.language, "score": identification.confidence}
        return scored_sample(item, answers, **columns)

    def _files(self, folder: Path, split: str | None, language: str) -> dict[str, Path]:
        return {
            source: files[language] for source, files in self._by_source(folder, split).items() if language in files
        }

    def _by_source(self, folder: Path, split: str | None) -> dict[str, dict[str, Path]]:
        """Return the files of a split, by source and language."""
        split, splits = split or self.default_split, {path.name: path for path in subfolders(folder)}
        if split not in splits:
            raise InvalidRequest(f"{folder.name} has no folder {split!r}; folders there: {', '.join(splits) or 'none'}")
        sources = subfolders(splits[split]) or [splits[split]]
        return {path.name: language_files(path, suffixes=TEXT_SUFFIXES) for path in sources}


def _measures(answer: str, english_words: frozenset[str] | None) -> str | None:
    if english_words is None:
        return None
    return json.dumps({ENGLISH_WORDS: english_words_by_language(answer, english_words)}, ensure_ascii=False)


def _read_word_list(folder: Path) -> frozenset[str] | None:
    """Return the list of English words in a data set's folder; None if it has none."""
    path = folder / WORD_LIST
    return _read_words(path, cached_hash(path)) if path.is_file() else None


@lru_cache(maxsize=4)
def _read_words(path: Path, _hash: str) -> frozenset[str]:
    words = english_word_list("\n".join(read_lines(path)))
    if not words:
        raise InvalidRequest(f"{path.name} has no lower-case word of more than three letters; give one word a line")
    return words
