"""Computes LSS over all ordered pairs of the atlas's languages: does an edit make the answer in T likelier?

`d(T|L) = logp(answer in T | premise in L) - logp(answer in L | premise in L)`; LSS(L -> T) is the share of facts for
which d grows. Premises and spaces are those of the task `lss`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ampsweep.domain.intervention import Intervention
from engine.neurons.neuron_set import NeuronSet
from engine.steering.edits import resolve
from engine.tokenization import ScoredTokens
from examples.atlas.documents import UNSPACED
from examples.atlas.labels import LANGUAGES
from examples.atlas.scoring import Scorer
from jobs.data.facts import FactSet

Pairs = dict[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """The effect of an op: LSS, and the share of facts answered in the target, by ordered pair (base, target)."""

    lss: Pairs
    flipped: Pairs

    @property
    def mean(self) -> float:
        """Mean LSS over the pairs."""
        return float(np.mean(list(self.lss.values())))

    def mean_to(self, target: str) -> float:
        """Return the mean LSS to a target language over the languages of the premise."""
        return float(np.mean([value for (_, other), value in self.lss.items() if other == target]))


class ShiftMeter:
    """Measures the effect of ops on all ordered pairs of languages; the unsteered scores are computed once."""

    def __init__(self, scorer: Scorer, neurons: NeuronSet, fact_set: FactSet, *, limit: int, seed: int) -> None:
        """Draw up to `limit` facts with different objects for each pair; `left_out` counts those with equal objects."""
        self.scorer = scorer
        self.neurons = neurons
        self.left_out = 0
        self.items: dict[tuple[str, str], list[ScoredTokens]] = {}
        draw = random.Random(seed)
        for base, target in itertools.permutations(LANGUAGES, 2):
            facts = [fact for fact in fact_set.facts if fact.object[base] != fact.object[target]]
            self.left_out += len(fact_set.facts) - len(facts)
            facts = draw.sample(facts, min(limit, len(facts)))
            space = "" if base in UNSPACED else " "
            self.items[base, target] = [
                scorer.tokens(str(fact_set.premise(fact, base)), space + fact.object[language])
                for language in (target, base)
                for fact in facts
            ]
        self.unsteered = self._differences(None)

    def measure(self, op: Mapping[str, Any]) -> Shift:
        """Measure an op, in JSON form without languages, for each target language."""
        steered = self._differences(op)
        return Shift(
            lss={pair: float((steered[pair] > self.unsteered[pair]).mean()) for pair in steered},
            flipped={pair: float((steered[pair] > 0).mean()) for pair in steered},
        )

    def _differences(self, op: Mapping[str, Any] | None) -> dict[tuple[str, str], NDArray[np.float64]]:
        differences = {}
        for target in LANGUAGES:
            pairs = [(base, target) for base in LANGUAGES if base != target]
            edits = None
            if op is not None:
                edits = resolve(Intervention.from_dict({**op, "languages": [target]}), self.neurons)
            scores = self.scorer.score([item for pair in pairs for item in self.items[pair]], edits)
            ends = np.cumsum([len(self.items[pair]) for pair in pairs])[:-1]
            for pair, pair_scores in zip(pairs, np.split(scores, ends), strict=True):
                target_scores, base_scores = np.split(pair_scores, 2)
                differences[pair] = target_scores - base_scores
        return differences
