"""One intervention as it is written in a request, checked, and its complete form.

The complete form has every key, its lists sorted, its numbers as floats; two requests that ask the same have the same
one. It is what a cell holds and what the engine's `Intervention` reads and writes. Which indices a language has is not
known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from jobs.edge import Languages, Strict, Unique, validated

Op = Literal["scale", "add", "set"]
Patch = Literal["max", "median", "mean"]
Scope = Literal["all", "prompt", "generation"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Factor = Annotated[float, Field(ge=-1e6, le=1e6)]
LayerList = Unique[Annotated[int, Field(ge=0, lt=10_000)]]


def by_kind(value: object) -> str:
    """Tell a word from a list, so that an error speaks of what was meant."""
    return "a word" if isinstance(value, str) else "a list"


Layers = Annotated[
    Annotated[Literal["all"], Tag("a word")] | Annotated[LayerList, Tag("a list")],
    Discriminator(by_kind),
]


class NonTargetSpec(Strict):
    """A second op, for the neurons of all other languages of the set."""

    op: Op
    factor: Factor


class InterventionSpec(Strict):
    """One intervention in the public JSON form: `languages`, `op` and a magnitude, the rest optional."""

    languages: Languages
    op: Op
    factor: Factor | None = None
    patch: Patch | None = None
    statistic: None = None
    layers: Layers = "all"
    scope: Scope = "all"
    selection: Literal["random"] | None = None
    seed: Seed = 0
    non_target: NonTargetSpec | None = None

    @model_validator(mode="after")
    def _magnitude(self) -> InterventionSpec:
        if self.patch is None and self.factor is None:
            message = "a magnitude is required: give factor, or patch with op add or set"
            raise PydanticCustomError("no_magnitude", message, {"key": "factor"})
        if self.patch is not None and self.op == "scale":
            message = "a patch value goes with op add or set, not with scale"
            raise PydanticCustomError("patch_scale", message, {"key": "patch"})
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the complete form."""
        return complete_intervention(
            languages=self.languages,
            op=self.op,
            factor=1.0 if self.factor is None else self.factor,
            patch=self.patch,
            layers=None if self.layers == "all" else self.layers,
            scope=self.scope,
            selection=self.selection,
            seed=self.seed,
            non_target=None if self.non_target is None else self.non_target.model_dump(),
        )


def complete_intervention(
    *,
    languages: tuple[str, ...],
    op: str,
    factor: float,
    patch: str | None,
    layers: tuple[int, ...] | None,
    scope: str,
    selection: str | None,
    seed: int,
    non_target: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the complete form. `layers` None is all; without `selection` nothing is drawn, so the seed is 0."""
    return {
        "languages": sorted(set(languages)),
        "op": op,
        "factor": float(factor),
        "patch": patch,
        "layers": "all" if layers is None else sorted(set(layers)),
        "scope": scope,
        "selection": selection,
        "seed": seed if selection is not None else 0,
        "non_target": None if non_target is None else {"op": non_target["op"], "factor": float(non_target["factor"])},
    }


def parse_intervention(raw: object, *, param: str = "intervention") -> InterventionSpec:
    """Read one intervention; raises InvalidRequest whose `param` is the dotted path of the first wrong field."""
    return validated(InterventionSpec, raw, param=param)
