"""Language-steering shift: does an intervention make the object of language T likelier after a premise of language L?

`d(T|L) = logp(obj_T | premise_L) - logp(obj_L | premise_L)`, in nats; the share of facts for which d grows under an
intervention is LSS(L -> T), see `jobs.metrics.shift`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.cell import TaskRef
from jobs.data.facts import Fact, FactBook, fact_files, read_facts
from jobs.metrics.metric import Metric
from jobs.metrics.shift import Shift
from jobs.requests import Answer, ScoreCall
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet, OfFiles, failed, scored

UNSPACED = frozenset({"ja", "th", "zh"})
"""Languages written without spaces between words: no space stands before an object there."""


class Lss(OfFiles):
    """A sample's `score` is d(T|L); its calls are the object of T, then that of L, both after the premise of L.

    `prediction` is the language of the likelier object; there is no gold answer. With a limit, the facts are the first
    ones of a permutation by the seed, so they are the same in every pair of languages; they stay in file order. Facts
    whose two objects are the same string, and those one of the languages does not have, are left out and counted. In
    the mode `paper` a space stands before every object.
    """

    name = "lss"
    version = 1
    metrics: tuple[Metric, ...] = (Shift(),)
    compares = True
    limit_draws = True
    default_data = "atlas"
    default_split = None

    def __init__(self, *, paper: bool = False) -> None:
        self._paper = paper

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have templates and facts."""
        del split
        return read_facts(folder).languages

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the facts' and the templates' file, which hold all languages."""
        del split, language
        return fact_files(folder)

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each fact that tells L from T."""
        assert ref.target_language is not None
        book = read_facts(folder)
        facts = book.facts
        if ref.limit is not None and ref.limit < len(facts):
            chosen = np.random.default_rng(seed).permutation(len(facts))[: ref.limit]
            facts = tuple(facts[index] for index in sorted(chosen.tolist()))
        items = [item for fact in facts if (item := self._item(book, fact, ref.data_language, ref.target_language))]
        return ItemSet(items=tuple(items), left_out=len(facts) - len(items))

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Return d(T|L) of one fact."""
        if (sample := failed(item, answers)) is not None:
            return sample
        target, base = (sum(answer.logprobs) for answer in answers)
        likelier = item.meta["target" if target > base else "base"]
        return scored(item, answers, score=target - base, prediction=likelier)

    def _item(self, book: FactBook, fact: Fact, base: str, target: str) -> Item | None:
        premise = book.premise(fact, base)
        objects = (fact.object.get(target), fact.object.get(base))
        if premise is None or None in objects or objects[0] == objects[1]:
            return None
        space = "" if base in UNSPACED and not self._paper else " "
        return Item(
            doc_id=fact.id,
            calls=tuple(ScoreCall(context=premise, continuation=f"{space}{answer}") for answer in objects),
            meta={"base": base, "target": target},
        )
