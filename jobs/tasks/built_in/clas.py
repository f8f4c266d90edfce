"""CLaS-Bench (Gurgurov et al. 2026, arXiv 2601.08331): does a steered model answer in the language it is steered to?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.hashing import content_hash
from jobs.cell import TaskRef
from jobs.data.questions import question_files, read_questions
from jobs.language_control.identifiers import DEFAULT, open_identifier
from jobs.metrics.base import Metric
from jobs.metrics.fluency import LENGTH, REPETITION
from jobs.metrics.language_share import IN_DATA, IN_TARGET_SCRIPT, LFS
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.requests import Answer
from jobs.tasks.sampled_task import SampledTask
from jobs.tasks.scoring import failed_sample, scored_sample


class Clas(SampledTask):
    """Each question is answered as published: greedily, with at most 1,024 tokens. `prediction` is its language.

    The data language is that of the question, the target language the one that is steered to: every data language is
    combined with every target language of the sweep. Questions come from a file for each language, or from one table
    (`jobs.data.questions`). A limit takes the first questions, which are the same in every language of parallel data.
    """

    name = "clas"
    version = 2
    metrics: tuple[Metric, ...] = (LFS, IN_DATA, IN_TARGET_SCRIPT, REPETITION, LENGTH)
    sampling = SamplingParams(max_tokens=1024)
    needs_target_language = False
    default_data = "clas"
    default_split = None

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have questions."""
        del split
        return frozenset(question_files(folder))

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the file with the questions of a language."""
        del split
        return [question_files(folder)[language]]

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with the hash of its file, and of what identifies languages."""
        resolved = super().resolve(folder, ref)
        identity = open_identifier(DEFAULT).identity
        return replace(resolved, data_hash=content_hash([resolved.data_hash, identity], length=64))

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the questions."""
        return read_questions(folder, ref.data_language).repairs

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return the reader's repairs, and a warning where the chat template is not used."""
        warnings = super().warnings(folder, refs)
        if any(not ref.chat for ref in refs):
            warnings.append(f"{self.name} asks without the chat template; give chat: true to ask as published")
        return warnings

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item for each answer to each of the first `limit` questions."""
        items = [
            item
            for question in read_questions(folder, ref.data_language).items[: ref.limit]
            for item in self.ask(str(question.index), question.text, ref, seed=seed)
        ]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Identify the language of the whole answer."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        text = answers[0].text or ""
        identification = open_identifier(DEFAULT).identify(text)
        return scored_sample(
            item, answers, completion=text, prediction=identification.language, score=identification.confidence
        )
