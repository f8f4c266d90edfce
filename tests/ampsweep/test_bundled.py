"""The bundled files are unchanged, because their bytes are part of the ids of cells."""

from __future__ import annotations

from ampsweep.bundled import ATLAS_FOLDER
from ampsweep.hashing import file_hash


def test_the_bundled_facts_are_what_they_were() -> None:
    assert {name: file_hash(ATLAS_FOLDER / name)[:16] for name in ("facts.jsonl", "templates.jsonl")} == {
        "facts.jsonl": "e9e68c68f752c34e",
        "templates.jsonl": "48880c91951db973",
    }
