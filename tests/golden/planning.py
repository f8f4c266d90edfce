"""Ids of cells and neuron sets, made the way a server makes them: spec, plan, cells."""

from __future__ import annotations

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from engine.neurons.formats.neuron_json import from_json
from jobs.cell import Cell
from jobs.language_control.identifiers import open_identifier
from jobs.planning.planner import plan
from jobs.planning.search import search_of
from jobs.spec.sweep import parse_spec
from tests.engine.neuron_sets import make_neuron_set
from tests.golden.inputs import write_inputs
from tests.golden.specs import LM_EVAL_SPECS, SPECS

ENGINE_VERSION = "golden==1"
IDENTIFIER = "golden 1"
"""Take the place of the installed versions, which are part of an id: a new release of torch changes no golden file."""
_PINNED = {"lm_eval": "1", "py3langid": "1"}
"""Versions of packages that are part of a task's data hash."""


def cells() -> dict[str, Any]:
    """Return the cells of every spec, and of one on an engine of another dtype."""
    planned = _planned(SPECS)
    return {**planned, "dtype: bfloat16": _planned({"": SPECS["op: add"]}, dtype="bfloat16")[""]}


def lm_eval_cells() -> dict[str, Any]:
    """Return the cells of the specs whose tasks are lm-eval's."""
    return _planned(LM_EVAL_SPECS)


def cell_json() -> dict[str, Any]:
    """Return cells in their JSON form, which the database and the Parquet metadata hold."""
    names = (
        "controls: random and other",
        "task: lss, facts that all have",
        "weights: one a language",
        "task: generation, sampled",
        "adapter",
    )
    with _input_folder() as folder:
        catalog, neuron_sets = write_inputs(folder)
        return {name: _pinned(plan(parse_spec(SPECS[name]), catalog, neuron_sets)[-1]).to_dict() for name in names}


def neuron_sets() -> dict[str, str]:
    """Return the ids of neuron sets: of requests to identify, by parameters; of imported ones, by content."""
    identity = {"fingerprint": "f" * 64, "corpus_hash": "c" * 64}
    requests = {
        "lape": IdentificationRequest.of(),
        "lape, parameters": IdentificationRequest.of("lape", {"top_rate": 0.02, "filter_rate": 1}),
        "lape, max_tokens": IdentificationRequest.of("lape", max_tokens=1000),
        "lape_paper": IdentificationRequest.of("lape_paper"),
        "activated": IdentificationRequest.of("activated"),
        "act_prob": IdentificationRequest.of("act_prob"),
        "act_prob, neurons": IdentificationRequest.of("act_prob", {"neurons": 5}),
        "average_precision, neurons": IdentificationRequest.of("average_precision", {"neurons": 5}),
        "random": IdentificationRequest.of("random"),
        "random, seed": IdentificationRequest.of("random", {"seed": 3}),
    }
    ids = {
        f"identified: {name}": request.neuron_set_id(languages=("tr", "en", "fr"), **identity)
        for name, request in requests.items()
    }
    ids["identified: lape, other languages"] = requests["lape"].neuron_set_id(languages=("en", "fr"), **identity)
    with _input_folder() as folder:
        catalog, _ = write_inputs(folder)
        model = catalog.model("tiny")
        imported = {
            "imported": {"fr": {"0": [1, 2], "2": [7]}, "tr": {"1": [3]}},
            "imported: numbers for layers, another order": {"fr": {2: [7], 0: [2, 1]}, "tr": {1: [3]}},
            "imported: a list a layer": {"fr": [[1, 2], [], [7]], "tr": [[], [3], []]},
            "imported: a language without neurons": {"fr": {"0": [1]}, "tr": {}},
            "imported: languages in another order": {"tr": {"1": [3]}, "fr": {"0": [1, 2], "2": [7]}},
        }
        ids |= {name: from_json(raw, model=model).id for name, raw in imported.items()}
    patched = make_neuron_set({"en": [(0, 1)], "fr": [(2, 3), (1, 1)]}).id
    bare = make_neuron_set({"en": [(0, 1)], "fr": [(2, 3), (1, 1)]}, patch=False).id
    return {**ids, "by content: with patch values": patched, "by content: without patch values": bare}


def _planned(specs: Mapping[str, dict[str, Any]], *, dtype: str = "float32") -> dict[str, Any]:
    lines: dict[str, Any] = {}
    with _input_folder() as folder:
        catalog, neuron_sets = write_inputs(folder)
        for name, raw in specs.items():
            spec = parse_spec(raw)
            planned = [_pinned(cell) for cell in plan(spec, replace(catalog, dtype=dtype), neuron_sets)]
            lines[name] = [_line(cell) for cell in planned]
            if (search := search_of(spec)) is None:
                continue
            for step in range(2, len(search.rungs) + 1):
                # The higher factor is always the better one, so that the further rungs are known.
                qualities = {cell.id: cell.intervention.factor for cell in planned if cell.intervention}
                further = [_pinned(cell) for cell in search.next(planned, qualities)]
                planned += further
                lines[f"{name}, rung {step}"] = [_line(cell) for cell in further]
    return lines


def _pinned(cell: Cell) -> Cell:
    return replace(cell, engine_version=ENGINE_VERSION, identifier=cell.identifier and IDENTIFIER)


def _line(cell: Cell) -> str:
    """Return a cell's id, and what a reader needs to know the cell by."""
    task, intervention = cell.task, cell.intervention
    words = [cell.id, task.mode, task.name, task.data_language, task.target_language or "-"]
    if intervention is None:
        what = [cell.method or "baseline", *(() if cell.instruction is None else (cell.instruction.language,))]
        return " ".join([*words, *what])
    assert cell.neurons is not None
    shown = {key: value for key, value in intervention.to_dict().items() if value not in (None, "all", 0)}
    return " ".join([*words, cell.neurons.id, *(f"{key}={value}" for key, value in shown.items())])


@contextlib.contextmanager
def _input_folder() -> Iterator[Path]:
    """Yield an empty folder that is the current one: lm-eval's tasks name their data relative to it."""
    installed = importlib.metadata.version

    def version(name: str) -> str:
        return _PINNED.get(name) or installed(name)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "inputs"
        (root / "lm_eval").mkdir(parents=True)
        with contextlib.chdir(root / "lm_eval"), patch("importlib.metadata.version", version):
            yield root
        open_identifier.cache_clear()  # it has seen the wrong version
