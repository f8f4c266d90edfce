"""The spec of a sweep, as users write it in YAML or JSON.

Validates the form of a spec and fills in defaults. Knows nothing of the models, corpora and data sets that exist;
`jobs.planning.resolution` looks names up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.choices import Mode, Op, Patch, Scope, Selection, Vector
from ampsweep.domain.drift import Part, When, check_when
from ampsweep.domain.edited_tokens import EditedTokens, check_tokens
from ampsweep.domain.generation.chat_template import TemplateVariables
from ampsweep.domain.generation.sampling import AnswerCount, MaxTokens, SamplingSeed, Temperature, TopP
from ampsweep.domain.intervention import (
    Factor,
    LayerList,
    NonTargetSpec,
    Seed,
    StatisticWord,
    WeightedLanguages,
    check_magnitude,
    word_or_list,
)
from ampsweep.domain.neurons.neuron_set import METHOD_PARAMS, IdentificationRequest, SpecMethod
from ampsweep.domain.validation import Languages, Name, NeuronSetId, StrictModel, Unique, one_or_list, unique, validate
from jobs.instruction import PromptMethod

Rate = Annotated[float, Field(gt=0, le=1)]
Control = Literal[Selection, "repeat"]
"""The controls: interventions on other neurons, or the unsteered model again."""
_SPEC_NAMES = {"neurons": "k"}
"""Parameters of identification methods that have another name in a spec."""


class NeuronsById(StrictModel):
    """A neuron set that exists, by its id."""

    id: NeuronSetId


class NeuronsByMethod(StrictModel):
    """A neuron set to identify by a method, unless the same set was identified before.

    `k` is the number of neurons of each language, for `act_prob` and `average_precision`; `seed` is for `random`.
    """

    method: SpecMethod
    corpus: Name
    languages: Languages
    top_rate: Rate | None = None
    filter_rate: Rate | None = None
    activation_bar: Rate | None = None
    k: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _params_of_the_method(self) -> NeuronsByMethod:
        names = self._request_names()
        for name in self._params():
            if name not in names:
                raise PydanticCustomError(
                    "unknown_key",
                    "{key} is not a parameter of method {method}; it has {names}",
                    {"key": name, "method": self.method, "names": ", ".join(names) or "no parameters"},
                )
        return self

    def _request_names(self) -> dict[str, str]:
        """Return the names of the method's parameters: from those in a spec to those in an identification request."""
        return {_SPEC_NAMES.get(name, name): name for name in METHOD_PARAMS[self.method]}

    def _params(self) -> dict[str, float]:
        return self.model_dump(exclude={"method", "corpus", "languages"}, exclude_none=True)

    def request(self, method: str | None = None) -> IdentificationRequest:
        """Return the identification request for the set.

        Args:
            method: A variant of the spec's method with the same parameters; by default the spec's method.
        """
        names = self._request_names()
        params = {names[name]: value for name, value in self._params().items()}
        return IdentificationRequest.of(method or self.method, params)


def _neurons_kind(raw: object) -> str:
    by_id = isinstance(raw, NeuronsById) or (isinstance(raw, dict) and "id" in raw)
    return "by id" if by_id else "by method"


Neurons = Annotated[
    Annotated[NeuronsById, Tag("by id")] | Annotated[NeuronsByMethod, Tag("by method")],
    Discriminator(_neurons_kind),
]
Layers = Annotated[
    Annotated[Literal["all", "each"], Tag("a word")] | Annotated[LayerList, Tag("a list")],
    Discriminator(word_or_list),
]


class VectorBaseline(StrictModel):
    """A baseline that adds a vector to the residual stream, for every target language and every factor.

    Attributes:
        method: The vector (`ampsweep.domain.intervention.Intervention`).
        factors: What the vector is multiplied by.
        layers: `all`, `each` (one intervention for each layer), or a list of layers for one intervention.
    """

    method: Vector
    factors: Unique[Factor]
    layers: Layers = "all"


