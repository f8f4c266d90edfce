"""What names a neuron set: the reference that a cell holds, the request that finds a set, and the set's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash

Method = Literal["lape", "lape_paper", "activated", "act_prob", "random"]
MAX_TOKENS = 100_000
"""Tokens of a language that are recorded, at most; the paper's number."""
MIN_LANGUAGES = 2
"""Of a method that compares languages: with one, every neuron is specific to it."""
ENOUGH_LANGUAGES = 5
"""Of a method that compares languages: below, a set comes with a warning."""

TOP_RATE = 0.01
"""Share of all neurons that are kept, those with the smallest entropy."""
FILTER_RATE = 0.95
"""A candidate's probability is above this quantile of all probabilities in some language."""
ACTIVATION_BAR = 0.95
"""A kept neuron belongs to the languages where its probability is above this quantile."""

_LAPE: Mapping[str, float | int] = {
    "top_rate": TOP_RATE,
    "filter_rate": FILTER_RATE,
    "activation_bar": ACTIVATION_BAR,
}
METHOD_PARAMS: Mapping[Method, Mapping[str, float | int]] = {
    "lape": _LAPE,
    "lape_paper": _LAPE,  # with a chat template's tokens in the denominators, as the published code has them
    "activated": {},
    "act_prob": {"neurons": 897},
    "random": {**_LAPE, "seed": 0},  # as many a layer as LAPE with these parameters finds
}
"""The parameters of each method and their defaults.

LAPE's are those of Tang et al. 2024. `act_prob` has no published number of neurons: 897 is a default of this project,
the number that the paper's code takes by another method, average precision, for gemma-2-9b.
"""


@dataclass(frozen=True, kw_only=True)
class NeuronsRef:
    """The neuron set a cell uses: its id, its languages, how to make it where it is not there (None: it must be)."""

    id: str
    method: str | None = None
    corpus: str | None = None
    languages: tuple[str, ...] = ()
    params: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class IdentificationRequest:
    """A request for a neuron set: the method, all of its parameters, and how much text of a language to record.

    Example:
        >>> IdentificationRequest.of("lape", {"top_rate": 0.02}).params
        {'top_rate': 0.02, 'filter_rate': 0.95, 'activation_bar': 0.95}
    """

    method: Method
    params: Mapping[str, float | int]
    max_tokens: int = MAX_TOKENS

    @classmethod
    def of(
        cls, method: str = "lape", params: Mapping[str, Any] | None = None, *, max_tokens: int = MAX_TOKENS
    ) -> IdentificationRequest:
        """Validate a method and its parameters, and fill in the defaults of those that are not given.

        `lape`: top_rate, filter_rate, activation_bar (above 0, up to 1). `act_prob`: neurons. `random`: LAPE's and
        seed. `activated` has none.

        Raises:
            InvalidRequest: naming the field.
        """
        if method not in get_args(Method):
            raise InvalidRequest(f"method must be one of {', '.join(get_args(Method))}; got {method!r}", param="method")
        checked: Method = method  # type: ignore[assignment]  # one of the names, as just checked
        defaults = METHOD_PARAMS[checked]
        given = dict(params or {})
        if unknown := set(given) - set(defaults):
            raise InvalidRequest(
                f"{method} has no parameters {sorted(unknown)}; it has {sorted(defaults)}", param="params"
            )
        values = {name: _param(name, given.get(name, default), default) for name, default in defaults.items()}
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise InvalidRequest(f"max_tokens must be a whole number above 0; got {max_tokens!r}", param="max_tokens")
        return cls(method=checked, params=values, max_tokens=max_tokens)

    def neuron_set_id(self, *, fingerprint: str, corpus_hash: str, languages: Sequence[str]) -> str:
        """Return the id of the set that this finds, which is known before anything is recorded.

        `fingerprint` is the model's, `corpus_hash` that of the corpus in these languages, whose order does not matter.
        """
        content = {
            "fingerprint": fingerprint,
            "method": self.method,
            "params": dict(self.params),
            "max_tokens": self.max_tokens,
            "corpus": corpus_hash,
            "languages": sorted(languages),
        }
        return f"ns_{content_hash(content)}"

    def check_languages(self, languages: Sequence[str], *, param: str) -> None:
        """Refuse a single language where the method compares languages."""
        if compares_languages(self.method) and len(languages) < MIN_LANGUAGES:
            raise InvalidRequest(
                f"{self.method} compares languages; give at least two (got {', '.join(languages) or 'none'})",
                param=param,
            )


def compares_languages(method: str) -> bool:
    """Whether what a method finds for a language depends on the other languages; `random` counts what LAPE finds."""
    return method in ("lape", "lape_paper", "random")


def language_warnings(method: str, languages: Sequence[str]) -> tuple[str, ...]:
    """Return what a user should know of a set that a method found, or will find, by comparing these languages."""
    if not compares_languages(method) or len(languages) >= ENOUGH_LANGUAGES:
        return ()
    warning = (
        f"{method} compares languages, and {len(languages)} ({', '.join(languages)}) are few: neurons shared with "
        f"languages outside these count as specific; give at least {ENOUGH_LANGUAGES}"
    )
    return (warning,)


def _param(name: str, value: object, default: float | int) -> float | int:
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if name == "seed" else 1):
            raise InvalidRequest(f"{name} must be a whole number; got {value!r}", param=f"params.{name}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidRequest(f"{name} must be above 0 and at most 1; got {value!r}", param=f"params.{name}")
    return float(value)
