"""Interface of a task: turns data into items, and the answers of a model into samples.

Knows neither engines nor sweeps. `jobs.tasks.file_task` has what tasks over files share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jobs.cell import TaskRef
from jobs.metrics.base import Metric
from jobs.sample import Sample
from jobs.tasks.requests import Answer, Call


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question: the calls to make, and in `meta` what the task needs to score the answers.

    An item that cannot be asked has no calls and an `error` that says why. It becomes a failed sample. A prompt that is
    answered several times has an item for each answer, with the same `doc_id` and the number of the `answer`, from 0.
    """

    doc_id: str
    calls: tuple[Call, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    answer: int | None = None


@dataclass(frozen=True, kw_only=True)
class ItemSet:
    """The items of a cell. `left_out` counts the rows of the data that the task cannot ask about."""

    items: tuple[Item, ...]
    left_out: int


class Task(Protocol):
    """Turns data into items, and the answers to an item into one scored sample.

    A task holds no state. In every method, `folder` is the folder of the data set that the `TaskRef` names.

    Example:
        A task whose data is a file a language needs `items` and `sample` only; `docs/bring-a-task.md` has it in full.

        >>> class YesNo(LanguageFileTask):
        ...     name, version, default_data = "yes_no", 1, "yes_no"
        ...     metrics = (metric_for("accuracy"),)
        ...
        ...     def items(self, folder, ref, *, seed):
        ...         (path,) = self.files(folder, ref.split, ref.data_language)
        ...         rows = read_rows(path)[: ref.limit]
        ...         return ItemSet(items=tuple(make_item(row) for row in rows), left_out=0)
        ...
        ...     def sample(self, item, answers):
        ...         return choose_likeliest(item, answers, label=item.meta["label"])
    """

    @property
    def name(self) -> str:
        """The name in a spec."""
        ...

    @property
    def version(self) -> int:
        """A number that grows with every change to what is asked or how it is scored. It is part of a cell's id."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of a cell's samples; each makes one row of the summary."""
        ...

    @property
    def needs_target_language(self) -> bool:
        """Whether a cell needs a second language (`TaskRef.target_language`), the one that is steered to."""
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
        """The data set to use if the spec names none."""
        ...

    @property
    def default_split(self) -> str | None:
        """The split to use if the spec names none; None for a task without splits."""
        ...

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that the data has; raise InvalidRequest if there is no data."""
        ...

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Complete a reference with what only the data can tell, such as the hash of all that its items come from."""
        ...

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return the plan's warnings about the data.

        Args:
            folder: The data set.
            refs: The references that one task of a spec makes, in their order.
        """
        ...

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make a cell's items.

        Args:
            folder: The data set.
            ref: Which language, split and how many items.
            seed: The seed of the sweep, for items that are drawn at random.

        Returns:
            The same items for the same arguments.
        """
        ...

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Score the answers to an item.

        Args:
            item: One of the items that `items` made.
            answers: One answer for each of the item's calls, in their order.

        Returns:
            A sample; a failed one if any answer failed.
        """
        ...
