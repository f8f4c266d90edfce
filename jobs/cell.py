"""Cells: one experimental condition each, the unit of scheduling, durability and reuse.

Also computes the id of a cell, which is a hash of everything that can change its answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

from ampsweep.domain.choices import Mode, Vector
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.hashing import canonical_json, text_hash
from jobs.instruction import Instruction, PromptMethod

CellMethod = Literal["neurons", Vector, PromptMethod, "repeat"]
"""How a cell differs from the unsteered baseline.

It has an intervention on neurons, a vector in the residual stream, an instruction, or only other batches.
"""


@dataclass(frozen=True, kw_only=True)
class TaskRef:
    """A task on one data language, with everything about it that can change an answer.

    Attributes:
        name: Name of the task.
        version: Version of the task's requests and scoring.
        data_language: Language of the data.
        target_language: The second language of a task that compares two (lss: the language of the other object);
            None for other tasks.
        limit: Number of items; None for all.
        split: Split of the data; None for a task without splits.
        data: Name of the data set.
        data_hash: Hash of the data that the items come from.
        mode: Whether the errors of the published code are reproduced.
        chat: Whether the model is asked through its chat template.
        measures: Pairs of a metric and its aggregation, of tasks whose metrics are known only once they are loaded.
        repairs: Pairs of a kind of repair (`jobs.data.rows.REPAIRS`) and how often the reader applied it to the data.
        shared_by: For lss: the base and the target languages that must all have a fact; if empty, the two languages of
            the cell must have it.
        plugins: Distributions, with versions, that the task and its metrics come from if they are plug-ins.
        sampling: Pairs of a field of SamplingParams and its value, where the spec differs from the task's defaults.
        chat_template_kwargs: Pairs of a variable of the chat template and its value as canonical JSON, by name.
    """

    name: str
    version: int
    data_language: str
    target_language: str | None
    limit: int | None
    split: str | None
    data: str | None
    data_hash: str
    mode: Mode = "corrected"
    chat: bool = False
    measures: tuple[tuple[str, str], ...] = ()
    repairs: tuple[tuple[str, int], ...] = ()
    shared_by: tuple[tuple[str, ...], ...] = ()
    plugins: tuple[str, ...] = ()
    sampling: tuple[tuple[str, int | float], ...] = ()
    chat_template_kwargs: tuple[tuple[str, str], ...] = ()

    @property
    def template_variables(self) -> dict[str, Any]:
        """The variables of the chat template, by name."""
        return {name: json.loads(value) for name, value in self.chat_template_kwargs}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form within that of a cell."""
        return {name: value for name, value in _fields(self).items() if value or name not in _OPTIONAL_FIELDS}

    @cached_property
    def text(self) -> str:
        """The canonical JSON of `to_dict`. Many cells share it."""
        return canonical_json(self.to_dict())

    @cached_property
    def text_in_id(self) -> str:
        """The canonical JSON that is part of a cell's id."""
        return canonical_json(
            {name: value for name, value in _fields(self).items() if value or name not in _ADDED_FIELDS}
        )


_ADDED_FIELDS = ("repairs", "shared_by", "plugins", "sampling", "chat_template_kwargs")
"""Fields added to TaskRef later: left out of a cell's id at their default, so that older ids stay valid."""
_OPTIONAL_FIELDS = ("plugins", "sampling", "chat_template_kwargs")
"""Fields of TaskRef that are left out of the JSON form at their default."""
_ADDED_TO_CELL = ("instruction", "repeat", "adapter", "identifier")
"""Fields added to Cell later: left out of its JSON form, and so of its id, at their default."""


