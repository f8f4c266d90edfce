"""Neuron sets by name: the reference that a cell holds, and the request to identify a set, which gives the set its id.

Identification methods, their parameters and their defaults are defined here. The arrays of a set are not known here
(see `engine.neurons.neuron_set`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.domain.neurons.published_neurons import default_neurons
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash

SpecMethod = Literal["lape", "activated", "act_prob", "average_precision", "random"]
"""The methods that a sweep's spec may ask for."""
Method = Literal[SpecMethod, "lape_paper"]
"""The methods of a neuron set. `lape_paper` takes the place of `lape` where the published code is reproduced."""

NEURON_SET_ID = r"ns_[0-9A-Za-z_-]{1,100}"
"""Regular expression of the ids of neuron sets."""
METADATA_FILE = "metadata.json"
"""Name of the file in a neuron set's folder that says where the set came from."""
TENSORS_FILE = "neurons.safetensors"
"""Name of the file in a neuron set's folder that holds its arrays."""

MAX_TOKENS = 100_000
"""Maximum number of tokens recorded for each language, as in the paper."""
MIN_LANGUAGES = 2
"""Fewest languages for a method that compares them: with a single one, every neuron is specific to it."""
ENOUGH_LANGUAGES = 5
"""With fewer languages than this, a method that compares them gives a warning."""

TOP_RATE = 0.01
"""Share of all neurons that LAPE keeps: those with the smallest entropy."""
FILTER_RATE = 0.95
"""A candidate of LAPE has an activation probability above this quantile of all probabilities in some language."""
ACTIVATION_BAR = 0.95
"""A neuron that LAPE keeps belongs to the languages in which its probability is above this quantile."""

_LAPE: Mapping[str, float | int] = {
    "top_rate": TOP_RATE,
    "filter_rate": FILTER_RATE,
    "activation_bar": ACTIVATION_BAR,
}
BY_MODEL = 0
"""Default number of neurons of `average_precision`, until `for_model` replaces it by that of a model."""
METHOD_PARAMS: Mapping[Method, Mapping[str, float | int]] = {
    "lape": _LAPE,
    "lape_paper": _LAPE,  # with a chat template's tokens in the denominators, as the published code has them
    "activated": {},
    "act_prob": {"neurons": 897},
    "average_precision": {"neurons": BY_MODEL},
    "random": {**_LAPE, "seed": 0},  # as many in each layer as LAPE finds with these parameters
}
"""The parameters of each method and their defaults.

LAPE's defaults are those of Tang et al. 2024. No number of neurons is published for `act_prob`: 897 is the number that
the paper's code selects for gemma-2-9b by `average_precision`, whose default depends on the model.
"""


@dataclass(frozen=True, kw_only=True)
class NeuronsRef:
    """A reference to a neuron set: its id, its languages, and how to identify it if it does not exist yet.

    With `method` None the set must exist.
    """

    id: str
    method: str | None = None
    corpus: str | None = None
    languages: tuple[str, ...] = ()
    params: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class IdentificationRequest:
    """A request to identify a neuron set: the method, all of its parameters, and the tokens to record per language.

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
        """Validate a method and its parameters, and fill in the defaults of those that are missing.

        Args:
            method: The method.
            params: Parameters by name. `lape` has `top_rate`, `filter_rate` and `activation_bar` (above 0, at most 1),
                `act_prob` and `average_precision` have `neurons`, `random` has those of `lape` and `seed`, `activated`
                has none.
            max_tokens: Maximum number of tokens recorded for each language.

        Raises:
            InvalidRequest: `param` names the wrong field.
        """
        if method not in get_args(Method):
            raise InvalidRequest(f"method must be one of {', '.join(get_args(Method))}; got {method!r}", param="method")
        checked: Method = method  # type: ignore[assignment]  # one of the names, as just checked
        defaults = METHOD_PARAMS[checked]
        values = dict(params or {})
        if unknown := set(values) - set(defaults):
            names = ", ".join(sorted(defaults)) or "none"
            message = f"{method} has no parameter {', '.join(sorted(unknown))}; it has: {names}"
            raise InvalidRequest(message, param="params")
        complete = {
            name: _param(name, values[name], default) if name in values else default
            for name, default in defaults.items()
        }
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise InvalidRequest(f"max_tokens must be a whole number above 0; got {max_tokens!r}", param="max_tokens")
        return cls(method=checked, params=complete, max_tokens=max_tokens)

    def for_model(self, *names: str | None, widths: LayerWidths) -> IdentificationRequest:
        """Return the request with the number of neurons of a model, if it depends on the model and was not given.

        Args:
            names: What the model is called, as in `default_neurons`.
            widths: The layers of the model.
        """
        if self.params.get("neurons") != BY_MODEL:
            return self
        return replace(self, params={**self.params, "neurons": default_neurons(*names, total=widths.total)})

    def neuron_set_id(self, *, fingerprint: str, corpus_hash: str, languages: Sequence[str]) -> str:
        """Return the id of the set that this request will identify. It is known before anything is recorded.

        Args:
            fingerprint: The fingerprint of the model's files.
            corpus_hash: The hash of the corpus in these languages.
            languages: The languages of the corpus, in any order.
        """
        assert self.params.get("neurons") != BY_MODEL, "`for_model` comes first"
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
        """Raise InvalidRequest at `param` for too few languages, if the method compares languages."""
        if compares_languages(self.method) and len(languages) < MIN_LANGUAGES:
            raise InvalidRequest(
                f"{self.method} compares languages; give at least two (got {', '.join(languages) or 'none'})",
                param=param,
            )


def compares_languages(method: str) -> bool:
    """Return whether the neurons of a language depend on the other languages. `random` draws as many as LAPE finds."""
    return method in ("lape", "lape_paper", "average_precision", "random")


def language_warnings(method: str, languages: Sequence[str]) -> tuple[str, ...]:
    """Return warnings about a set that a method identifies by comparing these languages."""
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
