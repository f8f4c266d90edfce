from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
import typer

from ampsweep.cli.commands.run_files import missing_sets, without_empty_run, write_neurons
from ampsweep.errors import EngineFailed, Unavailable
from jobs.neuron_sets.registry import NeuronSets
from jobs.store.sql.database import FileLock
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


def test_a_run_looks_for_its_own_neuron_sets_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = cast("Any", SimpleNamespace(neuron_sets=NeuronSets(tmp_path)))
    monkeypatch.setattr(NeuronSets, "infos", lambda _self: pytest.fail("the metadata of all sets were read"))
    make_neuron_set({"fr": [(0, 1)]}).save(tmp_path / "ns_1")
    assert missing_sets(runtime, frozenset({"ns_1", "ns_2"})) == {"ns_2"}
    assert missing_sets(runtime, frozenset()) == frozenset()


def test_neurons_of_an_earlier_sweep_do_not_stay_beside_results_without_any(tmp_path: Path) -> None:
    target = tmp_path / "neurons.parquet"
    target.write_bytes(b"of an earlier sweep")
    write_neurons([a_cell()], cast("Any", OneSet(tmp_path)), target)
    assert not target.exists()


def ended_by(error: BaseException, out: Path, *names: str, given: str | None = None) -> None:
    """Write files to the folder of a run, which then ends with an error."""
    with without_empty_run(out, given=given):
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).touch()
        raise error


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_failed_before_it_computed_anything_leaves_nothing(tmp_path: Path, existed: bool) -> None:
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    with pytest.raises(EngineFailed):
        ended_by(EngineFailed("no memory"), out, "ampsweep.db", "neurons/ns_1/metadata.json", given="ns_1")
    assert out.exists() is existed
    assert not existed or not list(out.iterdir())


@pytest.mark.parametrize("name", ["results/cells/a.parquet", "neurons/ns_2/metadata.json"])
def test_a_failed_run_keeps_what_another_can_continue_from(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineFailed):
        ended_by(EngineFailed("no memory"), tmp_path / "out", "ampsweep.db", name, given="ns_1")
    assert (tmp_path / "out" / name).exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(EngineFailed):
        ended_by(EngineFailed("no memory"), tmp_path, "ampsweep.db")
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "ampsweep.db"}


@pytest.mark.parametrize("stopped", [typer.Exit(143), KeyboardInterrupt()], ids=["SIGTERM", "Ctrl-C"])
def test_a_stopped_run_keeps_its_folder(tmp_path: Path, stopped: BaseException) -> None:
    with pytest.raises(type(stopped)):
        ended_by(stopped, tmp_path / "out", "ampsweep.db")
    assert (tmp_path / "out" / "ampsweep.db").exists()


def test_a_run_that_finds_another_one_in_its_folder_leaves_it_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    others: list[FileLock] = []

    def begin_both() -> None:
        with without_empty_run(out, given=None):
            out.mkdir()
            (out / "ampsweep.db").write_text("the other's")
            others.append(FileLock(out / "ampsweep.db"))
            FileLock(out / "ampsweep.db")

    with pytest.raises(Unavailable, match="in use by another process"):
        begin_both()
    assert (out / "ampsweep.db").read_text() == "the other's"
    others[0].release()
