"""What the throughput benchmark asks of the engines: texts of random letters, a token each, and interventions."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from engine.intervention import Intervention
from engine.neuron_set import NeuronSet
from engine.protocol import EngineInfo, Steering

SHARE = 0.01
"""Of each layer's neurons, changed by an intervention."""
FACTOR = 1.5
SEED = 0
_SET = "ns_benchmark"


@dataclass(frozen=True, kw_only=True)
class GeneratedItem:
    """A prompt to continue by so many tokens, under the intervention of that number or none."""

    prompt: str
    new_tokens: int
    intervention: int | None


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """A continuation to score after a context, under the intervention of that number or none."""

    context: str
    option: str
    intervention: int | None


class Texts:
    """An endless supply: no run has a text that another had, so that no prefix cache answers for the model."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)

    def text(self, shortest: int, longest: int | None = None) -> str:
        """Return a text of so many letters, drawn evenly between the two lengths."""
        length = self._random.integers(shortest, (longest or shortest) + 1)
        return "".join(self._random.choice(list(ascii_lowercase), length))

    def texts(self, count: int, shortest: int, longest: int | None = None) -> list[str]:
        """Return `count` of them."""
        return [self.text(shortest, longest) for _ in range(count)]

    def scored(
        self, count: int, *, context: tuple[int, int], option: tuple[int, int], options: int, distinct: int
    ) -> list[ScoredItem]:
        """Return items with lengths in those bounds, `options` to a context, under `distinct` interventions."""
        contexts = self.texts(count // options, *context)
        return [
            ScoredItem(context=shared, option=self.text(*option), intervention=number)
            for shared, number in zip(contexts, in_turn(distinct, len(contexts)), strict=True)
            for _ in range(options)
        ]

    def answer(self, mean: int, longest: int) -> int:
        """Return the length of an answer that may end at any token: most are short, a few run on to the limit."""
        return int(min(self._random.geometric(1 / mean), longest))


def neurons_of(width: int, layers: int, number: int) -> list[NDArray[np.int64]]:
    """Return the neurons of intervention `number` in each layer, sorted: a random share, another for each."""
    random = np.random.default_rng((SEED, number))
    return [np.sort(random.choice(width, round(width * SHARE), replace=False)) for _ in range(layers)]


def neuron_set(info: EngineInfo, count: int) -> NeuronSet:
    """Return the neurons of the first `count` interventions as those of as many languages."""
    return NeuronSet(
        id=_SET,
        model=info.model,
        fingerprint=info.fingerprint,
        layers=info.layers,
        width=info.width,
        method="random",
        params={"seed": SEED},
        neurons={
            _language(number): np.array(
                [(layer, at) for layer, own in enumerate(neurons_of(info.width, info.layers, number)) for at in own],
                dtype=np.int32,
            )
            for number in range(count)
        },
    )


def in_turn(distinct: int, count: int) -> list[int | None]:
    """Return the interventions of `count` requests: as many distinct ones, in turn; 0 is none at all."""
    return [at % distinct if distinct else None for at in range(count)]


def steering(number: int | None) -> Steering | None:
    """Return the steering by intervention `number`, if it is one."""
    if number is None:
        return None
    raw = {"languages": [_language(number)], "op": "scale", "factor": FACTOR}
    return Steering(intervention=Intervention.from_dict(raw), neurons=_SET)


def _language(number: int) -> str:
    return f"l{number}"
