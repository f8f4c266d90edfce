"""What one request asks of the forward pass, canonical and hashable.

An intervention says which neurons (those of `languages`, or as many drawn at random), what happens to their
activations (`op` with its magnitude), in which layers and at which tokens. It knows no indices: those come from a
neuron set, in `engine.steering.edits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, cast, get_args

from ampsweep.domain.languages import one_language_twice, short_code, wrong_code
from ampsweep.domain.statistic import Statistic
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash

Op = Literal["scale", "add", "set"]
Patch = Literal["max", "median", "mean"]
Scope = Literal["all", "prompt", "generation"]
Selection = Literal["random", "other"]


MAX_FACTOR = 1e6
"""The largest absolute value of a factor or a weight."""


def _choice(value: object, allowed: object, param: str) -> Any:
    names = get_args(allowed)
    if value not in names:
        raise InvalidRequest(f"{param} must be one of {', '.join(names)}; got {value!r}", param=param)
    return value


def _number(value: object, param: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{param} must be a number; got {value!r}", param=param)
    if not -MAX_FACTOR <= value <= MAX_FACTOR:  # NaN, infinities and integers beyond a float's range too
        raise InvalidRequest(
            f"{param} must be a finite number from {-MAX_FACTOR:,.0f} to {MAX_FACTOR:,.0f}", param=param
        )
    return float(value)


def _keys(raw: object, allowed: set[str], param: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise InvalidRequest(f"{param} must be an object; got {raw!r}", param=param)
    if unknown := set(map(str, raw)) - allowed:
        raise InvalidRequest(f"{param} has unknown keys {sorted(unknown)}; known: {sorted(allowed)}", param=param)
    return raw


@dataclass(frozen=True, kw_only=True)
class NonTarget:
    """A second op, for the neurons of every other language of the set; where a neuron is in both, the target's wins."""

    op: Op
    factor: float


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One change to the activations `a` of a set of neurons, before they are multiplied by `up_proj`.

    `scale`: a' = factor * a. `add`: a' = a + v. `set`: a' = v. Here v is `factor`; or, with `patch`, the neuron's
    recorded patch value times `factor`; or, with `statistic`, `factor` times that statistic of the token's activations
    in the neuron's layer before any intervention (with either, `factor` is 1 if not given).

    `weights`, one a language (None: all 1), take a part of the op, or more than all of it: a' = a + w * (op(a) - a). A
    neuron of several of the languages gets the mean of what they ask: of their weights, and of their patch values
    weighted.

    `layers` are global indices (None: all). `scope` says at which tokens: every one, those of the prompt, or those
    generated (of a scored continuation, its tokens count as generated). `selection="random"` takes as many neurons a
    layer as the languages have, drawn with `seed`; `selection="other"` takes those of the language `other`, to whom
    then happens what was asked for the languages' own.
    """

    languages: tuple[str, ...]
    op: Op
    factor: float
    weights: tuple[float, ...] | None = None
    patch: Patch | None = None
    statistic: Statistic | None = None
    layers: tuple[int, ...] | None = None
    scope: Scope = "all"
    selection: Selection | None = None
    seed: int = 0
    non_target: NonTarget | None = None
    other: str | None = None

    @classmethod
    def from_dict(cls, raw: object, *, param: str = "intervention") -> Intervention:
        """Read the public JSON form; equal requests give equal interventions, whatever the order of their languages.

        Languages are named by `short_code`; two codes of one language are refused.

        Raises InvalidRequest with `param` naming the field.
        """
        data = _keys(raw, {field.name for field in fields(cls)} - {"weights"}, param)
        op = _choice(data.get("op"), Op, f"{param}.op")
        patch, statistic = data.get("patch"), _statistic(data.get("statistic"), f"{param}.statistic")
        if patch is not None:
            _choice(patch, Patch, f"{param}.patch")
        if patch is not None and statistic is not None:
            raise InvalidRequest("give patch or statistic, not both", param=f"{param}.statistic")
        for name, given in (("patch", patch), ("statistic", statistic)):
            if given is not None and op == "scale":
                raise InvalidRequest(f"a {name} goes with op add or set, not scale", param=f"{param}.{name}")
        factor = data.get("factor")
        if factor is None and patch is None and statistic is None:
            message = "factor is required, unless patch or statistic gives the magnitude"
            raise InvalidRequest(message, param=f"{param}.factor")
        selection = data.get("selection")
        languages, weights = _languages(data.get("languages"), f"{param}.languages")
        return cls(
            languages=languages,
            weights=weights,
            op=op,
            factor=1.0 if factor is None else _number(factor, f"{param}.factor"),
            patch=patch,
            statistic=statistic,
            layers=_layers(data.get("layers", "all"), f"{param}.layers"),
            scope=_choice(data.get("scope", "all"), Scope, f"{param}.scope"),
            selection=None if selection is None else _choice(selection, Selection, f"{param}.selection"),
            seed=_seed(data.get("seed", 0), selection, f"{param}.seed"),
            non_target=_non_target(data.get("non_target"), f"{param}.non_target"),
            other=_other(data.get("other"), selection, f"{param}.other"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the public JSON form, complete and in canonical order of values."""
        raw = asdict(self)
        weights = raw.pop("weights")
        return {
            **raw,
            "languages": list(self.languages) if weights is None else dict(zip(self.languages, weights, strict=True)),
            "statistic": None if self.statistic is None else self.statistic.word,
            "layers": "all" if self.layers is None else list(self.layers),
        }

    @cached_property
    def hash(self) -> str:
        """32 hex digits; equal exactly for equal interventions."""
        return content_hash(self.to_dict())


