"""Reads facts in several languages, and the templates of the sentences that state them.

There are three layouts, each as JSON lines or Parquet:

- `facts` (`id`, `relation`, and `subject` and `object` by language) with `templates` (`relation`, `language`,
  `held_out`, and `template` with `[X]` for the subject and `[Y]` for the object);
- mLAMA: one file for each language, and `templates` with the column `lang`;
- BMLAMA-53: one file for each language, in which each fact has its own `prompt` with a `<mask>`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from ampsweep.domain.languages.codes import short_code
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import files_hash
from jobs.data.language_files import language_files, stem_of
from jobs.data.rows import Row, distinct, read_rows

FACTS = "facts"
TEMPLATES = "templates"
_MASK = "<mask>"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A fact with its subject and object by language."""

    id: str
    relation: str
    subject: Mapping[str, str]
    object: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class FactSet:
    """Facts in file order, with one template for each relation and language.

    Attributes:
        facts: The facts.
        templates: The first template that is held out from training, else the first one. Templates in which the
            subject does not precede the object are ignored, because they cannot make a premise.
        repeated_ids: How many facts, over all languages, were given a new id because an earlier fact has theirs.
        blank_words: How many subjects and objects, over all languages, are blank. They are left out, so that a language
            lacks them.
    """

    facts: tuple[Fact, ...]
    templates: Mapping[tuple[str, str], str]
    repeated_ids: int = 0
    blank_words: int = 0

    @property
    def languages(self) -> frozenset[str]:
        """Languages that have a template and a fact."""
        with_template = {language for _, language in self.templates}
        return frozenset(language for fact in self.facts for language in fact.object if language in with_template)

    def premise(self, fact: Fact, language: str) -> str | None:
        """Return a fact's sentence up to its object, without trailing space; None if the language does not have it."""
        template = self.templates.get((fact.relation, language))
        if template is None or language not in fact.subject:
            return None
        return template.partition("[Y]")[0].replace("[X]", fact.subject[language]).rstrip()

    def shared(self, bases: Iterable[str], targets: Iterable[str]) -> tuple[Fact, ...]:
        """Return the facts with a premise in each base language and an object in each base and target language."""
        bases, objects = tuple(bases), {*bases, *targets}
        return tuple(
            fact
            for fact in self.facts
            if objects <= fact.object.keys() and all(self.premise(fact, base) is not None for base in bases)
        )

    @cached_property
    def has_unusual_objects(self) -> bool:
        """Whether `plain` changes any object."""
        return any(plain(word) != word for fact in self.facts for word in fact.object.values())


def plain(word: str) -> str:
    """Return an object in Unicode's normal form C without surrounding white space. Equal results mean equal objects."""
    return unicodedata.normalize("NFC", word).strip()


def fact_files(folder: Path) -> list[Path]:
    """Return the files of a folder of facts.

    Raises:
        InvalidRequest: A file is missing, or there are two of one kind; the message lists the files in the folder.
    """
    named = _named(folder)
    if FACTS in named and TEMPLATES in named:
        return [named[FACTS], named[TEMPLATES]]
    try:
        if FACTS in named:
            raise InvalidRequest(f"{folder.name} has {named[FACTS].name} without {TEMPLATES}")
        templates = [named[TEMPLATES]] if TEMPLATES in named else []
        return [*templates, *language_files(folder, other=(TEMPLATES,)).values()]
    except InvalidRequest as error:
        raise InvalidRequest(
            f"facts need {FACTS}.jsonl and {TEMPLATES}.jsonl (or .parquet), or <language>.jsonl in the layout of mLAMA "
            f"or BMLAMA-53: {error.message}"
        ) from None


def read_facts(folder: Path) -> FactSet:
    """Read a folder of facts.

    Raises:
        InvalidRequest: A file is missing or a row is invalid; the message names the file and the problem.
    """
    return _read(folder, files_hash(fact_files(folder)))


@lru_cache(maxsize=8)
def _read(folder: Path, _hash: str) -> FactSet:
    named = _named(folder)
    if FACTS in named:
        return _in_one_file(named[FACTS], named[TEMPLATES])
    files = language_files(folder, other=(TEMPLATES,))
    return _mlama(files, named[TEMPLATES]) if TEMPLATES in named else _bmlama(files)


