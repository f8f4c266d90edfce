"""A sweep in both modes from end to end on the fake engine, and what its report says of the difference."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.report.data import ReportData
from jobs.report.sql.queries import MODES
from jobs.store.transitions import SweepState
from tests.worker.installation import Installation, drain

pytestmark = [pytest.mark.processes, pytest.mark.anyio]  # a whole pipeline


async def test_both_modes_are_computed_and_compared(installation: Installation, tmp_path: Path) -> None:
    interventions = {"languages": ["fr", "tr"], "op": "scale", "factors": [2.5]}
    tasks = [{"name": "lss", "languages": ["zh"], "limit": 4}, {"name": "generation", "languages": ["en"], "limit": 2}]
    tasks[1] |= {"data": "atlas", "split": "corpus"}
    sweep = installation.submit(mode=["corrected", "paper"], interventions=interventions, tasks=tasks)
    async with installation.pool() as pool:
        dispatcher = installation.dispatcher(pool)
        await drain(
            installation, dispatcher, until=lambda: installation.store.get_sweep(sweep.id).state is SweepState.COMPLETED
        )
    assert installation.store.get_sweep(sweep.id).request_counts.failed == 0
    assert len(installation.neuron_sets.infos()) == 2, "LAPE by both rules"
    summary = pq.read_table(
        installation.results.summary_file(installation.store.get_sweep(sweep.id)).open()
    ).to_pylist()
    factors = {(row["mode"], row["factor"]) for row in summary if row["factor"] is not None}
    assert factors == {("corrected", 2.5), ("paper", 2.0)}
    folder = tmp_path / "files"
    folder.mkdir()
    for name, file in (
        ("results.parquet", installation.results.samples_file(installation.store.get_sweep(sweep.id))),
        ("summary.parquet", installation.results.summary_file(installation.store.get_sweep(sweep.id))),
    ):
        with file.open() as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target)
    with closing(ReportData(folder)) as data:
        by_metric = {(row["task"], row["metric"]): row for row in data.query(MODES).to_pylist()}
        modes = data.query("SELECT DISTINCT mode FROM steered").to_pylist()
    assert modes == [{"mode": "corrected"}]
    assert by_metric["lss", "lss"]["rows"] == 2
    values = {
        mode: [row["value"] for row in summary if (row["mode"], row["metric"]) == (mode, "lss")]
        for mode in ("corrected", "paper")
    }
    assert by_metric["lss", "lss"]["difference"] == pytest.approx(
        sum(values["paper"]) / 2 - sum(values["corrected"]) / 2
    )
    assert {"in_target_language", "in_data_language", "repetition", "length"} <= {metric for _, metric in by_metric}
