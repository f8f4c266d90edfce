"""The work of the throughput benchmark: texts of random letters, each a token, and interventions."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.base import EngineInfo, Steering
from engine.neurons.neuron_set import NeuronSet

SHARE = 0.01
"""Share of each layer's neurons that an intervention edits."""
FACTOR = 1.5
SEED = 0
_SET = "ns_benchmark"


@dataclass(frozen=True, kw_only=True)
class GeneratedItem:
    """A prompt to continue by `new_tokens` tokens, steered by the intervention with this number, or by none.

    With `vector` the intervention adds a vector to the residual stream instead of scaling neurons.
    """

    prompt: str
    new_tokens: int
    intervention: int | None
    vector: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """An option to score after a context, steered by the intervention with this number, or by none."""

    context: str
    option: str
    intervention: int | None


class Texts:
    """Makes random texts. None occurs twice, so that a prefix cache does not help.

    Lengths are spread evenly between two bounds and shuffled, so that the same number of texts always has the same
    number of tokens.
    """

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)

    def texts(self, count: int, shortest: int, longest: int | None = None) -> list[str]:
        """Return `count` texts of `shortest` to `longest` letters; without `longest` all have the same length."""
        lengths = np.linspace(shortest, longest or shortest, count).round().astype(int)
        return ["".join(self._random.choice(list(ascii_lowercase), length)) for length in self._shuffled(lengths)]

    def scored(
        self, count: int, *, context: tuple[int, int], option: tuple[int, int], options: int, distinct: int
    ) -> list[ScoredItem]:
        """Return `count` items with lengths in these bounds, `options` per context, under `distinct` interventions."""
        contexts = self.texts(count // options, *context)
        numbers = in_turn(distinct, len(contexts))
        return [
            ScoredItem(context=contexts[index // options], option=text, intervention=numbers[index // options])
            for index, text in enumerate(self.texts(count, *option))
        ]

    def answers(self, count: int, *, mean: int) -> list[int]:
        """Return `count` lengths of answers with a geometric distribution: most are short, a few are long."""
        survival = 1 - (np.arange(count) + 0.5) / count
        return self._shuffled(np.ceil(np.log(survival) / np.log(1 - 1 / mean)).astype(int))

    def _shuffled(self, lengths: NDArray[np.int64]) -> list[int]:
        shuffled: list[int] = self._random.permutation(lengths).tolist()
        return shuffled


def neurons_of(widths: LayerWidths, number: int) -> list[NDArray[np.int64]]:
    """Return the sorted neurons of each layer that intervention `number` edits: a random share, different for each."""
    random = np.random.default_rng((SEED, number))
    return [np.sort(random.choice(width, round(width * SHARE), replace=False)) for width in widths.by_layer]


def neuron_set(info: EngineInfo, count: int) -> NeuronSet:
    """Return a neuron set with one language for each of the first `count` interventions, and random mean residuals."""
    residual_mean = np.random.default_rng(SEED).normal(size=(count, info.layers, info.hidden_size))
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
                [(layer, index) for layer, indices in enumerate(neurons_of(info.widths, number)) for index in indices],
                dtype=np.int32,
            )
            for number in range(count)
        },
        residual_mean=residual_mean.astype(np.float32),
    )


def in_turn(distinct: int, count: int) -> list[int | None]:
    """Return the interventions of `count` requests, which cycle through `distinct` ones; with 0 all are unsteered."""
    return [index % distinct if distinct else None for index in range(count)]


def steering(number: int | None, *, vector: bool = False) -> Steering | None:
    """Return the steering by intervention `number`, with `vector` of the residual stream; None for None."""
    if number is None:
        return None
    raw = {"languages": [_language(number)], "op": "scale", "factor": FACTOR}
    if vector:
        raw |= {"op": "add", "vector": "diffmean"}
    return Steering(intervention=Intervention.from_dict(raw), neurons=_SET)


def _language(number: int) -> str:
    return f"l{number}"