def _named(folder: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (stem := stem_of(path)) not in (FACTS, TEMPLATES):
            continue
        if stem in named:
            raise InvalidRequest(f"{folder.name} has both {named[stem].name} and {path.name}; keep one of them")
        named[stem] = path
    return named


def _in_one_file(facts: Path, templates: Path) -> FactSet:
    rows = read_rows(facts, required=("id", "relation", "subject", "object"))
    forms = read_rows(templates, required=("relation", "language", "template"))
    ids, repeated = distinct([row.id("id") for row in rows])
    builders = {
        name: _FactBuilder(relation=row.id("relation"), subject=row.texts("subject"), object=row.texts("object"))
        for name, row in zip(ids, rows, strict=True)
    }
    templates_in_order = (
        (form.id("relation"), short_code(form.text("language")), form.text("template"))
        for form in sorted(forms, key=lambda form: not _is_held_out(form))
    )
    return _fact_set(builders, templates_in_order, repeated)


def _is_held_out(form: Row) -> bool:
    """Return whether a template is held out from training; one that does not say so is not."""
    value = form.values.get("held_out")
    if value not in (None, False, True):  # 0 and 1 are equal to these
        raise form.wrong("held_out", "must be true or false")
    return bool(value)


@dataclass(kw_only=True)
class _FactBuilder:
    """A fact whose subject and object are added language by language."""

    relation: str
    subject: dict[str, str] = field(default_factory=dict)
    object: dict[str, str] = field(default_factory=dict)


def _mlama(files: Mapping[str, Path], templates: Path) -> FactSet:
    facts: dict[str, _FactBuilder] = {}
    repeated = 0
    for language, path in files.items():
        rows = read_rows(path, required=("relation", "lineid", "sub_label", "obj_label"), allow_empty=True)
        ids, repeated_here = distinct([f"{row.id('relation')}-{row.id('lineid')}" for row in rows])
        repeated += repeated_here
        for name, row in zip(ids, rows, strict=True):
            fact = facts.setdefault(name, _FactBuilder(relation=row.id("relation")))
            fact.subject[language], fact.object[language] = row.text("sub_label"), row.text("obj_label")
    forms = read_rows(templates, required=("relation", "lang", "template"))
    chosen = ((form.id("relation"), short_code(form.text("lang")), form.text("template")) for form in forms)
    return _fact_set(facts, chosen, repeated)


def _bmlama(files: Mapping[str, Path]) -> FactSet:
    facts: dict[str, _FactBuilder] = {}
    forms: list[tuple[str, str, str]] = []
    repeated = 0
    for language, path in files.items():
        rows = read_rows(path, required=("id", "prompt", "subject", "answer"), allow_empty=True)
        ids, repeated_here = distinct([row.id("id") for row in rows])
        repeated += repeated_here
        for name, row in zip(ids, rows, strict=True):
            subject, prompt = row.text("subject"), row.text("prompt")
            fact = facts.setdefault(name, _FactBuilder(relation=name))  # each fact has its own template
            fact.subject[language], fact.object[language] = subject, row.text("answer")
            forms.append((name, language, prompt.replace(subject, "[X]", 1).replace(_MASK, "[Y]")))
    return _fact_set(facts, forms, repeated)


def _fact_set(facts: Mapping[str, _FactBuilder], forms: Iterable[tuple[str, str, str]], repeated: int) -> FactSet:
    words = [words for fact in facts.values() for words in (fact.subject, fact.object)]
    return FactSet(
        facts=tuple(
            Fact(id=name, relation=fact.relation, subject=_written(fact.subject), object=_written(fact.object))
            for name, fact in facts.items()
        ),
        templates=_chosen(forms),
        repeated_ids=repeated,
        blank_words=sum(not word.strip() for by_language in words for word in by_language.values()),
    )


def _written(words: Mapping[str, str]) -> Mapping[str, str]:
    """Return words by language without the blank ones."""
    return {language: word for language, word in words.items() if word.strip()}


def _chosen(forms: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Return the first usable template of each relation and language."""
    chosen: dict[tuple[str, str], str] = {}
    for relation, language, template in forms:
        premise, object_mark, _ = template.partition("[Y]")
        if object_mark and "[X]" in premise:
            chosen.setdefault((relation, language), template)
    return chosen