def _baseline_kind(value: object) -> str:
    return "a vector" if isinstance(value, dict | VectorBaseline) else "a prompt"


def _one_or_list(value: object) -> object:
    """Return a list with a single value in it, or a list unchanged."""
    return value if value is None or isinstance(value, list | tuple) else [value]


def _first(values: Iterable[object] | None) -> object:
    """Return the first value that is not None; None if there is none."""
    return next((value for value in values or () if value is not None), None)


Baseline = Annotated[
    Annotated[PromptMethod, Tag("a prompt")] | Annotated[VectorBaseline, Tag("a vector")],
    Discriminator(_baseline_kind),
]


class OperationSpec(StrictModel):
    """What happens to an activation, and the magnitudes of it.

    Attributes:
        op: What happens to an activation (`ampsweep.domain.intervention`).
        factors: The magnitudes. With `patch` or `statistic`, each of their values is multiplied by each factor.
        patch: Recorded patch values.
        statistic: Statistics of the token's activations.
    """

    op: Op
    factors: Unique[Factor] | None = None
    patch: Annotated[Unique[Patch] | None, BeforeValidator(one_or_list)] = None
    statistic: Annotated[Unique[StatisticWord] | None, BeforeValidator(one_or_list)] = None

    @model_validator(mode="after")
    def _magnitude(self) -> OperationSpec:
        check_magnitude(self.op, factor=self.factors, patch=self.patch, statistic=self.statistic, factor_key="factors")
        return self

    @property
    def all_factors(self) -> tuple[float, ...]:
        """The factors; 1 if none is given."""
        return self.factors or (1.0,)


