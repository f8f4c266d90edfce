"""Inputs of the tests of jobs: a clock that tests set, predictable ids, facts in four languages, a stub model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from sqlalchemy import event

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.neuron_set import NeuronsRef
from jobs.cell import Cell, TaskRef
from jobs.clock import Clock
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import MAX_CELLS, Plan, plan
from jobs.sample import Sample
from jobs.spec.sweep import parse_spec
from jobs.store.records import CellFile, CellOutcome, CellRecord, CellReport, Lease
from jobs.store.sql.database import sqlite_engine
from jobs.store.sql.store import SqlStore
from jobs.store.transitions import CellState

LANGUAGES = ("en", "fr", "tr", "zh")
CAPITALS = {
    "FR": {"en": "Paris", "fr": "Paris", "tr": "Paris", "zh": "巴黎"},
    "GB": {"en": "London", "fr": "Londres", "tr": "Londra", "zh": "伦敦"},
    "PL": {"en": "Warsaw", "fr": "Varsovie", "tr": "Varşova", "zh": "华沙"},
    "GR": {"en": "Athens", "fr": "Athènes", "tr": "Atina", "zh": "雅典"},
    "TR": {"en": "Ankara", "fr": "Ankara", "tr": "Ankara", "zh": "安卡拉"},
    "CN": {"en": "Beijing", "fr": "Pékin", "tr": "Pekin", "zh": "北京"},
}
TEMPLATES = [
    ("en", "[Y] is the capital of [X].", True),
    ("en", "The capital of [X] is [Y].", False),
    ("en", "What is the capital of [X]? It is [Y].", True),
    ("fr", "La capitale de [X] est [Y].", False),
    ("fr", "Quelle est la capitale de [X] ? C'est [Y].", False),
    ("tr", "[X] ülkesinin başkenti [Y].", False),
    ("zh", "[X]的首都是[Y]。", False),
]


@dataclass(kw_only=True)
class ManualClock:
    """Stands still until it is set."""

    time: float = 1000.0

    def now(self) -> float:
        return self.time


@dataclass(kw_only=True)
class CountingIds:
    """Counts up."""

    given: int = 0

    def __call__(self, prefix: str) -> str:
        self.given += 1
        return f"{prefix}_{self.given}"


def completed(lease: Lease, file: CellFile) -> CellReport:
    return CellReport(lease=lease, outcome=CellOutcome.COMPLETED, file=file)


def ended(lease: Lease, ending: CellOutcome, error: str | None = None) -> CellReport:
    return CellReport(lease=lease, outcome=ending, error=error)


@cache
def _empty_database() -> bytes:
    """Return an SQLite file with the tables of the newest revision, so that not every test has to migrate one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        SqlStore(f"sqlite:///{path}", ManualClock()).close()
        return path.read_bytes()


_SHARED: dict[str, Any] = {}
"""The dialect and the compiled statements of the first engine, which all engines of the process share."""


def _quick_engine(url: sa.URL) -> sa.Engine:
    engine = sqlite_engine(url)
    engine.dialect = _SHARED.setdefault("dialect", engine.dialect)  # its identity is part of a statement's cache key
    engine._compiled_cache = _SHARED.setdefault("cache", engine._compiled_cache)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return engine


def quick_sql_store(folder: Path, clock: Clock, new_id: Callable[[str], str] | None = None) -> SqlStore:
    """The SQL store without waiting for the disk, migrating a new database and compiling its statements."""
    path = folder / "store.db"
    with ExitStack() as patches:
        patches.enter_context(patch("jobs.store.sql.database.sqlite_engine", _quick_engine))
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_empty_database())
            patches.enter_context(
                patch("jobs.store.sql.database._open", lambda engine: engine)
            )  # it is of this revision
        return SqlStore(f"sqlite:///{path}", clock, new_id or CountingIds())


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_facts(folder: Path) -> Path:
    """Six capitals in four languages; the subject is the country's code with the language after it."""
    folder.mkdir(parents=True)
    rows = [
        {
            "id": f"capital-{code}",
            "relation": "capital",
            "subject": {language: f"{code}-{language}" for language in LANGUAGES},
            "object": names,
        }
        for code, names in CAPITALS.items()
    ]
    write_jsonl(folder / "facts.jsonl", rows)
    forms = [
        {"relation": "capital", "language": language, "template": form, "held_out": held}
        for language, form, held in TEMPLATES
    ]
    write_jsonl(folder / "templates.jsonl", forms)
    return folder