def _languages(raw: object, param: str) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """Return the languages in order, each once, and their weights: None where all are 1."""
    for code in raw if isinstance(raw, list | tuple | Mapping) else ():
        if wrong := wrong_code(code):
            raise InvalidRequest(wrong, param=param)
    if (
        not isinstance(raw, list | tuple | Mapping)
        or not raw
        or not all(isinstance(code, str) and code for code in raw)
    ):
        message = "languages must be a list of at least one language code, or an object of codes and weights"
        raise InvalidRequest(message, param=param)
    if twice := one_language_twice(raw):
        raise InvalidRequest(twice, param=param)
    given = {short_code(code): code for code in cast("list[str]", raw)}
    codes = tuple(sorted(given))
    if not isinstance(raw, Mapping):
        return codes, None
    weights = tuple(_number(raw[given[code]], f"{param}.{given[code]}") for code in codes)
    return codes, None if set(weights) == {1.0} else weights


def _statistic(raw: object, param: str) -> Statistic | None:
    if raw is None:
        return None
    try:
        return Statistic.parse(str(raw))
    except ValueError as error:
        raise InvalidRequest(f"{param} {error}", param=param) from error


def _layers(raw: object, param: str) -> tuple[int, ...] | None:
    if raw == "all" or raw is None:
        return None
    if not isinstance(raw, list | tuple) or not raw:
        raise InvalidRequest(f'layers must be "all" or a list of at least one layer; got {raw!r}', param=param)
    if not all(isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0 for layer in raw):
        raise InvalidRequest(f"layers must be whole numbers from 0 up; got {raw!r}", param=param)
    return tuple(sorted(set(cast("list[int]", raw))))


def _seed(raw: object, selection: object, param: str) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw < 2**63:
        raise InvalidRequest(f"seed must be a whole number from 0 to 2**63 - 1; got {raw!r}", param=param)
    return raw if selection == "random" else 0  # nothing is drawn, so the seed must not tell two interventions apart


def _other(raw: object, selection: object, param: str) -> str | None:
    if (raw is not None) != (selection == "other"):
        raise InvalidRequest("other names a language where selection is other, and only there", param=param)
    if raw is not None and (not isinstance(raw, str) or not raw):
        raise InvalidRequest(f"other must be a language code; got {raw!r}", param=param)
    return None if raw is None else short_code(raw)


def _non_target(raw: object, param: str) -> NonTarget | None:
    if raw is None:
        return None
    data = _keys(raw, {"op", "factor"}, param)
    op = _choice(data.get("op"), Op, f"{param}.op")
    return NonTarget(op=op, factor=_number(data.get("factor"), f"{param}.factor"))
