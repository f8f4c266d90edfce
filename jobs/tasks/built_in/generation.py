"""Free generation: in which language does the model continue a text, and how repetitive is the continuation?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.languages.identifier import has_letters
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash
from jobs.cell import TaskRef
from jobs.data.texts import read_texts
from jobs.language_control.identifiers import open_identifier
from jobs.metrics.base import Metric
from jobs.metrics.fluency import LENGTH, REPETITION
from jobs.metrics.language_share import IN_DATA, IN_DATA_SCRIPT, IN_TARGET, IN_TARGET_SCRIPT
from jobs.metrics.pass_rate import IN_DATA_BY_LINE, IN_TARGET_BY_LINE
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import TextFileTask
from jobs.tasks.requests import Answer
from jobs.tasks.sampled_task import SampledTask
from jobs.tasks.scoring import failed_sample, scored_sample

NEW_TOKENS = 64
"""Maximum number of tokens of a continuation."""
IDENTIFIER = "py3langid"


class Generation(SampledTask, TextFileTask):
    """Continues each text, by default greedily; `completion` is the continuation, `prediction` its language.

    py3langid identifies the language with the model in its package; `score` is its confidence, from 0 to 1. A
    continuation without letters is in no language. A limit takes the first texts, which are the same in every
    language of an aligned corpus.
    """

    name = "generation"
    version = 3
    metrics: tuple[Metric, ...] = (
        IN_TARGET,
        IN_DATA,
        IN_TARGET_BY_LINE,
        IN_DATA_BY_LINE,
        IN_TARGET_SCRIPT,
        IN_DATA_SCRIPT,
        REPETITION,
        LENGTH,
    )
    sampling = SamplingParams(max_tokens=NEW_TOKENS)

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Complete a reference with a hash of its file and of the language identifier's version."""
        if find_spec(IDENTIFIER) is None:
            raise InvalidRequest(
                f"task {self.name} needs {IDENTIFIER}, which is not installed; run: pip install 'ampsweep[tasks]'",
                param="name",
            )
        files = super().resolve(folder, ref).data_hash
        return replace(ref, data_hash=content_hash([files, metadata.version(IDENTIFIER)], length=64))

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item for each answer to each of the first `limit` texts."""
        (path,) = self.files(folder, ref.split, ref.data_language)
        items = [
            item
            for text in read_texts(path).items[: ref.limit]
            for item in self.ask(str(text.index), text.text, ref, seed=seed)
        ]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Identify the language of the continuation."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        text = answers[0].text or ""
        if not has_letters(text):
            return scored_sample(item, answers, completion=text)
        identified = open_identifier(IDENTIFIER).identify(text.strip())
        return scored_sample(
            item, answers, completion=text, prediction=identified.language, score=identified.confidence
        )