class InterventionsSpec(StrictModel):
    """The interventions of a sweep: every target language with every magnitude, layer choice and control.

    Attributes:
        languages: Target languages, optionally with a weight each; all languages of the neuron set by default.
        op: What happens to an activation, with the magnitudes in the next three fields (`OperationSpec`).
        factors: Its factors.
        patch: Its patch values.
        statistic: Its statistics.
        ops: Several operations in place of these four fields, each with its own magnitudes.
        layers: `all`, `each` (one intervention for each layer), or a list of layers for one intervention.
        neurons: `each` for one intervention for each neuron of the target language instead of one for all of them.
        scope: Which tokens are edited.
        tokens: Which of the tokens in the scope are edited, each of these choices in turn; all by default, and in place
            of None.
        when: `drift` to steer an answer only while its text is in another language than the target (`Drift`), each in
            turn; always by default, and in place of None.
        part: `thinking` to steer only what a reasoning model thinks, `answer` to steer only the rest of its text, each
            in turn; both by default, and in place of None.
        controls: Repeat every intervention with as many neurons drawn at random (`random`), with the neurons of another
            language (`other`) or with neurons of high entropy (`non_language`); set the neurons to 0 (`zero`); ask the
            unsteered model again in other batches (`repeat`).
        random_draws: How often the control `random` draws neurons, each time with another seed.
        non_target: A second op for the neurons of all other languages.
        source: A third op for the neurons of each cell's data language, where that is not the target.
        baselines: Ask the unsteered model with an instruction to answer in the target language, in English
            (`prompt_en`) or in the target language (`prompt_native`), or add a vector to the residual stream
            (`VectorBaseline`).
    """

    languages: WeightedLanguages | None = None
    op: Op | None = None
    factors: Unique[Factor] | None = None
    patch: Annotated[Unique[Patch] | None, BeforeValidator(one_or_list)] = None
    statistic: Annotated[Unique[StatisticWord] | None, BeforeValidator(one_or_list)] = None
    ops: Unique[OperationSpec] | None = None
    layers: Layers = "all"
    neurons: Literal["each"] | None = None
    scope: Scope = "all"
    tokens: Annotated[
        Unique[EditedTokens | None] | None,
        BeforeValidator(_one_or_list, json_schema_input_type=EditedTokens | Unique[EditedTokens | None] | None),
    ] = None
    when: Annotated[
        Unique[When | None] | None,
        BeforeValidator(_one_or_list, json_schema_input_type=When | Unique[When | None] | None),
    ] = None
    part: Annotated[
        Unique[Part | None] | None,
        BeforeValidator(_one_or_list, json_schema_input_type=Part | Unique[Part | None] | None),
    ] = None
    controls: Annotated[tuple[Control, ...], Field(strict=False), AfterValidator(unique)] = ()
    random_draws: Annotated[int, Field(ge=1, le=100)] = 1
    non_target: NonTargetSpec | None = None
    source: NonTargetSpec | None = None
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False), AfterValidator(unique)] = ()

    @model_validator(mode="after")
    def _fit_together(self) -> InterventionsSpec:
        self._check_operations()
        choices = self.tokens or ()
        for index, tokens in enumerate(choices):
            check_tokens(tokens, self.scope, key="tokens" if len(choices) == 1 else f"tokens.{index}")
        check_when(_first(self.when), _first(self.part), self.scope, _first(choices))
        if self.random_draws > 1 and "random" not in self.controls:
            message = "goes with the control random; add it to controls, or leave random_draws out"
            raise PydanticCustomError("random_draws", message, {"key": "random_draws"})
        if self.neurons == "each" and (others := [control for control in self.controls if control != "repeat"]):
            message = "{control} is a control for all neurons of a language; with neurons each, use repeat or none"
            raise PydanticCustomError("controls", message, {"key": "controls", "control": others[0]})
        return self

    def _check_operations(self) -> None:
        if self.op is not None and self.ops is None:
            check_magnitude(
                self.op, factor=self.factors, patch=self.patch, statistic=self.statistic, factor_key="factors"
            )
        elif self.op is None and self.ops is None:
            raise PydanticCustomError("no_op", "is required; give one, or several operations in ops", {"key": "op"})
        for key in ("op", "factors", "patch", "statistic") if self.ops is not None else ():
            if getattr(self, key) is not None:
                message = "goes inside each operation of ops; move it there, or leave ops out"
                raise PydanticCustomError("op_and_ops", message, {"key": key})

    @property
    def operations(self) -> tuple[OperationSpec, ...]:
        """The operations: those in `ops`, or the one that `op` and its magnitudes make."""
        if self.ops is not None:
            return self.ops
        assert self.op is not None
        return (OperationSpec(op=self.op, factors=self.factors, patch=self.patch, statistic=self.statistic),)

    @property
    def prompt_baselines(self) -> tuple[PromptMethod, ...]:
        """The baselines that instruct the model."""
        return tuple(baseline for baseline in self.baselines if not isinstance(baseline, VectorBaseline))

    @property
    def vector_baselines(self) -> tuple[VectorBaseline, ...]:
        """The baselines that add a vector to the residual stream."""
        return tuple(baseline for baseline in self.baselines if isinstance(baseline, VectorBaseline))

    @property
    def running_text(self) -> Literal["when", "part"] | None:
        """The field by which steering depends on the running text of an answer; None if it does not."""
        if _first(self.when) is not None:
            return "when"
        return None if _first(self.part) is None else "part"


