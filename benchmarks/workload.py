"""What the throughput benchmark asks of the engines: texts of random letters, a token each, and interventions."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.intervention import Intervention
from engine.base import EngineInfo, Steering
from engine.neurons.neuron_set import NeuronSet

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
    """An endless supply: no run has a text that another had, so that no prefix cache answers for the model.

    Lengths are spread evenly between two bounds and shuffled, so that equally many texts are equally many tokens.
    """

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)

    def texts(self, count: int, shortest: int, longest: int | None = None) -> list[str]:
        """Return `count` texts of so many letters; without `longest` all have the same length."""
        lengths = np.linspace(shortest, longest or shortest, count).round().astype(int)
        return ["".join(self._random.choice(list(ascii_lowercase), length)) for length in self._shuffled(lengths)]

    def scored(
        self, count: int, *, context: tuple[int, int], option: tuple[int, int], options: int, distinct: int
    ) -> list[ScoredItem]:
        """Return items with lengths in those bounds, `options` to a context, under `distinct` interventions."""
        contexts = self.texts(count // options, *context)
        numbers = in_turn(distinct, len(contexts))
        return [
            ScoredItem(context=contexts[at // options], option=text, intervention=numbers[at // options])
            for at, text in enumerate(self.texts(count, *option))
        ]

    def answers(self, count: int, *, mean: int) -> list[int]:
        """Return the lengths of answers that are as likely to end at any token: most are short, a few go on."""
        alive = 1 - (np.arange(count) + 0.5) / count
        return self._shuffled(np.ceil(np.log(alive) / np.log(1 - 1 / mean)).astype(int))

    def _shuffled(self, lengths: NDArray[np.int64]) -> list[int]:
        shuffled: list[int] = self._random.permutation(lengths).tolist()
        return shuffled


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
