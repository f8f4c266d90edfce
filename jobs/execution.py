"""Protocols between the HTTP layer and the execution layer; the worker implements them, the command line wires them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ampsweep.domain.capture import CapturedText, CaptureSelection
from ampsweep.domain.choices import CaptureDtype
from ampsweep.domain.generation.chunk import Chunk
from ampsweep.domain.generation.prompt import Prompt, PromptOptions, PromptTokens, TokenIds, Tool
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.generation.tool_calls import ToolParsing
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from ampsweep.domain.neurons.recording_progress import RecordingProgress
from ampsweep.errors import AmpsweepError
from jobs.batches.files import BatchFiles
from jobs.batches.records import BatchRecord
from jobs.evaluation.records import EvaluationRecord
from jobs.evaluation.request import EvaluationRequest
from jobs.store.records import CellOutcome, SweepRecord
from jobs.store.sql.batches import Batches
from jobs.store.sql.evaluations import Evaluations


@dataclass(frozen=True, kw_only=True)
class CompletionCall:
    """A prompt to continue on a model of the server's list, steered by `intervention` or not.

    `neurons` is the id of a neuron set; None takes the model's default (`jobs.neuron_sets.default`). `preset` is the
    name of an intervention, which is looked up before the call. `adapter` names a LoRA adapter of the model; None
    asks the model alone. `prompt_logprobs` is the number of likeliest alternatives that are reported for each token of
    the prompt; None reports no tokens of the prompt. `return_token_ids` asks for the ids of the prompt's tokens.
    Without `stream` each answer may come in one chunk when it has ended. `background` gives the call the priority of
    sweeps instead of that of interactive requests. `priority` is the number that the request asks for: the lower, the
    sooner it runs; 0 is that of interactive requests, and 1 that of sweeps. `tools` are those that the assistant of a
    chat may call; `parse_tools` asks for the calls in the answer (see `Chunk.parsed`). `options` say how the prompt
    becomes tokens.
    """

    model: str
    prompt: Prompt | TokenIds
    intervention: Intervention | None
    neurons: str | None
    sampling: SamplingParams
    adapter: str | None = None
    prompt_logprobs: int | None = None
    return_token_ids: bool = False
    stream: bool = True
    background: bool = False
    priority: int = 0
    tools: tuple[Tool, ...] = ()
    parse_tools: ToolParsing | None = None
    preset: str | None = None
    options: PromptOptions = field(default_factory=PromptOptions)


@dataclass(frozen=True, kw_only=True)
class TokenizeCall:
    """A prompt to convert to the tokens of one of the server's models, or tokens to convert to text."""

    model: str
    prompt: Prompt | TokenIds
    tools: tuple[Tool, ...] = ()
    options: PromptOptions = field(default_factory=PromptOptions)


@dataclass(frozen=True, kw_only=True)
class CaptureCall:
    """Texts whose activations are captured on a model of the server's list.

    Attributes:
        model: Name of the model.
        texts: The texts.
        selection: The neurons. None stands for those of all languages of the neuron set, and is required by the form
            `activity`.
        form: `parquet` has the activations of all texts, `activity` is the JSON form of how active the neurons of each
            language are in the only text.
        intervention: Steers the model, None for none.
        neurons: Id of the neuron set; None takes the model's default if one is needed.
        adapter: Name of a LoRA adapter of the model, None for the model alone.
        dtype: How activations are stored.
        max_bytes: Most bytes of activations.
    """

    model: str
    texts: tuple[CapturedText, ...]
    selection: CaptureSelection | None
    form: Literal["parquet", "activity"] = "parquet"
    intervention: Intervention | None = None
    neurons: str | None = None
    adapter: str | None = None
    dtype: CaptureDtype = "float16"
    max_bytes: int

    @property
    def needs_neuron_set(self) -> bool:
        """Whether the selection or the intervention is about languages."""
        return self.intervention is not None or self.selection is None or self.selection.languages is not None


class Completions(Protocol):
    """Interactive generation, ahead of running sweeps. Closing the iterator aborts the generation."""

    def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        """Stream a completion; errors of the input raise InvalidRequest before the first chunk."""
        ...


