"""Interface of a task: turns data into items, and the answers of a model into samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ampsweep.folders.file_hashes import files_hash
from jobs.cell import TaskRef
from jobs.data.rows import REPAIRS
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.requests import Answer, Call


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question: the calls to make, and in `meta` what its task needs to score the answers.

    One that cannot be asked has no calls, and says in `error` why: it becomes a failed sample.
    """

    doc_id: str
    calls: tuple[Call, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ItemSet:
    """The items of a cell, and how many of the data's were left out because the task says nothing about them."""

    items: tuple[Item, ...]
    left_out: int


class Task(Protocol):
    """A way to ask and to score. It holds no state; `folder` is that of the data set a TaskRef names.

    `version` is part of a cell's id: it grows with every change to what is asked or how it is scored.
    `needs_target_language` says that a cell needs a second language (`TaskRef.target_language`), the one being steered
    to. `supports_chat` says that there is something to ask in a chat.
    """

    @property
    def name(self) -> str:
        """The name in a spec."""
        ...

    @property
    def version(self) -> int:
        """Grows with every change to what is asked or how it is scored."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """How a cell's samples become numbers, each of them a row of the summary."""
        ...

    @property
    def needs_target_language(self) -> bool:
        """Whether a cell needs a second language."""
        ...

    @property
    def supports_chat(self) -> bool:
        """Whether the model can be asked through its chat template."""
        ...

    @property
    def limit_draws(self) -> bool:
        """Whether a `limit` draws items at random with the sweep's seed; otherwise it takes the first ones."""
        ...

    @property
    def default_data(self) -> str:
        """The data set where the spec names none."""
        ...

    @property
    def default_split(self) -> str | None:
        """The split where the spec names none; None for a task without splits."""
        ...

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages the data has; InvalidRequest where it is not there."""
        ...

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with what only the data can tell, the hash of all that its items come from."""
        ...

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return what a plan says of the data behind the references that one entry of a spec makes, in this order."""
        ...

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make a cell's items, the same ones at every call."""
        ...

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Score the answers to an item, one for each of its calls; one failed answer makes a failed sample."""
        ...


class FileTask(ABC):
    """What tasks have in common whose items come from files that can be named."""

    supports_chat = True
    limit_draws = False

    @abstractmethod
    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the files that the items of a language come from."""

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with the hash of its files' names and bytes, and what the reader did to the data."""
        files = files_hash(self.files(folder, ref.split, ref.data_language))
        return replace(ref, data_hash=files, repairs=tuple(sorted(self.repairs(folder, ref).items())))

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return what the reader does to the data of a reference, by kind (`jobs.data.rows.REPAIRS`)."""
        del folder, ref
        return {}

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return what the reader did to the data, by language."""
        del folder
        told = (
            f"{ref.name} {ref.data_language}: {REPAIRS[kind].format(count=count)}"
            for ref in refs
            for kind, count in ref.repairs
        )
        return list(dict.fromkeys(told))


def scored(item: Item, answers: Sequence[Answer], **verdict: Any) -> Sample:
    """Return a sample of scored calls, its tokens and their log-probabilities call after call."""
    joins = [answer.spanned_join for answer in answers if answer.spanned_join is not None]
    return Sample(
        doc_id=item.doc_id,
        logprobs=tuple(value for answer in answers for value in answer.logprobs),
        call_tokens=tuple(len(answer.logprobs) for answer in answers),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(len(answer.logprobs) for answer in answers),
        spanned_join=any(joins) if joins else None,
        **verdict,
    )


def failed(item: Item, answers: Sequence[Answer]) -> Sample | None:
    """Return a failed sample if the item could not be asked, an answer failed, or one has no tokens to judge by."""
    if item.error is not None:
        return Sample(doc_id=item.doc_id, error=item.error)
    for answer in answers:
        if answer.error is not None or not answer.logprobs:
            return Sample(doc_id=item.doc_id, error=answer.error or "no tokens came back")
    return None
