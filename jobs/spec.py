"""The spec of a sweep, as users write it in YAML or JSON. Which names exist is checked by `jobs.planning.planner`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.choices import Mode
from ampsweep.domain.intervention import (
    Factor,
    LayerList,
    NonTargetSpec,
    Op,
    Patch,
    Scope,
    Seed,
    Selection,
    StatisticWord,
    WeightedLanguages,
    check_magnitude,
    word_or_list,
)
from ampsweep.domain.neuron_set import METHOD_PARAMS, IdentificationRequest
from ampsweep.domain.validation import Languages, Name, StrictModel, Unique, unique, validate

Rate = Annotated[float, Field(gt=0, le=1)]
_SPELLED = {"neurons": "k"}
"""What a spec calls those parameters of a method that it calls otherwise."""


class NeuronsById(StrictModel):
    """A neuron set that is there already."""

    id: Annotated[str, Field(pattern=r"^ns_[0-9A-Za-z_-]{1,100}$")]


class NeuronsByMethod(StrictModel):
    """A neuron set to be found, unless the same has been found before."""

    method: Literal["lape", "activated", "act_prob", "random"]
    corpus: Name
    languages: Languages
    top_rate: Rate | None = None
    filter_rate: Rate | None = None
    activation_bar: Rate | None = None
    k: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _params_of_the_method(self) -> NeuronsByMethod:
        own = self._names()
        for name in self._given():
            if name not in own:
                known = ", ".join(own) or "no parameters"
                raise PydanticCustomError(
                    "unknown_key",
                    "{key} is no parameter of method {method}; it has {known}",
                    {"key": name, "method": self.method, "known": known},
                )
        return self

    def _names(self) -> dict[str, str]:
        """Return the method's parameters: the name in the spec, and that in the request."""
        return {_SPELLED.get(name, name): name for name in METHOD_PARAMS[self.method]}

    def _given(self) -> dict[str, float]:
        return self.model_dump(exclude={"method", "corpus", "languages"}, exclude_none=True)

    def request(self, method: str | None = None) -> IdentificationRequest:
        """Return the request for the set, by the spec's method or by a variant of it."""
        names = self._names()
        return IdentificationRequest.of(
            method or self.method, {names[name]: value for name, value in self._given().items()}
        )


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


def _one_or_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class InterventionsSpec(StrictModel):
    """The interventions of a sweep: every target language with every magnitude, layer choice and control.

    `languages` may give each target a weight. `layers: each` makes one of each layer. Without `patch` or `statistic`
    the factors are the magnitudes; with one of them each of its values is multiplied by each factor (1 if none is
    given). `controls` repeat all with as many neurons drawn at random (`random`), with another language's (`other`).
    """

    languages: WeightedLanguages | None = None
    op: Op
    factors: Unique[Factor] | None = None
    patch: Annotated[Unique[Patch] | None, BeforeValidator(_one_or_list)] = None
    statistic: Annotated[Unique[StatisticWord] | None, BeforeValidator(_one_or_list)] = None
    layers: Layers = "all"
    scope: Scope = "all"
    controls: Annotated[tuple[Selection, ...], Field(strict=False), AfterValidator(unique)] = ()
    non_target: NonTargetSpec | None = None

    @model_validator(mode="after")
    def _magnitude(self) -> InterventionsSpec:
        check_magnitude(self.op, factor=self.factors, patch=self.patch, statistic=self.statistic, factor_key="factors")
        return self

    @property
    def all_factors(self) -> tuple[float, ...]:
        """The factors; 1 if none is given."""
        return self.factors or (1.0,)


class TaskSpec(StrictModel):
    """A task on some data languages: the first `limit` items, all without one; `chat` asks by the chat template.

    `targets` are those of the sweep's target languages that the task is asked with; all without them. `facts` (lss)
    says whether only the facts are asked that all of the task's languages have, which is the default.
    """

    name: Name
    languages: Languages
    targets: Languages | None = None
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    split: Name | None = None
    data: Name | None = None
    chat: bool = False
    facts: Literal["shared", "any"] | None = None


class HalvingSpec(StrictModel):
    """Many factors on few items first, the promising ones on all; see `jobs.planning.search`.

    All factors are tried on `items` items, then the better half on twice as many, and so on, until `keep` are left.
    """

    method: Literal["halving"]
    items: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    keep: Annotated[int, Field(ge=1, le=1000)] = 2


def _search(value: object) -> object:
    if value == "grid":
        return None
    if isinstance(value, str) and value != "halving":
        message = "must be grid, halving, or an object with method, items and keep; got {value}"
        raise PydanticCustomError("search", message, {"value": value})
    return {"method": "halving"} if value == "halving" else value


_Search = Literal["grid", "halving"] | HalvingSpec | None


class SweepSpec(StrictModel):
    """What a user asks for: one model, one neuron set, interventions, tasks.

    `mode: paper` repeats what the published code gets wrong; with both modes everything is computed in each.
    """

    name: Name = "sweep"
    model: Annotated[str, Field(min_length=1, max_length=4096)]
    neurons: Neurons
    interventions: InterventionsSpec
    tasks: Annotated[tuple[TaskSpec, ...], Field(strict=False, min_length=1, max_length=100)]
    mode: Annotated[Unique[Mode], BeforeValidator(_one_or_list)] = ("corrected",)
    search: Annotated[HalvingSpec | None, BeforeValidator(_search, json_schema_input_type=_Search)] = None
    seed: Seed = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON, with what was left open filled in; `parse_spec` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)


def parse_spec(raw: object) -> SweepSpec:
    """Read a sweep's spec; raises InvalidRequest whose `param` is the dotted path of the first wrong field."""
    return validate(SweepSpec, raw)
