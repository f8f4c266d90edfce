"""Facts that hold in many languages, and the sentences that ask for them.

A folder of facts has `facts.jsonl` (`id`, `relation`, `subject` and `object` by language) and `templates.jsonl`
(`relation`, `language`, `template` with `[X]` for the subject and `[Y]` for the object, `held_out`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ampsweep.errors import InvalidRequest
from ampsweep.folders.hashing import files_hash
from jobs.data.jsonl import read_jsonl

FACTS = "facts.jsonl"
TEMPLATES = "templates.jsonl"


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact, its subject and object by language."""

    id: str
    relation: str
    subject: Mapping[str, str]
    object: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class FactBook:
    """Facts in file order, and for each (relation, language) the one template that is used.

    That is the first one held out from training, else the first; templates whose subject does not come before the
    object cannot make a premise and are passed over.
    """

    facts: tuple[Fact, ...]
    templates: Mapping[tuple[str, str], str]

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


def fact_files(folder: Path) -> list[Path]:
    """Return the files that make up a folder of facts; InvalidRequest where one is missing, listing what is there."""
    files = [folder / FACTS, folder / TEMPLATES]
    for path in files:
        if not path.is_file():
            there = ", ".join(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else "nothing"
            raise InvalidRequest(f"facts need {FACTS} and {TEMPLATES}; {folder.name} has: {there or 'nothing'}")
    return files


def read_facts(folder: Path) -> FactBook:
    """Read a folder of facts; InvalidRequest names what is wrong in which file."""
    files = fact_files(folder)
    return _read(*files, files_hash(files))


@lru_cache(maxsize=8)
def _read(facts: Path, templates: Path, _hash: str) -> FactBook:
    rows = read_jsonl(facts, required=("id", "relation", "subject", "object"))
    chosen: dict[tuple[str, str], str] = {}
    forms = read_jsonl(templates, required=("relation", "language", "template"))
    for row in sorted(forms, key=lambda form: not form.get("held_out", False)):
        before = row["template"].partition("[Y]")
        if before[1] and "[X]" in before[0]:
            chosen.setdefault((row["relation"], row["language"]), row["template"])
    return FactBook(
        facts=tuple(Fact(**{key: row[key] for key in ("id", "relation", "subject", "object")}) for row in rows),
        templates=chosen,
    )
