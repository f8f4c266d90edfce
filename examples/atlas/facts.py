"""Builds the facts, templates and corpus of the atlas in `ampsweep/atlas`. Every run writes the same files.

Needs Babel, which contains the locale data of CLDR.

Usage: python -m examples.atlas.facts [FOLDER]
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.atlas import labels
from examples.atlas.forms import RELATIONS, templates

ATLAS = Path(__file__).parents[2] / "ampsweep" / "atlas"
CORPUS_SENTENCES = 1000
OBJECTS = {
    "capital": labels.capital,
    "currency": labels.currency,
    "language": labels.official_language,
    "region": labels.region,
    "continent": labels.continent,
}


def facts() -> Iterator[dict[str, Any]]:
    """Yield rows `{"id", "relation", "subject": {language: str}, "object": {language: str}}`, country by country."""
    for code in labels.COUNTRIES:
        subject = labels.territory(code)
        for relation in RELATIONS:
            answer = OBJECTS[relation](code)
            if answer is not None:
                yield {"id": f"{relation}-{code}", "relation": relation, "subject": subject, "object": answer}


def template_rows() -> Iterator[dict[str, Any]]:
    """Yield rows `{"relation", "language", "template", "held_out"}`."""
    for language in labels.LANGUAGES:
        for relation in RELATIONS:
            forms = templates(language, relation)
            for form in forms:
                yield {"relation": relation, "language": language, "template": form, "held_out": form == forms[-1]}


def sentences(language: str, rows: list[dict[str, Any]]) -> list[str]:
    """Return a language's corpus for identification: facts in the templates that are not held out, shuffled."""
    statements = [
        form.replace("[X]", row["subject"][language]).replace("[Y]", row["object"][language])
        for row in rows
        for form in templates(language, row["relation"])[:-1]
    ]
    random.Random(language).shuffle(statements)
    return statements[:CORPUS_SENTENCES]


def main(folder: Path) -> None:
    """Write `facts.jsonl`, `templates.jsonl` and `corpus/<language>.txt.gz`."""
    rows = list(facts())
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for name, lines in (("facts", rows), ("templates", list(template_rows()))):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    for language in labels.LANGUAGES:
        text = "".join(f"{sentence}\n" for sentence in sentences(language, rows))
        (folder / "corpus" / f"{language}.txt.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(rows)} facts, {len(labels.LANGUAGES)} languages, in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ATLAS)
