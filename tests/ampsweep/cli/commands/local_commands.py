"""Calls of commands that load a model themselves, on the fake engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from typer.testing import CliRunner

from ampsweep.cli.app import app

STEERED = {"languages": ["fr"], "op": "scale", "factor": 5.0}


def call(*arguments: object) -> Any:
    """Return the result of a command line."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def call_batch(model: Path, folder: Path, lines: list[object], *options: object) -> tuple[Any, list[dict[str, Any]]]:
    """Write the lines to a file in `folder`; return the result of `batch` and the rows that it wrote."""
    source, target = folder / "in.jsonl", folder / "out.parquet"
    source.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    result = call("batch", "--model", model, "--engine", "fake", *options, source, target)
    return result, pq.read_table(target).to_pylist() if target.exists() else []
