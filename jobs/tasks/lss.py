"""Language-steering shift: does an intervention make the object of language T likelier after a premise of language L?

`d(T|L) = logp(obj_T | premise_L) - logp(obj_L | premise_L)`, in nats; the share of facts for which d grows under an
intervention is LSS(L -> T), see `jobs.metrics.shift`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ampsweep.errors import InvalidRequest
from ampsweep.hashing import files_hash
from jobs.cell import TaskRef
from jobs.data.facts import Fact, FactSet, fact_files, plain, read_facts
from jobs.data.rows import repairs
from jobs.metrics.base import Metric
from jobs.metrics.shift import Shift
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.file_task import FileTask
from jobs.tasks.requests import Answer, ScoreCall
from jobs.tasks.scoring import failed_sample, scored_sample

UNSPACED = frozenset({"ja", "th", "zh"})
"""Languages written without spaces between words: no space stands before an object there."""


class Lss(FileTask):
    """A sample's `score` is d(T|L); its calls are the object of T, then that of L, both after the premise of L.

    `prediction` is the language of the likelier object; there is no gold answer. Where the data is not the same in all
    languages, the facts are those that all base and target languages of the task have (`TaskRef.shared_by`), or with
    `facts: any` those that the two of the cell have. With a limit, they are the first ones of a permutation by the
    seed, so they are the same in every pair of languages; they stay in file order. Facts whose two objects are the
    same (in Unicode's normal form C, without outer space), and those one of the languages does not have, are left out
    and counted.

    In the mode `paper` a space stands before every object, and facts whose two objects are the same string are kept:
    their d is 0 whatever is done, so they count as not shifted.
    """

    name = "lss"
    metrics: tuple[Metric, ...] = (Shift(),)
    needs_target_language = True
    limit_draws = True
    default_data = "atlas"
    default_split = None

    def __init__(self, *, paper: bool = False) -> None:
        self._paper = paper
        self.version = 3 if paper else 2

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that have templates and facts."""
        del split
        return read_facts(folder).languages

    def files(self, folder: Path, split: str | None, language: str) -> list[Path]:
        """Return the facts' and the templates' file, which hold all languages."""
        del split, language
        return fact_files(folder)

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with the hash of its files; `shared_by` stays only where a fact is not in all of them.

        Raises InvalidRequest where no fact is.
        """
        settled = super().resolve(folder, ref)
        if not ref.shared_by:
            return settled
        bases, targets = ref.shared_by
        shared = len(_shared(folder, bases, targets))
        if not shared:
            raise InvalidRequest(
                f"no fact of {ref.data} is in all of the languages {', '.join(sorted({*bases, *targets}))}; give fewer "
                "languages, or facts: any",
                param="facts",
            )
        return replace(settled, shared_by=()) if shared == len(read_facts(folder).facts) else settled

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how many ids repeat, and how many pairs of objects are the same but for how they are written."""
        book = read_facts(folder)
        alike = 0
        if book.has_unusual_objects and not self._paper:
            pairs = (self._objects(fact, ref) for fact in book.facts)
            alike = sum(one != other and _same(one, other) for one, other in pairs)
        return repairs(repeated_ids=book.repeated_ids, equal_objects=alike)

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return what the reader did to the data, and of how many facts the items are."""
        found = super().warnings(folder, refs)
        bases, targets = _languages(refs)
        known, shared = len(read_facts(folder).facts), len(_shared(folder, bases, targets))
        if shared == known:
            return found
        languages = ", ".join(sorted({*bases, *targets}))
        if any(ref.shared_by for ref in refs):
            limit = refs[0].limit
            few = f", fewer than the limit of {limit}" if limit is not None and limit > shared else ""
            message = f"of {known} facts {shared} are in all of the languages {languages}{few}; these are asked"
        else:
            message = (
                f"of {known} facts {shared} are in all of the languages {languages}; pairs are asked different ones"
            )
        return [*found, f"lss: {message}"]

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each fact that tells L from T."""
        book = read_facts(folder)
        facts = _shared(folder, *ref.shared_by) if ref.shared_by else book.facts
        if ref.limit is not None and ref.limit < len(facts):
            chosen = np.random.default_rng(seed).permutation(len(facts))[: ref.limit]
            facts = tuple(facts[index] for index in sorted(chosen.tolist()))
        items = [item for fact in facts if (item := self._item(book, fact, ref))]
        return ItemSet(items=tuple(items), left_out=len(facts) - len(items))

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Return d(T|L) of one fact."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        target, base = (sum(answer.logprobs) for answer in answers)
        if item.meta.get("same"):  # whatever the two requests' rounding says
            target = base
        likelier = item.meta["target" if target > base else "base"]
        return scored_sample(item, answers, score=target - base, prediction=likelier)

    def _item(self, book: FactSet, fact: Fact, ref: TaskRef) -> Item | None:
        premise = book.premise(fact, ref.data_language)
        target, base = self._objects(fact, ref)
        if premise is None or target is None or base is None or (_same(target, base) and not self._paper):
            return None
        space = "" if ref.data_language in UNSPACED and not self._paper else " "
        return Item(
            doc_id=fact.id,
            calls=tuple(ScoreCall(context=premise, continuation=f"{space}{answer}") for answer in (target, base)),
            meta={"base": ref.data_language, "target": ref.target_language, "same": target == base},
        )

    def _objects(self, fact: Fact, ref: TaskRef) -> tuple[str | None, str | None]:
        """Return the objects of T and L."""
        assert ref.target_language is not None
        return fact.object.get(ref.target_language), fact.object.get(ref.data_language)


def _same(one: str | None, other: str | None) -> bool:
    """Return whether two objects are there, and the same but for how they are written."""
    return one is not None and other is not None and plain(one) == plain(other)


def _languages(refs: Sequence[TaskRef]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the base languages of a task's references, and the target languages that are no base."""
    bases = {ref.data_language for ref in refs}
    targets = {ref.target_language for ref in refs if ref.target_language is not None}
    return tuple(sorted(bases)), tuple(sorted(targets - bases))


def _shared(folder: Path, bases: tuple[str, ...], targets: tuple[str, ...]) -> tuple[Fact, ...]:
    return _shared_of(folder, files_hash(fact_files(folder)), bases, targets)


@lru_cache(maxsize=32)
def _shared_of(folder: Path, _hash: str, bases: tuple[str, ...], targets: tuple[str, ...]) -> tuple[Fact, ...]:
    return read_facts(folder).shared(bases, targets)