class TaskSpec(StrictModel):
    """A task on some data languages.

    Attributes:
        name: The name of the task (`jobs.tasks.registry`).
        languages: Data languages; for lss the base languages.
        targets: Target languages of the sweep that the task is asked with; all by default.
        limit: Number of items; all by default.
        split: Split of the data; that of the task by default.
        data: Name of the data set; that of the task by default.
        chat: Whether the model is asked through its chat template.
        chat_template_kwargs: Variables of the chat template, such as `enable_thinking`.
        facts: For lss: `shared` (the default) asks only facts that all of the task's languages have, `any` asks the
            facts that both languages of a pair have.
        max_tokens: Number of tokens of an answer, at most. This field and the next four are for tasks whose answers
            are sampled (`jobs.tasks.sampled_task`), which have defaults for them.
        temperature: Divisor of the logits; 0 is greedy.
        top_p: Keep the likeliest tokens whose probabilities together reach this sum.
        n: Number of answers to each prompt.
        seed: Seed that the seeds of the answers are derived from; the sweep's by default.
    """

    name: Name
    languages: Languages
    targets: Languages | None = None
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    split: Name | None = None
    data: Name | None = None
    chat: bool = False
    chat_template_kwargs: TemplateVariables | None = None
    facts: Literal["shared", "any"] | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: AnswerCount | None = None
    seed: SamplingSeed | None = None

    @property
    def sampling(self) -> dict[str, int | float]:
        """The sampling options that are given, by name."""
        options = {name: getattr(self, name) for name in ("max_tokens", "temperature", "top_p", "n", "seed")}
        return {name: value for name, value in options.items() if value is not None}


class HalvingSpec(StrictModel):
    """Successive halving over the factors; see `jobs.planning.search`.

    All factors are tried on `items` items, then the better half on twice as many, and so on, until `keep` are left.
    These are run on all items. `metric` is the metric that decides which factor is better; None stands for `lss`.
    """

    method: Literal["halving"]
    items: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    keep: Annotated[int, Field(ge=1, le=1000)] = 2
    metric: Name | None = None


def _search(value: object) -> object:
    if value == "grid":
        return None
    if isinstance(value, str) and value != "halving":
        message = "must be grid, halving, or an object with method, items, keep and metric; got {value}"
        raise PydanticCustomError("search", message, {"value": value})
    return {"method": "halving"} if value == "halving" else value


_Search = Literal["grid", "halving"] | HalvingSpec | None


class SweepSpec(StrictModel):
    """The spec of a sweep: one model, one neuron set, interventions and tasks.

    Attributes:
        name: A name for people; not part of any id.
        model: Name of a model; a local run also accepts a folder or a model of the Hugging Face Hub.
        adapter: Name of a LoRA adapter of the model that all requests use; by default the model alone is asked.
        neurons: The neuron set, by its id or by the method that identifies it.
        interventions: What is done to whose neurons.
        tasks: What the model is asked.
        mode: `corrected`, or `paper` to reproduce the errors of the published code. With both, the sweep is computed
            in each mode.
        search: Successive halving over the factors; None computes the whole grid.
        seed: Seed of the random controls and of the items that a limit draws.

    Example:
        >>> spec = parse_spec(
        ...     {
        ...         "model": "atlas",
        ...         "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
        ...         "interventions": {"languages": ["fr"], "op": "scale", "factors": [0.5, 2], "controls": ["random"]},
        ...         "tasks": [{"name": "lss", "languages": ["en", "tr"], "limit": 24}],
        ...     }
        ... )
        >>> spec.mode, spec.search, spec.interventions.factors
        (('corrected',), None, (0.5, 2.0))
    """

    name: Name = "sweep"
    model: Annotated[str, Field(min_length=1, max_length=4096)]
    adapter: Name | None = None
    neurons: Neurons
    interventions: InterventionsSpec
    tasks: Annotated[tuple[TaskSpec, ...], Field(strict=False, min_length=1, max_length=100)]
    mode: Annotated[Unique[Mode], BeforeValidator(one_or_list)] = ("corrected",)
    search: Annotated[HalvingSpec | None, BeforeValidator(_search, json_schema_input_type=_Search)] = None
    seed: Seed = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON with its defaults filled in; `parse_spec` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)


def parse_spec(raw: object) -> SweepSpec:
    """Validate the spec of a sweep.

    Args:
        raw: The spec as parsed from YAML or JSON.

    Raises:
        InvalidRequest: `param` is the dotted path of the first invalid field.
    """
    return validate(SweepSpec, raw)
