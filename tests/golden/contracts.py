"""The golden files, how they are made, compared and written."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.golden import files, interfaces, planning

FOLDER = Path(__file__).parent
_SHOWN = 60
"""Lines of a difference that a failing test prints."""
CONTRACTS: Mapping[str, Callable[[], Any]] = {
    "cells": planning.cells,
    "cells_lm_eval": planning.lm_eval_cells,
    "cell_json": planning.cell_json,
    "neuron_sets": planning.neuron_sets,
    "parquet": files.parquet,
    "commands": interfaces.commands,
    "exit_codes": interfaces.exit_codes,
    "rest": interfaces.rest,
    "errors": interfaces.errors,
    "http_errors": interfaces.http_errors,
    "environment": interfaces.environment,
    "metrics": interfaces.metrics,
    "events": interfaces.events,
}


def golden_file(name: str) -> Path:
    """Return the file that holds a contract."""
    return FOLDER / f"{name}.json"


def as_text(value: Any) -> str:
    """Return a contract as its file has it: the order of keys is kept, it is part of some contracts."""
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def difference(name: str) -> str:
    """Return how a contract differs from its golden file, as a unified diff; empty where it does not."""
    golden = golden_file(name).read_text(encoding="utf-8").splitlines()
    current = as_text(CONTRACTS[name]()).splitlines()
    lines = list(difflib.unified_diff(golden, current, f"golden/{name}.json", "this code", lineterm="", n=1))
    more = [f"... and {len(lines) - _SHOWN} lines more"] if len(lines) > _SHOWN else []
    return "\n".join(lines[:_SHOWN] + more)
