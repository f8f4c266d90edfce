"""One intervention as it is written in a request, checked, and its complete form.

The complete form has every key, its lists sorted, its numbers as floats; two requests that ask the same have the same
one. It is what a cell holds and what the engine's `Intervention` reads and writes. Which indices a language has is not
known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.intervention import MAX_FACTOR
from ampsweep.domain.validation import EachLanguageOnce, Language, Languages, StrictModel, Unique, validate

Op = Literal["scale", "add", "set"]
Patch = Literal["max", "median", "mean"]
Scope = Literal["all", "prompt", "generation"]
Selection = Literal["random", "other"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Factor = Annotated[float, Field(ge=-MAX_FACTOR, le=MAX_FACTOR)]
LayerList = Unique[Annotated[int, Field(ge=0, lt=10_000)]]


_STATISTICS = ("mean", "std", "median", "max", "iqr", "mad")
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,4})?)")


def _statistic(word: str) -> str:
    """Return the word as the engine writes it; a percentile has one spelling."""
    if (found := _PERCENTILE.fullmatch(word)) and float(found[1]) <= 100.0:
        return f"p{float(found[1])!r}".removesuffix(".0")
    if word not in _STATISTICS:
        message = "must be one of {known}, or a percentile from p0 to p100"
        raise PydanticCustomError("statistic", message, {"known": ", ".join(_STATISTICS)})
    return word


StatisticWord = Annotated[str, AfterValidator(_statistic)]
Weights = Annotated[dict[Language, Factor], Field(min_length=1, max_length=1000), EachLanguageOnce]


def _languages_kind(value: object) -> str:
    return "weights" if isinstance(value, dict) else "a list"


WeightedLanguages = Annotated[
    Annotated[Languages, Tag("a list")] | Annotated[Weights, Tag("weights")], Discriminator(_languages_kind)
]
"""A list of codes, or an object that gives each code a weight."""


def by_kind(value: object) -> str:
    """Tell a word from a list, so that an error speaks of what was meant."""
    return "a word" if isinstance(value, str) else "a list"


Layers = Annotated[
    Annotated[Literal["all"], Tag("a word")] | Annotated[LayerList, Tag("a list")],
    Discriminator(by_kind),
]


class NonTargetSpec(StrictModel):
    """A second op, for the neurons of all other languages of the set."""

    op: Op
    factor: Factor


class InterventionSpec(StrictModel):
    """One intervention in the public JSON form: `languages`, `op` and a magnitude, the rest optional."""

    languages: WeightedLanguages
    op: Op
    factor: Factor | None = None
    patch: Patch | None = None
    statistic: StatisticWord | None = None
    layers: Layers = "all"
    scope: Scope = "all"
    selection: Selection | None = None
    seed: Seed = 0
    non_target: NonTargetSpec | None = None
    other: Language | None = None

    @model_validator(mode="after")
    def _magnitude(self) -> InterventionSpec:
        check_magnitude(self.op, factor=self.factor, patch=self.patch, statistic=self.statistic, factor_key="factor")
        if (self.other is not None) != (self.selection == "other"):
            message = "names a language where selection is other, and only there"
            raise PydanticCustomError("other", message, {"key": "other"})
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the complete form."""
        return complete_intervention(
            languages=self.languages,
            op=self.op,
            factor=1.0 if self.factor is None else self.factor,
            patch=self.patch,
            statistic=self.statistic,
            layers=None if self.layers == "all" else self.layers,
            scope=self.scope,
            selection=self.selection,
            seed=self.seed,
            non_target=None if self.non_target is None else self.non_target.model_dump(),
            other=self.other,
        )


def check_magnitude(op: str, *, factor: object, patch: object, statistic: object, factor_key: str) -> None:
    """Raise where there is no magnitude, or one that does not go with the op; `factor_key` names the factor."""
    given = {"patch": patch, "statistic": statistic}
    if factor is None and patch is None and statistic is None:
        message = "a magnitude is required: give {key}, or patch or statistic with op add or set"
        raise PydanticCustomError("no_magnitude", message, {"key": factor_key})
    if patch is not None and statistic is not None:
        raise PydanticCustomError("two_magnitudes", "give patch or statistic, not both", {"key": "statistic"})
    for key, value in given.items():
        if value is not None and op == "scale":
            raise PydanticCustomError("scale", "goes with op add or set, not with scale", {"key": key})


def complete_intervention(
    *,
    languages: tuple[str, ...] | Mapping[str, float],
    op: str,
    factor: float,
    patch: str | None,
    statistic: str | None,
    layers: tuple[int, ...] | None,
    scope: str,
    selection: str | None,
    seed: int,
    non_target: Mapping[str, Any] | None,
    other: str | None = None,
) -> dict[str, Any]:
    """Return the complete form.

    Languages whose weights are all 1 are a list. `layers` None is all. Unless `selection` is random nothing is drawn,
    so the seed is 0. `other` comes with the selection of that name: whose neurons are taken.
    """
    weights = languages if isinstance(languages, Mapping) and set(languages.values()) != {1} else None
    return {
        "languages": sorted(set(languages))
        if weights is None
        else {code: float(weight) for code, weight in sorted(weights.items())},
        "op": op,
        "factor": float(factor),
        "patch": patch,
        "statistic": statistic,
        "layers": "all" if layers is None else sorted(set(layers)),
        "scope": scope,
        "selection": selection,
        "seed": seed if selection == "random" else 0,
        "non_target": None if non_target is None else {"op": non_target["op"], "factor": float(non_target["factor"])},
        "other": other,
    }


def parse_intervention(raw: object, *, param: str = "intervention") -> InterventionSpec:
    """Read one intervention; raises InvalidRequest whose `param` is the dotted path of the first wrong field."""
    return validate(InterventionSpec, raw, param=param)
