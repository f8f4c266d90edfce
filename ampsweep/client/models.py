"""Types of the objects in a server's responses.

Pydantic models are frozen and ignore unknown fields, so that a client works with newer servers. Objects with optional
fields are TypedDicts.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict

from ampsweep.client.display import fields_table, rows_table

ENDED = frozenset({"completed", "failed", "cancelled"})
"""The final statuses of a sweep."""


class _ResponseModel(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RequestCounts(_ResponseModel):
    """Numbers of cells of a sweep. `reused` are those among `completed` whose results existed before the sweep."""

    total: int
    completed: int
    failed: int
    reused: int = 0


COMPLETED_WITH_FAILURES = "completed_with_failures"
"""Code of the error of a sweep some of whose cells or samples failed."""


class SweepError(_ResponseModel):
    """What is missing in the results of an ended sweep; `code` is COMPLETED_WITH_FAILURES or `sweep_failed`.

    `first_reason` is the error of the first failed cell or sample.
    """

    code: str
    message: str
    failed_cells: int = 0
    failed_samples: int = 0
    first_reason: str | None = None


class SweepStage(_ResponseModel):
    """What a sweep in progress does before cells are computed.

    `name` is `waiting_for_engine` or `finding_neurons`, `text` says the same for people. `phase` and `start_seconds`
    are those of the engine (see `Engine`), `progress` is that of the neuron set (see `NeuronSet`).
    """

    name: str
    text: str
    phase: str | None = None
    start_seconds: float | None = None
    progress: dict[str, Any] | None = None


class Sweep(_ResponseModel):
    """The state of a sweep at the time of the response. Times are in seconds since the epoch.

    `samples` is the number of finished items, `failed_samples` the number of those with an error instead of an answer.
    `warnings` are about the data: what was corrected or is incomplete, ids that repeat. `tags` are in alphabetical
    order. `stage` is what it does before cells are computed; None in lists, and while they are computed.
    """

    id: str
    name: str = ""
    tags: tuple[str, ...] = ()
    status: str
    stage: SweepStage | None = None
    spec: dict[str, Any] = {}
    request_counts: RequestCounts
    created_at: float
    ended_at: float | None = None
    expired_at: float | None = None
    error: Any = None
    errors: tuple[SweepError, ...] = ()
    samples: int = 0
    failed_samples: int = 0
    priority: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether the sweep is in a final status."""
        return self.status in ENDED

    def _repr_html_(self) -> str:
        counts = self.request_counts
        reused = f", {counts.reused:,} of them reused" if counts.reused else ""
        fields = {
            "sweep": self.name,
            "id": self.id,
            "tags": ", ".join(self.tags),
            "model": self.spec.get("model"),
            "status": self.status,
            "stage": self.stage and self.stage.text,
            "cells": f"{counts.completed:,} of {counts.total:,} completed{reused}",
            "failed cells": counts.failed or None,
            "samples": f"{self.samples:,}",
            "failed samples": self.failed_samples or None,
            "errors": "; ".join(error.message for error in self.errors),
            "warnings": "; ".join(self.warnings),
        }
        return fields_table(fields)


class TaskPlan(TypedDict):
    """What the cells of one task of a sweep cost; numbers other than `cells` and `reused` are of those to compute."""

    task: str
    options: str | None
    mode: str
    cells: int
    reused: int
    items: int
    requests: int
    prompt_tokens: int | None
    max_new_tokens: int


class SweepPlan(TypedDict):
    """What a sweep would cost. Numbers other than `cells` and `reused` are of the cells that are still to be computed.

    `seconds` is None if nothing is known about the time; `seconds_from` says what it is estimated from, or why not.
    `notes` say what the numbers do not contain.
    """

    name: str
    model: str
    tasks: list[TaskPlan]
    cells: int
    reused: int
    items: int
    requests: int
    prompt_tokens: int | None
    max_new_tokens: int
    memory_bytes: int | None
    seconds: float | None
    seconds_from: str
    notes: list[str]
    warnings: list[str]


class Event(_ResponseModel):
    """An event of a sweep. Ids start at 1 and increase."""

    id: int
    type: str
    data: dict[str, Any]


class Usage(_ResponseModel):
    """Token counts of a completion: prompt tokens and generated tokens, summed over its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(_ResponseModel):
    """A choice of a completion or, in a stream, its next piece, of which only the last has a `finish_reason`.

    `index` is its index among the `n` choices. `logprobs` has OpenAI's shape. `neuron_set` is the id of the neuron set
    that steered it, None without steering. `steered_spans` are the steered ones of its tokens as pairs of the first and
    the one after the last, None unless the intervention has `when` or `part`. With `return_token_ids`, `token_ids` are
    its tokens and `prompt_token_ids`, in a stream of its first piece, those of the prompt. `prompt_logprobs` has vLLM's
    shape.
    """

    index: int = 0
    text: str
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    neuron_set: str | None = None
    steered_spans: tuple[tuple[int, int], ...] | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    prompt_logprobs: tuple[dict[str, Any] | None, ...] | None = None


class Completion(_ResponseModel):
    """A completion of a prompt or a chat, with `n` choices.

    `neuron_set` is the id of the neuron set that steered it, None without steering.
    """

    choices: tuple[Choice, ...]
    usage: Usage
    neuron_set: str | None = None

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended: `stop` or `length`."""
        return self.choices[0].finish_reason


