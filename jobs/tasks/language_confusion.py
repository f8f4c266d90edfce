"""The Language Confusion Benchmark (Marchisio et al. 2024): does the model answer in the wanted language?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash, files_hash
from jobs.cell import TaskRef
from jobs.data.language_files import TEXT_SUFFIXES, language_files
from jobs.data.texts import Text, read_texts, subfolders
from jobs.language_control.identifiers import open_identifier
from jobs.metrics.base import Metric
from jobs.metrics.fluency import LENGTH, REPETITION
from jobs.metrics.line_pass_rate import IDENTIFIER, LPR, TARGET_LPR
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import FileTask
from jobs.tasks.requests import Answer, GenerateCall
from jobs.tasks.scoring import failed_sample, scored_sample

NEW_TOKENS = 100
TEMPERATURE = 0.3
TOP_P = 0.75
"""Sampling parameters of the benchmark."""


class LanguageConfusion(FileTask):
    """Samples one answer to each prompt as published: 100 tokens, temperature 0.3, top-p 0.75.

    The data has a folder for each setting, which is the split: `monolingual` (a prompt in the language of the answer)
    or `crosslingual` (an English prompt that asks for an answer in the language). In it are folders by source
    (`okapi`, `aya`, ...), each with a file for each language, or the files themselves. `doc_id` is the source with the
    number of the line. `prediction` is the language of the whole answer. A limit takes prompts of all sources in turn.

    Each prompt has its own seed, derived from the sweep's seed and `doc_id`, so that a cell gives the same answers
    again and a steered answer is sampled with the random numbers of the baseline's.
    """

    name = "language_confusion"
    version = 1
    metrics: tuple[Metric, ...] = (LPR, TARGET_LPR, REPETITION, LENGTH)
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
        """Return a reference with the hash of its files, their sources, and the language identifier."""
        identity = open_identifier(IDENTIFIER).identity
        sources = {
            source: files_hash([path]) for source, path in self._files(folder, ref.split, ref.data_language).items()
        }
        repairs = tuple(sorted(self.repairs(folder, ref).items()))
        return replace(ref, data_hash=content_hash([sources, identity], length=64), repairs=repairs)

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how many blank lines the reader leaves out."""
        counts: dict[str, int] = {}
        for path in self.files(folder, ref.split, ref.data_language):
            for kind, count in read_texts(path).repairs.items():
                counts[kind] = counts.get(kind, 0) + count
        return counts

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each prompt, taking one from each source in turn."""
        sources = [
            [(source, text) for text in read_texts(path).items]
            for source, path in self._files(folder, ref.split, ref.data_language).items()
        ]
        prompts = [prompt for turn in zip_longest(*sources) for prompt in turn if prompt is not None]
        return ItemSet(items=tuple(_item(*prompt, seed=seed) for prompt in prompts[: ref.limit]), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Identify the language of the answer."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        text = answers[0].text or ""
        if not text.strip():
            return scored_sample(item, answers, completion=text)
        identification = open_identifier(IDENTIFIER).identify(text)
        return scored_sample(
            item, answers, completion=text, prediction=identification.language, score=identification.confidence
        )

    def _files(self, folder: Path, split: str | None, language: str) -> dict[str, Path]:
        return {
            source: files[language] for source, files in self._by_source(folder, split).items() if language in files
        }

    def _by_source(self, folder: Path, split: str | None) -> dict[str, dict[str, Path]]:
        """Return the files of a split, by source and language."""
        root = folder / (split or self.default_split)
        if not root.is_dir():
            splits = ", ".join(path.name for path in subfolders(folder)) or "none"
            raise InvalidRequest(f"{folder.name} has no folder {root.name!r}; folders there: {splits}")
        return {path.name: language_files(path, suffixes=TEXT_SUFFIXES) for path in subfolders(root) or [root]}


def _item(source: str, text: Text, *, seed: int) -> Item:
    doc_id = f"{source}/{text.index}"
    call = GenerateCall(
        prompt=text.text,
        max_tokens=NEW_TOKENS,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        seed=int(content_hash([seed, doc_id], length=12), 16),
    )
    return Item(doc_id=doc_id, calls=(call,))