class CompletionService(Completions, Protocol):
    """Generates text interactively, converts prompts to tokens, and captures activations."""

    async def tokenize(self, call: TokenizeCall) -> PromptTokens:
        """Return the tokens of a prompt, and their text.

        Raises:
            UnknownName: The model does not exist.
            InvalidRequest: The chat cannot be formatted, or a token does not exist.
            Unavailable: The engine is still starting.
        """
        ...

    async def capture(self, call: CaptureCall) -> bytes:
        """Return the activations of texts in the form that the call asks for. Cancelling the call aborts it.

        Raises:
            UnknownName: The model, the adapter, or a language does not exist.
            NotFound: The neuron set does not exist.
            CaptureTooLarge: The activations would take too many bytes; nothing was computed.
            InvalidRequest: A text is empty or too long, a neuron does not exist, the dtype cannot hold an activation,
                or the engine cannot capture.
            Unavailable: The engine is still starting.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class IdentificationStatus:
    """Status of an identification: in progress, or failed if `error` is set. `progress` is None until it is known.

    `model` is the name of the model whose neurons are identified; None if that is not known.
    """

    error: AmpsweepError | None
    progress: RecordingProgress | None = None
    model: str | None = None


class NeuronSetService(Protocol):
    """Imports, reads and identifies neuron sets. Methods that are not coroutines may block."""

    def import_set(self, model: str, neurons: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
        """Publish a set of given neurons and return its id.

        Args:
            model: Name of the model that the neurons belong to.
            neurons: {language: {layer: [index, ...]}}.

        Raises:
            UnknownName: if the model does not exist.
            InvalidRequest: for an invalid neuron; `param` names language and layer.
        """
        ...

    def neurons(self, neuron_set_id: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
        """Return the neurons of a set, {language: {layer: [index, ...]}}; raise NotFound if it does not exist."""
        ...

    async def identify(self, model: str, ref: NeuronsRef) -> None:
        """Start identifying a set unless a server already does; raise Unavailable if too many are in progress."""
        ...

    def identification_status(self, neuron_set_id: str) -> IdentificationStatus | None:
        """Return the status of an identification; None if it was not requested, or has succeeded."""
        ...

    async def unfinished(self, model: str | None) -> Mapping[str, IdentificationStatus]:
        """Return the identifications in progress and the failed ones, by the set's id; with `model`, only its own.

        They are those that were requested from any server, and those that cells wait for on this one.
        """
        ...


class EvaluationService(Protocol):
    """Evaluates the texts of sweeps in the background."""

    @property
    def evaluations(self) -> Evaluations:
        """The evaluations of all servers on the store."""
        ...

    async def submit(self, sweep: SweepRecord, request: EvaluationRequest) -> EvaluationRecord:
        """Queue an evaluation unless it is unfinished or completed, and return it.

        Raises:
            Conflict: The sweep has no results.
            UnknownName: The judge is not a model of the server.
            InvalidRequest: A package that a metric needs is not installed.
            Unavailable: Too many evaluations are unfinished.
        """
        ...


class BatchService(Protocol):
    """Runs batches in the background."""

    @property
    def batches(self) -> Batches:
        """The batches of all servers on the store."""
        ...

    @property
    def files(self) -> BatchFiles:
        """The content of the files of batches."""
        ...

    def wake(self) -> None:
        """Look for work now, because a batch was created."""
        ...

    async def cancel(self, batch_id: str) -> BatchRecord:
        """Cancel a batch; raise NotFound if none has this id, and Conflict if it has ended."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineMetrics:
    """Metrics of one engine, across its restarts. Counters count since the server started.

    Attributes:
        model: The model that the engine serves.
        index: Number of the engine among those of its model, from 0.
        state: starting, ready or failed.
        starts: Starts of the engine.
        failed_starts: Starts that failed.
        failures: Consecutive ends without healthy operation in between.
        deaths: Ends of a running engine.
        supervised: Whether the engine is restarted when it ends.
        cells: Cells in flight.
        streams: Interactive generations in flight.
        stats: The engine's own statistics by name (`engine.stats`); None if no engine runs, or it does not answer.
    """

    model: str
    index: int
    state: str
    starts: int
    failed_starts: int
    failures: int
    deaths: int
    supervised: bool
    cells: int
    streams: int
    stats: Mapping[str, float] | None


class EngineMonitor(Protocol):
    """State and metrics of the engines of this server, and the restart of failed engines by an operator."""

    async def metrics(self) -> list[EngineMetrics]:
        """Return the metrics of every engine, within a few seconds."""
        ...

    def engines(self) -> list[Mapping[str, Any]]:
        """Return the engines, each as a mapping with these keys.

        `model`, `engine` (its kind), `index` (from 0 among the engines of the model), `state` (starting, ready,
        failed), `phase` (what the start that is under way does, or None), `start_seconds` (how long that start has been
        going on or, without one, how long the last one took; None before the first), `error` (why it is down, or
        None), `failures` (consecutive ends without healthy operation in between), `supervised` (whether it is
        restarted when it ends).
        """
        ...

    def retry(self, model: str) -> None:
        """Start the model's engines that have failed or wait for their next start, without delay.

        Raises:
            UnknownName: if this server has no engine of the model.
            Conflict: if all of its engines are ready.
        """
        ...


@dataclass(kw_only=True)
class DispatcherStats:
    """Counters of a dispatcher since it started; they never decrease.

    Attributes:
        leased: Cells leased.
        retried: Cells leased that had been tried before.
        late: Reports discarded because their lease had expired.
        expired: Leases that expired.
        samples: Samples of completed cells.
        outcomes: Leased cells by how they ended.
        finalized: Sweeps finalized.
    """

    leased: int = 0
    retried: int = 0
    late: int = 0
    expired: int = 0
    samples: int = 0
    outcomes: Counter[CellOutcome] = field(default_factory=Counter)
    finalized: int = 0
