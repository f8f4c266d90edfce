from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from ampsweep.cli.commands.run_files import write_neurons
from tests.engine.neuron_sets import make_neuron_set
from tests.jobs.cluster import a_cell


class OneSet:
    """A registry with one neuron set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self, neuron_set_id: str) -> Path:
        assert neuron_set_id == "ns_1"
        return self.folder


def test_the_neurons_are_written_that_steer_any_cell(tmp_path: Path) -> None:
    make_neuron_set({"fr": [(0, 1), (1, 2)]}).save(tmp_path / "set")
    cells = [*(a_cell(number) for number in range(1001)), a_cell(factor=2.0)]
    write_neurons(cells, cast("Any", OneSet(tmp_path / "set")), tmp_path / "neurons.parquet")
    rows = pq.read_table(tmp_path / "neurons.parquet").to_pylist()
    assert [(row["language"], row["layer"], row["neuron"]) for row in rows] == [("fr", 0, 1), ("fr", 1, 2)]


def test_neurons_of_an_earlier_sweep_do_not_stay_beside_results_without_any(tmp_path: Path) -> None:
    target = tmp_path / "neurons.parquet"
    target.write_bytes(b"of an earlier sweep")
    write_neurons([a_cell()], cast("Any", OneSet(tmp_path)), target)
    assert not target.exists()