@dataclass(frozen=True, kw_only=True)
class AdapterRef:
    """A LoRA adapter of the model: its name, which is not part of a cell's id, and the hash of its files."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One experimental condition: a task on a data language, unsteered, under an intervention, or with an instruction.

    Cells that give the same answers have the same id, also in different sweeps.

    Attributes:
        model: Name of the model; not part of the id.
        model_source: `organization/name@commit` of a model from the Hugging Face Hub; not part of the id.
        model_hash: Fingerprint of the model's files.
        engine: Kind of the engine.
        engine_version: Versions of the software that an answer depends on.
        dtype: Data type of the model's weights.
        task: The task and its data.
        neurons: The neuron set; None without an intervention.
        intervention: The intervention; None if no activation is changed.
        seed: Seed of the items and of the neurons that are drawn at random.
        instruction: An instruction to answer in a language, which every prompt begins with; None without one.
        repeat: Whether the unsteered items are asked again in another order, so that they share other batches.
        adapter: The LoRA adapter that all requests use; None for the model alone.
        identifier: Identity of the language identifier that decides which tokens are steered; None if none does.
    """

    model: str
    model_source: str | None = None
    model_hash: str
    engine: str
    engine_version: str
    dtype: str
    task: TaskRef
    neurons: NeuronsRef | None
    intervention: Intervention | None
    seed: int
    instruction: Instruction | None = None
    repeat: bool = False
    adapter: AdapterRef | None = None
    identifier: str | None = None

    @property
    def method(self) -> CellMethod | None:
        """How the cell differs from the unsteered baseline; None for the baseline itself."""
        if self.intervention is not None:
            return self.intervention.vector or "neurons"
        if self.instruction is not None:
            return self.instruction.method
        return "repeat" if self.repeat else None

    @cached_property
    def id(self) -> str:
        """`cell_` and 32 hex digits: a hash of everything that can change an answer, without names and sources."""
        content = {**self._json_form(), "neurons": self.neurons and self.neurons.id}
        del content["model"], content["model_source"]
        if self.adapter is not None:
            content["adapter"] = self.adapter.fingerprint
        return "cell_" + text_hash(_with_task(content, self.task.text_in_id))

    @property
    def resampling_seed(self) -> int:
        """Seed of the resamples and permutations of the cell's metrics: its id as a number."""
        return int(self.id.removeprefix("cell_"), 16)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `from_dict` reads."""
        return self._json_form(self.task.to_dict())

    def to_json(self) -> str:
        """Return the canonical JSON of `to_dict`."""
        return _with_task(self._json_form(), self.task.text)

    def _json_form(self, task: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON form of the cell with that of its task."""
        content = {name: value for name, value in _fields(self).items() if value or name not in _ADDED_TO_CELL}
        content["task"] = task
        if self.instruction is not None:
            content["instruction"] = _fields(self.instruction)
        if self.adapter is not None:
            content["adapter"] = _fields(self.adapter)
        content["neurons"] = None if self.neurons is None else _fields(self.neurons)
        content["intervention"] = None if self.intervention is None else self.intervention.to_dict()
        return content

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Cell:
        """Restore a cell from the JSON form that `to_dict` returned."""
        neurons, intervention, instruction = raw["neurons"], raw["intervention"], raw.get("instruction")
        adapter = raw.get("adapter")
        return cls(
            **{
                **raw,
                "task": _task(raw["task"]),
                "neurons": neurons and NeuronsRef(**{**neurons, "languages": tuple(neurons["languages"])}),
                "intervention": None if intervention is None else Intervention.restore(intervention),
                "instruction": None if instruction is None else Instruction(**instruction),
                "adapter": None if adapter is None else AdapterRef(**adapter),
            }
        )


def _with_task(content: dict[str, Any], task: str) -> str:
    """Return the canonical JSON of a cell with that of its task, whose key is the last one."""
    del content["task"]
    return f'{canonical_json(content)[:-1]},"task":{task}}}'


def _task(raw: Mapping[str, Any]) -> TaskRef:
    names = ("measures", "repairs", "shared_by", "sampling", "chat_template_kwargs")
    pairs = {name: tuple(map(tuple, raw.get(name, ()))) for name in names}
    return TaskRef(**{**raw, **pairs, "plugins": tuple(raw.get("plugins", ()))})


def _fields(value: Cell | TaskRef | NeuronsRef | Instruction | AdapterRef) -> dict[str, Any]:
    # Not dataclasses.asdict: its deep copies take seconds for the cells of a large sweep.
    return {name: getattr(value, name) for name in _FIELD_NAMES[type(value)]}


_KINDS = (Cell, TaskRef, NeuronsRef, Instruction, AdapterRef)
_FIELD_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS}