class Tokens(_ResponseModel):
    """The tokens of a prompt, and their number.

    `token_strs`, if requested, are the tokens as they are spelled in the tokenizer's vocabulary. `max_model_len` is the
    context length of the model, in tokens.
    """

    count: int
    max_model_len: int
    tokens: tuple[int, ...]
    token_strs: tuple[str, ...] | None = None


class Model(TypedDict):
    """A model that the server offers. `adapters` are the names of its LoRA adapters.

    `supports_chat` says whether it has a chat template.

    With a `parent`, it is the name of that model with a named intervention.
    """

    id: str
    adapters: NotRequired[list[str]]
    supports_chat: NotRequired[bool]
    parent: NotRequired[str]
    intervention: NotRequired[dict[str, Any]]


class Engine(TypedDict):
    """An engine of the server. `index` counts the engines of a model; `failures` is the number of failures in a row.

    `phase` is what the start that is under way does, None without one. `start_seconds` is how long that start has been
    going on, or how long the last one took.
    """

    id: str
    model: str
    engine: str
    index: int
    state: Literal["starting", "ready", "failed"]
    phase: str | None
    start_seconds: float | None
    error: str | None
    failures: int
    supervised: bool


class Cell(TypedDict):
    """A cell of a sweep. `rows` is the number of rows written, `samples` the number of items done.

    `error` is the error of a failed cell, `sample_error` that of the first of its `failed_samples`.
    """

    id: str
    status: str
    model: str
    task: dict[str, Any]
    neurons: str | None
    intervention: dict[str, Any] | None
    attempts: int
    error: str | None
    rows: int | None
    samples: int
    failed_samples: int
    sample_error: str | None


class _NeuronSet(TypedDict):
    id: str
    status: Literal["in_progress", "completed", "failed"]


class NeuronSet(_NeuronSet, total=False):
    """A neuron set. A set that is being identified has only `id`, `status`, `error`, `progress` and `warnings`.

    `languages` holds the number of neurons of each language, `by_layer` the numbers in each of the model's
    `layers`, which have `width` neurons each; where layers differ, `width` is a list with one number for each.
    `neurons`, if requested, are the neurons: {language: {layer: [index, ...]}}.
    """

    error: str | None
    progress: dict[str, Any] | None
    warnings: list[str]
    model: str
    method: str
    corpus: str | None
    layers: int
    width: int | list[int]
    languages: dict[str, int]
    by_layer: dict[str, list[int]]
    neurons: dict[str, dict[str, list[int]]]


class DefaultNeuronSet(TypedDict):
    """The neuron set used for requests that name none, and why (`source`); both None if such requests are rejected."""

    model: str
    neuron_set: str | None
    source: Literal["operator", "only_set"] | None


class Evaluation(TypedDict):
    """An evaluation of a sweep's texts. Times are in seconds since the epoch.

    `status` is `queued`, `in_progress`, `completed`, `failed`, or `cancelled` with its sweep. `groups` has the values
    of each group once it is completed, `left_out` the number of rows that lack a text, a language or another value that
    is needed. `error` says why it failed, or why a queued one was last interrupted.
    """

    id: str
    sweep_id: str
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled"]
    request: dict[str, Any]
    groups: list[dict[str, Any]] | None
    left_out: int | None
    error: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None


class Summary(TypedDict):
    """The metrics of a sweep: `rows`, one per steered cell, and `best_factors`, one per target language and edit.

    An entry of `best_factors` has the `factor` and its mean `value`, the other factors that are equally good (`tied`),
    those with values in fewer data languages (`incomplete`), and what decided between them (`decided_by`: the metric,
    `control`, `gain` or `factor`).

    A partial summary has `partial`: how many cells of the `total` are `included`. A notebook displays a summary as its
    best factors and the first of its rows.
    """

    partial: NotRequired[dict[str, Any]]

    rows: list[dict[str, Any]]
    best_factors: list[dict[str, Any]]


class SummaryDict(dict[str, Any]):
    """The dict of a `Summary`, as a notebook displays it."""

    ROWS = 20

    def _repr_html_(self) -> str:
        partial = self.get("partial")
        notice = f"<p>Partial: {partial['included']} of {partial['total']} cells</p>" if partial else ""
        best = rows_table(self["best_factors"], limit=self.ROWS)
        return f"{notice}<p>best_factors</p>{best}<p>rows</p>{rows_table(self['rows'], limit=self.ROWS)}"
