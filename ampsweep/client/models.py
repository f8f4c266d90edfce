"""What a server answers, as frozen values. A newer server's extra fields are passed over, never refused.

Objects of which only some fields are always there are plain dicts, with types for those who read them.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict

ENDED = frozenset({"completed", "failed", "cancelled"})
"""The statuses a sweep does not leave."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class RequestCounts(_Reply):
    """Cells of a sweep: all of them, those done, those given up; of those done, how many were known before."""

    total: int
    completed: int
    failed: int
    reused: int = 0


class SweepError(_Reply):
    """What the results of an ended sweep lack; `code` is `completed_with_failures` or `sweep_failed`.

    `first_reason` is that of the first failed cell or sample; the list of sweeps does not look for it.
    """

    code: str
    message: str
    failed_cells: int = 0
    failed_samples: int = 0
    first_reason: str | None = None


class Sweep(_Reply):
    """A sweep as it stood when the server answered. Times are seconds since the epoch.

    `samples` counts the items done, `failed_samples` those among them that have an error in the place of an answer.
    `warnings` say what its results cannot show: data that was put right or is incomplete, ids that repeat.
    """

    id: str
    name: str = ""
    status: str
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
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class Event(_Reply):
    """Something that happened to a sweep; ids grow from 1."""

    id: int
    type: str
    data: dict[str, Any]


class Usage(_Reply):
    """The tokens of a completion: those read and those drawn, of all its answers together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Choice(_Reply):
    """One answer to a prompt or a chat or, in a stream, its next piece; only the last has a `finish_reason`.

    `index` says which of `n` answers it is; `logprobs` is what was asked for, in OpenAI's shape; `neuron_set` the id of
    the set that steered, None where nothing did.
    """

    index: int = 0
    text: str
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    neuron_set: str | None = None


class Completion(_Reply):
    """A continued prompt or an answered chat: `n` answers, of which `text` and `finish_reason` are the first's.

    `neuron_set` is the id of the set that steered, None where nothing did.
    """

    choices: tuple[Choice, ...]
    usage: Usage
    neuron_set: str | None = None

    @property
    def text(self) -> str:
        """The first answer."""
        return self.choices[0].text

    @property
    def finish_reason(self) -> str | None:
        """Why the first answer ended: `stop` or `length`."""
        return self.choices[0].finish_reason


class Message(TypedDict):
    """A turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Model(TypedDict):
    """A model on the server's list."""

    id: str


class Engine(TypedDict):
    """An engine of the server: the `index`-th of its model. `failures` counts its ends in a row without healthy use."""

    id: str
    model: str
    engine: str
    index: int
    state: Literal["starting", "ready", "failed"]
    error: str | None
    failures: int
    supervised: bool


class Cell(TypedDict):
    """A cell of a sweep; `rows` and `samples` count what is written and what is done of it.

    `error` says why the cell failed, `sample_error` why the first of its `failed_samples` did.
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
    """A neuron set; one that is being identified has only `id`, `status`, `error` and `warnings`.

    `languages` counts the neurons of each language, `by_layer` those in each layer; `neurons` are they themselves,
    {language: {layer: [index, ...]}}, where they were asked for.
    """

    error: str | None
    warnings: list[str]
    model: str
    method: str
    corpus: str | None
    languages: dict[str, int]
    by_layer: dict[str, list[int]]
    neurons: dict[str, dict[str, list[int]]]


class DefaultNeuronSet(TypedDict):
    """The neuron set that steers a model's requests which name none, and its `source`; both None where none does."""

    model: str
    neuron_set: str | None
    source: Literal["operator", "only_set"] | None


class Summary(TypedDict):
    """The metrics of a sweep: `rows`, one a steered cell, and `best_factors`, one a target language.

    One asked for with `partial` before the sweep's end has `partial`: how many cells are `included` of the `total`.
    """

    partial: NotRequired[dict[str, Any]]

    rows: list[dict[str, Any]]
    best_factors: list[dict[str, Any]]
