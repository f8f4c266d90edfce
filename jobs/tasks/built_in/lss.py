"""Language-steering shift: does an intervention make the object in language T more likely after a premise in L?

`d(T|L) = logp(obj_T | premise_L) - logp(obj_L | premise_L)`, in nats. LSS(L -> T) is the share of facts whose d grows
under an intervention; see `jobs.metrics.shift`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ampsweep.domain.languages.codes import script_of
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

UNSPACED = frozenset({"Hani", "Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt"})
"""Scripts of languages written without spaces between words; their objects follow the premise without a space."""


class Lss(FileTask):
    """Scores the object in T, then the object in L, both after the premise in L; a sample's `score` is d(T|L).

    `prediction` is the language of the likelier object; there is no gold answer.

    If the languages do not all have the same facts, the facts are those that all base and target languages of the task
    share (`TaskRef.shared_by`), or with `facts: any` those that both languages of the cell have. A limit draws facts
    with the sweep's seed, the same ones for every pair of languages, and keeps them in file order. Facts that one of
    the languages lacks are left out and counted, and so are facts whose two objects are equal (in Unicode's normal
    form C, without surrounding white space).

    In the mode `paper` a space precedes every object, and facts whose two objects are the same string are kept. Their
    d is always 0, so they count as not shifted.
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
        """Return the files with the facts and the templates of all languages."""
        del split, language
        return fact_files(folder)

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Complete a reference with the hash of its files, and clear `shared_by` if the languages share all facts.

        Raises:
            InvalidRequest: The languages share no fact.
        """
        resolved = super().resolve(folder, ref)
        if not ref.shared_by:
            return resolved
        bases, targets = ref.shared_by
        shared = len(_shared(folder, bases, targets))
        if not shared:
            raise InvalidRequest(
                f"no fact of {ref.data} is in all of the languages {', '.join(sorted({*bases, *targets}))}; give fewer "
                "languages, or facts: any",
                param="facts",
            )
        return replace(resolved, shared_by=()) if shared == len(read_facts(folder).facts) else resolved

    def repairs(self, folder: Path, ref: TaskRef) -> Mapping[str, int]:
        """Return how many ids repeat and words are blank, and how many objects differ in form or outer space only."""
        fact_set = read_facts(folder)
        equal_objects = 0
        if fact_set.has_unusual_objects and not self._paper:
            pairs = (self._objects(fact, ref) for fact in fact_set.facts)
            equal_objects = sum(target != base and _equal(target, base) for target, base in pairs)
        return repairs(
            repeated_ids=fact_set.repeated_ids, blank_words=fact_set.blank_words, equal_objects=equal_objects
        )

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return the reader's repairs, and how many facts the languages share if they do not share all."""
        messages = super().warnings(folder, refs)
        bases, targets = _languages(refs)
        total, shared = len(read_facts(folder).facts), len(_shared(folder, bases, targets))
        if shared == total:
            return messages
        languages = ", ".join(sorted({*bases, *targets}))
        if any(ref.shared_by for ref in refs):
            limit = refs[0].limit
            few = f", fewer than the limit of {limit}" if limit is not None and limit > shared else ""
            message = f"{shared} of {total} facts are in all of the languages {languages}{few}; only these are used"
        else:
            message = (
                f"{shared} of {total} facts are in all of the languages {languages}; pairs of languages use different "
                "facts"
            )
        return [*messages, f"lss: {message}"]

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each fact whose objects differ between L and T."""
        fact_set = read_facts(folder)
        facts = _shared(folder, *ref.shared_by) if ref.shared_by else fact_set.facts
        if ref.limit is not None and ref.limit < len(facts):
            chosen = np.random.default_rng(seed).permutation(len(facts))[: ref.limit]
            facts = tuple(facts[index] for index in sorted(chosen.tolist()))
        items = [item for fact in facts if (item := self._item(fact_set, fact, ref))]
        return ItemSet(items=tuple(items), left_out=len(facts) - len(items))

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Return d(T|L) of one fact."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        target, base = (sum(answer.logprobs) for answer in answers)
        if item.meta.get("same"):  # the two requests may differ by rounding
            target = base
        likelier = item.meta["target" if target > base else "base"]
        return scored_sample(item, answers, score=target - base, prediction=likelier)

    def _item(self, fact_set: FactSet, fact: Fact, ref: TaskRef) -> Item | None:
        premise = fact_set.premise(fact, ref.data_language)
        target, base = self._objects(fact, ref)
        if premise is None or target is None or base is None or (_equal(target, base) and not self._paper):
            return None
        space = "" if script_of(ref.data_language) in UNSPACED and not self._paper else " "
        return Item(
            doc_id=fact.id,
            calls=tuple(ScoreCall(context=premise, continuation=f"{space}{answer}") for answer in (target, base)),
            meta={
                "base": ref.data_language,
                "target": ref.target_language,
                "same": target == base,
                "labels": (ref.target_language, ref.data_language),
            },
        )

    def _objects(self, fact: Fact, ref: TaskRef) -> tuple[str | None, str | None]:
        """Return the objects in T and L."""
        assert ref.target_language is not None
        return fact.object.get(ref.target_language), fact.object.get(ref.data_language)


def _equal(first: str | None, second: str | None) -> bool:
    """Return whether both objects exist and are equal except for their Unicode form and white space."""
    return first is not None and second is not None and plain(first) == plain(second)


def _languages(refs: Sequence[TaskRef]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the base languages of a task's references, and the target languages that are not among them."""
    bases = {ref.data_language for ref in refs}
    targets = {ref.target_language for ref in refs if ref.target_language is not None}
    return tuple(sorted(bases)), tuple(sorted(targets - bases))


def _shared(folder: Path, bases: tuple[str, ...], targets: tuple[str, ...]) -> tuple[Fact, ...]:
    return _shared_of(folder, files_hash(fact_files(folder)), bases, targets)


@lru_cache(maxsize=32)
def _shared_of(folder: Path, _hash: str, bases: tuple[str, ...], targets: tuple[str, ...]) -> tuple[Fact, ...]:
    return read_facts(folder).shared(bases, targets)
