"""Free generation: which language does the model go on in, and is it still text?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash
from jobs.cell import TaskRef
from jobs.data.texts import read_texts, text_files
from jobs.metrics.base import Metric
from jobs.metrics.fluency import LENGTH, REPETITION
from jobs.metrics.language_share import IN_DATA, IN_TARGET
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import FileTask
from jobs.tasks.requests import Answer, GenerateCall
from jobs.tasks.scoring import failed_sample, scored_sample

NEW_TOKENS = 64
"""Tokens of a continuation, at most."""
IDENTIFIER = "py3langid"


class Generation(FileTask):
    """Each text is gone on from, greedily; `completion` is what came, `prediction` the language it is in.

    Languages are told apart by py3langid, whose model lies in its package; `score` is how sure it is, from 0 to 1. A
    continuation of white space alone is in none. A limit takes the first texts, which are the same in every language
    of an aligned corpus.
    """

    name = "generation"
    version = 2
    metrics: tuple[Metric, ...] = (IN_TARGET, IN_DATA, REPETITION, LENGTH)
    needs_target_language = False
    default_data = "flores200"
    default_split = "devtest"

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have a file of the split."""
        return frozenset(text_files(folder, split or self.default_split, default=self.default_split))

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the file of a language."""
        return [text_files(folder, split or self.default_split, default=self.default_split)[language]]

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with the hash of its file, and of what tells languages apart."""
        if find_spec(IDENTIFIER) is None:
            raise InvalidRequest(
                f"task {self.name} needs {IDENTIFIER}, which is not installed; run: pip install 'ampsweep[tasks]'",
                param="name",
            )
        files = super().resolve(folder, ref).data_hash
        return replace(ref, data_hash=content_hash([files, metadata.version(IDENTIFIER)], length=64))

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the texts."""
        (path,) = self.files(folder, ref.split, ref.data_language)
        return read_texts(path).repairs

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` texts."""
        del seed
        (path,) = self.files(folder, ref.split, ref.data_language)
        items = [
            Item(doc_id=str(text.at), calls=(GenerateCall(prompt=text.text, max_tokens=NEW_TOKENS),))
            for text in read_texts(path).items[: ref.limit]
        ]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Tell which language a continuation is in."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        text = answers[0].text or ""
        if not text.strip():
            return scored_sample(item, answers, completion=text)
        language, sure = _identifier().classify(text.strip())
        return scored_sample(item, answers, completion=text, prediction=language, score=float(sure))


@lru_cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
