"""Facts that hold in many languages, and the sentences that ask for them.

Three layouts, each as JSON lines or Parquet: `facts` (`id`, `relation`, `subject` and `object` by language) with
`templates` (`relation`, `language`, `template` with `[X]` for the subject and `[Y]` for the object, `held_out`);
mLAMA's, a file a language with its own `templates` (`lang`); BMLAMA-53's, a file a language in which each fact has its
`prompt` with a `<mask>`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from ampsweep.domain.languages import short_code
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import files_hash
from jobs.data.language_files import language_files, stem_of
from jobs.data.rows import distinct, read_rows

FACTS = "facts"
TEMPLATES = "templates"
_MASK = "<mask>"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact, its subject and object by language."""

    id: str
    relation: str
    subject: Mapping[str, str]
    object: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class FactSet:
    """Facts in file order, and for each (relation, language) the one template that is used.

    That is the first one held out from training, else the first; templates whose subject does not come before the
    object cannot make a premise and are passed over. `repeated_ids` counts the facts that got an id of their own
    because an earlier one has theirs, over all languages.
    """

    facts: tuple[Fact, ...]
    templates: Mapping[tuple[str, str], str]
    repeated_ids: int = 0

    @property
    def languages(self) -> frozenset[str]:
        """Languages that have a template and a fact."""
        told = {language for _, language in self.templates}
        return frozenset(language for fact in self.facts for language in fact.object if language in told)

    def premise(self, fact: Fact, language: str) -> str | None:
        """Return the sentence of a fact up to its object, no space at its end; None where the language lacks it."""
        template = self.templates.get((fact.relation, language))
        if template is None or language not in fact.subject:
            return None
        return template.partition("[Y]")[0].replace("[X]", fact.subject[language]).rstrip()

    def shared(self, bases: Iterable[str], targets: Iterable[str]) -> tuple[Fact, ...]:
        """Return the facts that all these languages have: a premise in each base language, an object in each."""
        bases, objects = tuple(bases), {*bases, *targets}
        return tuple(
            fact
            for fact in self.facts
            if objects <= fact.object.keys() and all(self.premise(fact, base) is not None for base in bases)
        )

    @cached_property
    def has_unusual_objects(self) -> bool:
        """Whether an object is not written as `plain` writes it."""
        return any(plain(word) != word for fact in self.facts for word in fact.object.values())


def plain(word: str) -> str:
    """Return an object in Unicode's normal form C without outer space: two that agree in this are the same."""
    return unicodedata.normalize("NFC", word).strip()


def fact_files(folder: Path) -> list[Path]:
    """Return the files that make up a folder of facts; InvalidRequest where one is missing, listing what is there."""
    named = _named(folder)
    if FACTS in named and TEMPLATES in named:
        return [named[FACTS], named[TEMPLATES]]
    try:
        if FACTS in named:
            raise InvalidRequest("there are no templates")
        own = [named[TEMPLATES]] if TEMPLATES in named else []
        return [*own, *language_files(folder, other=(TEMPLATES,)).values()]
    except InvalidRequest:
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else "nothing"
        raise InvalidRequest(
            f"facts need {FACTS}.jsonl and {TEMPLATES}.jsonl (or .parquet), or <language>.jsonl as mLAMA and BMLAMA-53 "
            f"have it; {folder.name} has: {there or 'nothing'}"
        ) from None


def read_facts(folder: Path) -> FactSet:
    """Read a folder of facts; InvalidRequest names what is wrong in which file."""
    return _read(folder, files_hash(fact_files(folder)))


@lru_cache(maxsize=8)
def _read(folder: Path, _hash: str) -> FactSet:
    named = _named(folder)
    if FACTS in named:
        return _in_one_file(named[FACTS], named[TEMPLATES])
    files = language_files(folder, other=(TEMPLATES,))
    return _mlama(files, named[TEMPLATES]) if TEMPLATES in named else _bmlama(files)


def _named(folder: Path) -> dict[str, Path]:
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return {stem: path for path in entries if (stem := stem_of(path)) in (FACTS, TEMPLATES)}


def _in_one_file(facts: Path, templates: Path) -> FactSet:
    rows = read_rows(facts, required=("id", "relation", "subject", "object"))
    forms = read_rows(templates, required=("relation", "language", "template"))
    ids, repeated = distinct([row.id("id") for row in rows])
    return FactSet(
        facts=tuple(
            Fact(id=name, relation=row.id("relation"), subject=row.texts("subject"), object=row.texts("object"))
            for name, row in zip(ids, rows, strict=True)
        ),
        templates=_chosen(
            (form.id("relation"), short_code(form.text("language")), form.text("template"))
            for form in sorted(forms, key=lambda form: not form.values.get("held_out", False))
        ),
        repeated_ids=repeated,
    )


@dataclass(kw_only=True)
class _FactBuilder:
    """A fact to which each language adds its words."""

    relation: str
    subject: dict[str, str] = field(default_factory=dict)
    object: dict[str, str] = field(default_factory=dict)


def _mlama(files: Mapping[str, Path], templates: Path) -> FactSet:
    facts: dict[str, _FactBuilder] = {}
    repeated = 0
    for language, path in files.items():
        rows = read_rows(path, required=("relation", "lineid", "sub_label", "obj_label"))
        ids, again = distinct([f"{row.id('relation')}-{row.id('lineid')}" for row in rows])
        repeated += again
        for name, row in zip(ids, rows, strict=True):
            fact = facts.setdefault(name, _FactBuilder(relation=row.id("relation")))
            fact.subject[language], fact.object[language] = row.text("sub_label"), row.text("obj_label")
    forms = read_rows(templates, required=("relation", "lang", "template"))
    chosen = ((form.id("relation"), short_code(form.text("lang")), form.text("template")) for form in forms)
    return _grown(facts, chosen, repeated)


def _bmlama(files: Mapping[str, Path]) -> FactSet:
    facts: dict[str, _FactBuilder] = {}
    forms: list[tuple[str, str, str]] = []
    repeated = 0
    for language, path in files.items():
        rows = read_rows(path, required=("id", "prompt", "subject", "answer"))
        ids, again = distinct([row.id("id") for row in rows])
        repeated += again
        for name, row in zip(ids, rows, strict=True):
            subject, prompt = row.text("subject"), row.text("prompt")
            fact = facts.setdefault(name, _FactBuilder(relation=name))  # each fact has its own sentence
            fact.subject[language], fact.object[language] = subject, row.text("answer")
            forms.append((name, language, prompt.replace(subject, "[X]", 1).replace(_MASK, "[Y]")))
    return _grown(facts, forms, repeated)


def _grown(facts: Mapping[str, _FactBuilder], forms: Iterable[tuple[str, str, str]], repeated: int) -> FactSet:
    return FactSet(
        facts=tuple(
            Fact(id=name, relation=fact.relation, subject=fact.subject, object=fact.object)
            for name, fact in facts.items()
        ),
        templates=_chosen(forms),
        repeated_ids=repeated,
    )


def _chosen(forms: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Return the first usable template of each relation and language."""
    chosen: dict[tuple[str, str], str] = {}
    for relation, language, template in forms:
        before = template.partition("[Y]")
        if before[1] and "[X]" in before[0]:
            chosen.setdefault((relation, language), template)
    return chosen
