"""Files of a sweep with every way to steer: the summary of a small study of language control, made up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ampsweep.hashing import canonical_json
from jobs.report.answers import Answer, answer
from jobs.report.data import ReportData
from jobs.report.document import document_of
from jobs.report.questions import QUESTIONS
from jobs.report.writers.html import to_html
from jobs.results.schema import SAMPLES, SUMMARY

SPEC = {
    "name": "control",
    "model": "tiny",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "ja"]},
    "interventions": {"op": "set", "factors": [1.0, 2.0], "controls": ["random", "other"], "baselines": ["prompt_en"]},
    "tasks": [{"name": "generation", "languages": ["en"]}, {"name": "xcopa", "languages": ["it"]}],
}
STEERED: dict[str, dict[str, Any]] = {
    "neurons": {"method": "neurons", "op": "set", "patch": "max", "layers": "all", "neurons": 9},
    "random": {"method": "neurons", "op": "set", "patch": "max", "layers": "all", "neurons": 9, "selection": "random"},
    "difference": {"method": "neurons", "op": "add", "patch": "difference", "layers": "all", "neurons": 9},
    "diffmean": {"method": "diffmean", "op": "add", "layers": "6,7"},
    "prompt_en": {"method": "prompt_en"},
    "prompt_native": {"method": "prompt_native"},
}
NEURONS = {"method": "neurons", "op": "set", "factor": 2.0, "layers": "all", "neurons": 4, "baseline": 0.1}
"""The columns of a single intervention, where what it does matters."""
STRENGTH = {
    "neurons": (0.4, 0.05, 0.9),
    "random": (0.03, 0.03, 0.5),
    "difference": (0.5, 0.06, 0.85),
    "diffmean": (0.7, 0.08, 0.8),
    "prompt_en": (0.75, 0.02, 0.7),
    "prompt_native": (0.85, 0.03, 0.75),
}
"""Language control, cost and LSS around which the values of each method lie."""


def control_row(task: str, metric: str, data: str, target: str | None, **values: Any) -> dict[str, Any]:
    """Return a row of a summary; values that are not given are null."""
    columns = {"model": "tiny", "task": task, "metric": metric, "data_language": data, "target_language": target}
    scale = {"higher_is_better": metric != "nll", "no_effect": 0.5 if metric == "lss" else None}
    return {**dict.fromkeys(SUMMARY.names), **columns, **scale, "n": 100, "neurons": 0, **values}


def control_summary(targets: Sequence[str], *, seed: int = 0) -> list[dict[str, Any]]:
    """Return the summary of a sweep that steers to some targets by every method, with two factors where one applies."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for target in targets:
        for name, steered in STEERED.items():
            factors = (1.0, 2.0) if "op" in steered else (None,)
            for factor in factors:
                rows += _rows_of(target, name, {**steered, "factor": factor}, weak=factor == 1.0, rng=rng)
    return rows


def _rows_of(
    target: str, name: str, steered: dict[str, Any], *, weak: bool, rng: random.Random
) -> list[dict[str, Any]]:
    control, cost, lss = STRENGTH[name]
    share = 0.4 if weak else 1.0
    rows = []
    for data in ("en", "zh"):
        value = min(1.0, max(0.0, share * (control + rng.uniform(-0.2, 0.15))))
        rows.append(_row("generation", "in_target_language", data, target, value, 0.02, 0.09, steered))
        repeated = 0.05 + rng.uniform(0, 0.2)
        rows.append(_row("generation", "repetition", data, target, repeated, 0.05, 0.03, steered))
        shift = 0.5 + share * (lss - 0.5) + rng.uniform(-0.05, 0.05)
        bounds = {"ci_low": shift - 0.08, "ci_high": shift + 0.08}
        rows.append(control_row("lss", "lss", data, target, value=shift, **bounds, **steered))
    for data in ("en" if target == "it" else "it", target):
        lost = share * cost * rng.uniform(0.3, 1.8)
        rows.append(_row("xcopa", "accuracy", data, target, 0.6 - lost, 0.6, 0.05, steered))
        rows.append(_row("perplexity", "nll", data, target, 3.0 + 4 * lost, 3.0, 0.06, steered))
    return rows


def _row(
    task: str, metric: str, data: str, target: str, value: float, plain: float, half: float, steered: dict[str, Any]
) -> dict[str, Any]:
    delta = value - plain
    bounds = {"ci_low": value - half, "ci_high": value + half}
    bounds |= {"delta_ci_low": delta - half, "delta_ci_high": delta + half, "noise": half / 5, "mde": half * 1.43}
    return control_row(task, metric, data, target, value=value, baseline=plain, delta=delta, **bounds, **steered)


def write_sweep(folder: Path, summary: list[dict[str, Any]]) -> None:
    """Write the files of a sweep with this summary and without samples."""
    metadata = {
        "ampsweep.sweep_id": "swp_2",
        "ampsweep.spec": canonical_json(SPEC),
        "ampsweep.version": "0.1.0",
        "ampsweep.versions": canonical_json([{"vllm": "0.32.0"}]),
        "ampsweep.failed_cells": canonical_json({}),
        "ampsweep.sources": canonical_json({"models": [], "engines": [], "neurons": [], "data": []}),
    }
    pq.write_table(SAMPLES.with_metadata(metadata).empty_table(), folder / "results.parquet")
    pq.write_table(pa.Table.from_pylist(summary, schema=SUMMARY), folder / "summary.parquet")


def opened(folder: Path, rows: list[dict[str, Any]]) -> ReportData:
    """Open the files of a sweep with the summary `rows`."""
    write_sweep(folder, rows)
    return ReportData(folder)


def answered(data: ReportData, key: str) -> Answer:
    """Return the answer to one question."""
    (sql,) = (question.sql for question in QUESTIONS if question.key == key)
    return answer(data, key, sql)


def render(data: ReportData, answers: Sequence[Answer]) -> str:
    """Return the page of a report."""
    return to_html(document_of(data, answers))