XCOPA_ROWS = [
    {
        "premise": "La donna ha tossito.",
        "choice1": "Era malata.",
        "choice2": "Rideva.",
        "question": "cause",
        "label": 0,
    },
    {
        "premise": "Ha piovuto.",
        "choice1": "Fa caldo.",
        "choice2": "La strada è bagnata.",
        "question": "effect",
        "label": 1,
    },
    {"premise": "Il gatto miagola.", "choice1": "Ha fame.", "choice2": "Dorme.", "question": "cause", "label": 0},
]


def write_xcopa(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for language in ("it", "zh"):
        rows = [{"idx": index, "lang": language, **row} for index, row in enumerate(XCOPA_ROWS)]
        write_jsonl(folder / f"test.{language}.jsonl", rows)
    return folder


def write_model(folder: Path, layers: int = 3) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": layers, "intermediate_size": 8}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def write_corpus(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for language in LANGUAGES:
        (folder / f"{language}.txt").write_text(f"One sentence in {language}.\n\n  Another one.  \n", encoding="utf-8")
    return folder


def write_catalog(folder: Path) -> Catalog:
    return Catalog(
        models={"tiny": write_model(folder / "models" / "tiny")},
        corpora={"small": write_corpus(folder / "corpora" / "small")},
        atlas=write_facts(folder / "atlas"),
        data=write_xcopa(folder / "data" / "xcopa").parent,
        engine="fake",
    )


def raw_spec(**changes: Any) -> dict[str, Any]:
    return {
        "name": "test",
        "model": "tiny",
        "neurons": {"method": "lape", "corpus": "small", "languages": ["en", "fr", "tr"]},
        "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 2]},
        "tasks": [{"name": "lss", "languages": ["en"]}],
        **changes,
    }


def planned(catalog: Catalog, *, max_cells: int = MAX_CELLS, **changes: Any) -> Plan:
    """Plan `raw_spec` with changes, without any neuron set."""
    return plan(parse_spec(raw_spec(**changes)), catalog, NeuronSets(Path("nowhere")), max_cells=max_cells)


def a_cell(number: int = 0, *, model: str = "tiny", task: str = "lss", **intervention: Any) -> Cell:
    """A cell of its own; steered if it says how."""
    parsed = Intervention.from_dict({"languages": ["fr"], "op": "scale", **intervention}) if intervention else None
    return Cell(
        model=model,
        model_hash="m" * 64,
        engine="fake",
        engine_version="1",
        dtype="float32",
        task=TaskRef(
            name=task,
            version=1,
            data_language="en",
            target_language="fr" if task == "lss" else None,
            limit=None,
            split=None,
            data=None,
            data_hash="d" * 64,
        ),
        neurons=NeuronsRef(id="ns_1") if parsed else None,
        intervention=parsed,
        seed=number,
    )


def completed_record(cell: Cell, file: CellFile) -> CellRecord:
    """The record of a cell whose file is published."""
    return CellRecord(
        cell=cell,
        state=CellState.COMPLETED,
        attempts=1,
        error=None,
        file=file.name,
        rows=file.rows,
        sha256=file.sha256,
    )


def a_sample(doc_id: str, **values: Any) -> Sample:
    shown: Mapping[str, Any] = {
        "logprobs": (-1.0, -0.5),
        "call_tokens": (1, 1),
        "prompt_tokens": 4,
        "completion_tokens": 2,
    }
    return Sample(doc_id=doc_id, **{**shown, **values})
