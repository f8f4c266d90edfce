"""From a corpus to a neuron set: what is asked for, what it will be called, and how it comes about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ampsweep.canonical import content_hash
from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Corpus
from engine.identify.checkpoint import Checkpoint
from engine.identify.lape import ACTIVATION_BAR, FILTER_RATE, TOP_RATE, select_lape
from engine.identify.published import published_denominators, template_tokens
from engine.identify.selections import ACT_PROB_NEURONS, select_act_prob, select_activated, select_random
from engine.identify.stats import ActivationStats
from engine.neuron_set import NeuronSet, PatchValues
from engine.protocol import Engine, EngineInfo

Method = Literal["lape", "lape_paper", "activated", "act_prob", "random"]
MAX_TOKENS = 100_000
"""Tokens of a language that are recorded, at most; the paper's number."""

_LAPE: dict[str, float | int] = {"top_rate": TOP_RATE, "filter_rate": FILTER_RATE, "activation_bar": ACTIVATION_BAR}
_DEFAULTS: Mapping[Method, dict[str, float | int]] = {
    "lape": _LAPE,
    "lape_paper": _LAPE,  # with a chat template's tokens in the denominators, as the published code has them
    "activated": {},
    "act_prob": {"neurons": ACT_PROB_NEURONS},
    "random": {**_LAPE, "seed": 0},  # as many a layer as LAPE with these parameters finds
}


@dataclass(frozen=True, kw_only=True)
class Identification:
    """A request for a neuron set: the method, all of its parameters, and how much text of a language to record."""

    method: Method
    params: Mapping[str, float | int]
    max_tokens: int = MAX_TOKENS

    @classmethod
    def of(
        cls, method: str = "lape", params: Mapping[str, Any] | None = None, *, max_tokens: int = MAX_TOKENS
    ) -> Identification:
        """Check a method and its parameters, and fill in the published defaults of those that are not given.

        `lape`: top_rate, filter_rate, activation_bar (above 0, up to 1). `act_prob`: neurons. `random`: LAPE's and
        seed. `activated` has none. Raises InvalidRequest naming the field.
        """
        if method not in get_args(Method):
            raise InvalidRequest(f"method must be one of {', '.join(get_args(Method))}; got {method!r}", param="method")
        checked: Method = method  # type: ignore[assignment]  # one of the names, as just checked
        defaults = _DEFAULTS[checked]
        given = dict(params or {})
        if unknown := set(given) - set(defaults):
            raise InvalidRequest(
                f"{method} has no parameters {sorted(unknown)}; it has {sorted(defaults)}", param="params"
            )
        values = {name: _param(name, given.get(name, default), default) for name, default in defaults.items()}
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise InvalidRequest(f"max_tokens must be a whole number above 0; got {max_tokens!r}", param="max_tokens")
        return cls(method=checked, params=values, max_tokens=max_tokens)

    def neuron_set_id(self, *, fingerprint: str, corpus: Corpus) -> str:
        """Return the id of the set that this finds; it can be known before anything is recorded.

        `fingerprint` is that of the model. The order of the languages does not matter.
        """
        asked = {
            "fingerprint": fingerprint,
            "method": self.method,
            "params": dict(self.params),
            "max_tokens": self.max_tokens,
            "corpus": corpus.hash,
            "languages": list(corpus.languages),
        }
        return f"ns_{content_hash(asked)}"

    def select(self, stats: ActivationStats) -> dict[str, NDArray[np.int32]]:
        """Return each language's neurons by this method, int32 [k, 2] of (layer, index), sorted."""
        params: dict[str, Any] = dict(self.params)
        if self.method == "activated":
            return select_activated(stats)
        if self.method == "act_prob":
            return select_act_prob(stats, neurons=params["neurons"])
        lape = select_lape(stats, **{name: params[name] for name in _LAPE})
        if self.method in ("lape", "lape_paper"):
            return lape
        _, layers, width = stats.counts.shape
        return select_random(lape, layers=layers, width=width, seed=params["seed"])


def checkpoint_in(folder: Path, info: EngineInfo, corpus: Corpus, identification: Identification) -> Checkpoint:
    """Return where an identification on the engine of `info` keeps its recording while it is not finished."""
    neuron_set_id = identification.neuron_set_id(fingerprint=info.fingerprint, corpus=corpus)
    depends_on = {"id": neuron_set_id, "kind": info.kind, "dtype": info.dtype, "versions": dict(info.versions)}
    return Checkpoint(folder / f".{neuron_set_id}.recording", identity=content_hash(depends_on))


async def identify(
    engine: Engine, corpus: Corpus, identification: Identification, *, checkpoint: Checkpoint | None = None
) -> NeuronSet:
    """Record a corpus on an engine and select its neurons; `checkpoint` is the caller's to discard afterwards.

    Returns a set with patch values, whose id is `identification.neuron_set_id`. Its metadata's params hold the
    method's and `max_tokens`.
    """
    stats = await engine.record(corpus.sentences(), max_tokens=identification.max_tokens, checkpoint=checkpoint)
    if identification.method == "lape_paper":
        stats = published_denominators(stats, template_tokens=await template_tokens(engine))
    return neuron_set_of(stats, identification, corpus=corpus, info=engine.info)


def neuron_set_of(
    stats: ActivationStats, identification: Identification, *, corpus: Corpus, info: EngineInfo
) -> NeuronSet:
    """Make the neuron set that a recording of `corpus` on the model of `info` gives by a method."""
    return NeuronSet(
        id=identification.neuron_set_id(fingerprint=info.fingerprint, corpus=corpus),
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method=identification.method,
        params={**identification.params, "max_tokens": identification.max_tokens},
        corpus=corpus.name,
        corpus_hash=corpus.hash,
        neurons=identification.select(stats),
        patch=PatchValues(max=stats.patch_max, median=stats.patch_median, mean=stats.patch_mean),
    )


def _param(name: str, value: object, default: float | int) -> float | int:
    if isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if name == "seed" else 1):
            raise InvalidRequest(f"{name} must be a whole number; got {value!r}", param=f"params.{name}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidRequest(f"{name} must be above 0 and at most 1; got {value!r}", param=f"params.{name}")
    return float(value)
