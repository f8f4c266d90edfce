"""LSS over all ordered pairs of the atlas' languages: does an edit make the answer in another language likelier?

``d(T|L) = logp(answer in T | premise in L) - logp(answer in L | premise in L)``; LSS(L -> T) is the share of facts for
which d grows. Premises and spaces are those of the ``lss`` task.
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
    """What one op does: LSS of each ordered pair (base, target), and the share of facts answered in the target."""

    lss: Pairs
    flipped: Pairs

    @property
    def mean(self) -> float:
        """LSS, averaged over the pairs."""
        return float(np.mean(list(self.lss.values())))

    def mean_to(self, target: str) -> float:
        """LSS to one target language, averaged over the languages of the premise."""
        return float(np.mean([value for (_, other), value in self.lss.items() if other == target]))


class ShiftMeter:
    """LSS over all ordered pairs of languages, the unsteered side computed once."""

    def __init__(self, scorer: Scorer, neurons: NeuronSet, book: FactSet, *, limit: int, seed: int) -> None:
        """Draw ``limit`` facts a pair (seeded) of those whose two objects differ; ``left_out`` counts the others."""
        self.scorer = scorer
        self.neurons = neurons
        self.left_out = 0
        self.items: dict[tuple[str, str], list[ScoredTokens]] = {}
        draw = random.Random(seed)
        for base, target in itertools.permutations(LANGUAGES, 2):
            facts = [fact for fact in book.facts if fact.object[base] != fact.object[target]]
            self.left_out += len(book.facts) - len(facts)
            facts = draw.sample(facts, min(limit, len(facts)))
            space = "" if base in UNSPACED else " "
            self.items[base, target] = [
                scorer.tokens(str(book.premise(fact, base)), space + fact.object[language])
                for language in (target, base)
                for fact in facts
            ]
        self.unsteered = self._differences(None)

    def measure(self, op: Mapping[str, Any]) -> Shift:
        """Apply an op (its public form, less the languages) for each target language."""
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
            for pair, own in zip(pairs, np.split(scores, ends), strict=True):
                of_target, of_base = np.split(own, 2)
                differences[pair] = of_target - of_base
        return differences
