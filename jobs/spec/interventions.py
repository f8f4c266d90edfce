"""The interventions of a spec: operations with their magnitudes, layers, tokens, controls and baselines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.choices import Op, Patch, Scope, Selection, Vector
from ampsweep.domain.drift import Part, When, check_when
from ampsweep.domain.edited_tokens import EditedTokens, check_tokens
from ampsweep.domain.intervention import (
    Factor,
    LayerList,
    NonTargetSpec,
    StatisticWord,
    WeightedLanguages,
    check_magnitude,
    word_or_list,
)
from ampsweep.domain.validation import StrictModel, Unique, one_or_list, unique
from jobs.instruction import PromptMethod

Control = Literal[Selection, "repeat"]
"""The controls: interventions on other neurons, or the unsteered model again."""
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
