from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import NotFound
from jobs.report.data import ReportData
from jobs.report.sources.neurons_file import write_neurons_of
from jobs.report.sql.queries import OVERLAP
from jobs.results.schema import SAMPLES
from tests.jobs.report.control_sweep import control_summary, write_sweep

SETS = {"nrn_1": {"fr": {"0": [3, 5], "2": [1]}, "ja": {"2": [1]}}}


def neurons_of(neuron_set_id: str) -> Mapping[str, Mapping[str, Sequence[int]]]:
    if neuron_set_id not in SETS:
        raise NotFound(f"no neuron set {neuron_set_id}")
    return SETS[neuron_set_id]


@pytest.mark.parametrize(("ids", "has_neurons"), [(["nrn_1"], True), (["nrn_2"], False), ([], False)])
def test_the_neurons_are_those_of_the_set_that_the_samples_name(
    tmp_path: Path, ids: list[str], has_neurons: bool
) -> None:
    write_sweep(tmp_path, control_summary(("fr", "ja")))
    metadata = pq.read_schema(tmp_path / "results.parquet").metadata
    rows = [{**dict.fromkeys(SAMPLES.names), "neuron_set": name} for name in (None, *ids)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES.with_metadata(metadata)), tmp_path / "results.parquet")
    write_neurons_of(tmp_path, neurons_of)
    with closing(ReportData(tmp_path)) as data:
        assert data.has_neurons is has_neurons
        overlap = {(row["row"], row["column"]): row["value"] for row in data.query(OVERLAP).to_pylist()}
    assert overlap.get(("fr", "ja")) == (pytest.approx(1 / 3) if has_neurons else None)
