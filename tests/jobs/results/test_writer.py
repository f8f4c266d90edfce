from __future__ import annotations

import errno
import json
import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ampsweep.errors import DamagedFile, NotFound, Unavailable
from jobs.cell import Cell
from jobs.results.cell_table import from_bytes, to_table
from jobs.results.schema import CELL, SAMPLES
from jobs.results.writer import Results
from jobs.sample import Sample
from jobs.storage.local import LocalStorage
from jobs.store.records import CellFile, RequestCounts, SweepFiles, SweepRecord
from jobs.store.transitions import SweepState
from tests.jobs.cluster import a_cell, a_sample, completed_record

COLUMNS = (
    "sweep_id cell_id model task data_language target_language selection op factor layers scope doc_id prediction gold "
    "correct score logprobs completion prompt_tokens completion_tokens"
)
SWEEP = SweepRecord(
    id="sweep_1",
    name="n",
    state=SweepState.FINALIZING,
    spec={"name": "ü"},
    request_counts=RequestCounts(total=1, completed=1, failed=0, reused=0),
    created_at=0.0,
    ended_at=None,
    error=None,
)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(LocalStorage(tmp_path / "results"))


def write(results: Results, cell: Cell, samples: list[Sample], *, epoch: int = 1, left_out: int = 0) -> CellFile:
    return results.write_cell(
        cell, epoch=epoch, samples=samples, left_out=left_out, neurons=3, versions={"engine": "1"}
    )


STEERED = a_cell(3, factor=2.0, layers=[0, 2], scope="prompt", selection="random")


def test_a_cell_is_published_under_its_id_and_epoch(results: Results, tmp_path: Path) -> None:
    file = write(results, STEERED, [a_sample("a")], epoch=4)
    assert (file.name, file.rows) == (f"{STEERED.id}.4.parquet", 1)
    assert [path.name for path in (tmp_path / "results" / "cells").iterdir()] == [file.name]


def test_a_cell_reads_back_as_it_was_written(results: Results) -> None:
    samples = [
        a_sample("a", prediction="fr", score=-1.5),
        a_sample("b", prediction="0", gold="1", correct=False, score=2.0, completion="x"),
        Sample(doc_id="c", error="too long"),
        a_sample("d", steered_spans=((0, 1), (1, 2))),
        a_sample("e", steered_spans=()),
    ]
    cell_table = results.read_cell(completed_record(STEERED, write(results, STEERED, samples, left_out=7)))
    assert (cell_table.cell, cell_table.left_out, cell_table.neurons, cell_table.versions) == (
        STEERED,
        7,
        3,
        {"engine": "1"},
    )
    assert cell_table.table.schema.remove_metadata() == CELL
    first, second, third, *steered = cell_table.table.to_pylist()
    assert (first["doc_id"], first["prediction"], first["score"], first["correct"]) == ("a", "fr", -1.5, None)
    assert (first["logprobs"], first["call_tokens"]) == ([-1.0, -0.5], [1, 1])
    assert (second["gold"], second["correct"], second["completion"]) == ("1", False, "x")
    assert (third["error"], third["score"], third["logprobs"]) == ("too long", None, [])
    assert [row["steered_spans"] for row in (first, third, *steered)] == [None, None, [[0, 1], [1, 2]], []]
    assert (first["op"], first["factor"], first["layers"], first["scope"]) == ("scale", 2.0, "0,2", "prompt")
    assert (first["selection"], first["target_language"], first["data_language"]) == ("random", "fr", "en")


def test_an_unsteered_cell_has_no_op_and_no_factor_but_the_language_it_is_compared_with(results: Results) -> None:
    cell = a_cell(0)
    row = results.read_cell(completed_record(cell, write(results, cell, [a_sample("a")]))).table.to_pylist()[0]
    assert {
        row[name] for name in ("selection", "op", "factor", "layers", "scope", "patch", "statistic", "weights")
    } == {None}
    assert row["target_language"] == "fr"


def test_a_cell_without_samples_is_a_file_too(results: Results) -> None:
    assert results.read_cell(completed_record(STEERED, write(results, STEERED, []))).table.num_rows == 0


@pytest.mark.parametrize("damage", ["lost", "bytes", "cut", "rows", "other cell", "no parquet"])
def test_a_file_that_is_not_the_published_one_is_damaged(results: Results, tmp_path: Path, damage: str) -> None:
    file = write(results, STEERED, [a_sample("a")])
    path = tmp_path / "results" / "cells" / file.name
    content = path.read_bytes()
    cell, rows, sha256 = STEERED, file.rows, file.sha256
    if damage == "lost":
        path.unlink()
    elif damage == "bytes":
        path.write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    elif damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "rows":
        rows = 2
    elif damage == "other cell":
        cell = a_cell(99)
    else:
        path.write_bytes(b"")
        sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(DamagedFile, match=file.name):
        results.read_cell(completed_record(cell, CellFile(name=file.name, rows=rows, sha256=sha256)))


def sweep_file(results: Results, tmp_path: Path) -> Path:
    cells = [a_cell(0), STEERED]
    read = [
        results.read_cell(completed_record(cell, write(results, cell, [a_sample("a"), a_sample("b")])))
        for cell in cells
    ]
    file = results.write_sweep(
        SWEEP, read, epoch=3, search=None, failed={"cell_x": "died"}, sources={"neurons": ["ns_1"]}
    ).file
    return tmp_path / "results" / file.name


def test_a_sweeps_samples_are_its_cells_in_order_with_the_columns_promised(results: Results, tmp_path: Path) -> None:
    path = sweep_file(results, tmp_path)
    ended = replace(SWEEP, files=SweepFiles(samples="1", summary="2", epoch=3))
    assert results.samples_file(ended).read() == path.read_bytes()
    table = pq.read_table(path, page_checksum_verification=True)
    assert " ".join(table.schema.names[:-23]) == COLUMNS
    assert (
        " ".join(table.schema.names[-23:])
        == "patch error call_tokens statistic weights control_language rung mode measures spanned_join neuron_set "
        "method answer input random_seed task_options neuron_layer neuron_index adapter tokens steered_spans when part"
    )
    assert table["neuron_set"].to_pylist() == [None, None, "ns_1", "ns_1"]
    assert table.schema.remove_metadata() == SAMPLES
    assert table.schema.field("factor").type == pa.float64()
    assert table["cell_id"].to_pylist() == [a_cell(0).id] * 2 + [STEERED.id] * 2
    assert set(table["sweep_id"].to_pylist()) == {"sweep_1"}


def test_the_spec_and_all_versions_are_in_the_metadata(results: Results, tmp_path: Path) -> None:
    metadata = pq.read_schema(sweep_file(results, tmp_path)).metadata
    read = {key.decode().removeprefix("ampsweep."): value for key, value in metadata.items()}
    assert json.loads(read["spec"]) == {"name": "ü"}
    assert json.loads(read["versions"]) == [{"engine": "1"}]
    assert json.loads(read["failed_cells"]) == {"cell_x": "died"}
    assert read["sweep_id"] == b"sweep_1"


def test_a_flipped_bit_in_a_page_is_noticed(results: Results, tmp_path: Path) -> None:
    path = sweep_file(results, tmp_path)
    column = pq.ParquetFile(path).metadata.row_group(0).column(SAMPLES.names.index("score"))
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, columns=["score"], page_checksum_verification=True)


def test_pandas_and_duckdb_open_it(results: Results, tmp_path: Path) -> None:
    path = sweep_file(results, tmp_path)
    assert list(pd.read_parquet(path)["doc_id"]) == ["a", "b", "a", "b"]
    rows = duckdb.sql(f"SELECT layers, count(*) FROM '{path}' GROUP BY layers ORDER BY layers").fetchall()
    assert rows == [("0,2", 2), (None, 2)]


def test_many_cells_pass_through_in_row_groups(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.results.writer._ROW_GROUP", 4)
    cell = results.read_cell(
        completed_record(STEERED, write(results, STEERED, [a_sample("a"), a_sample("b"), a_sample("c")]))
    )
    file = results.write_sweep(SWEEP, (cell for _ in range(5)), epoch=3, search=None, failed={}, sources={}).file
    assert [pq.ParquetFile(file.open()).metadata.row_group(index).num_rows for index in range(3)] == [6, 6, 3]


@pytest.mark.parametrize("files", [None, SweepFiles(samples="1", summary="2", epoch=4)])
def test_a_sweep_that_has_not_ended_has_no_results(results: Results, files: SweepFiles | None) -> None:
    sweep = replace(published(results), files=files)
    with pytest.raises(NotFound):
        results.samples_file(sweep)
    with pytest.raises(NotFound):
        results.read_summary(sweep)


def test_files_from_before_sweeps_were_leased_are_found_under_their_old_names(results: Results, tmp_path: Path) -> None:
    sweep = published(results)
    assert sweep.files is not None
    folder = tmp_path / "results" / "sweeps" / sweep.id
    for name in ("results", "summary"):
        (folder / f"{name}.3.parquet").rename(folder / f"{name}.parquet")
    old = replace(sweep, files=replace(sweep.files, epoch=None))
    results.check_sweep(old)
    assert results.read_summary(old).num_rows == 0


def test_a_full_disk_is_a_temporary_error(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("os.fsync", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            write(results, STEERED, [a_sample("a")])
        with pytest.raises(Unavailable, match="No space left on device"):
            results.check_writable()
    assert results.cell_names() == []
    results.check_writable()
    write(results, STEERED, [a_sample("a")])


def published(results: Results) -> SweepRecord:
    cell = results.read_cell(completed_record(STEERED, write(results, STEERED, [a_sample("a"), a_sample("b")])))
    samples = results.write_sweep(SWEEP, [cell], epoch=3, search=None, failed={}, sources={})
    summary = results.write_summary(SWEEP, [], epoch=3)
    return replace(SWEEP, files=SweepFiles(samples=samples.sha256, summary=summary.sha256, epoch=3))


def test_the_files_of_a_sweep_are_those_that_were_published(results: Results) -> None:
    sweep = published(results)
    results.check_sweep(sweep)
    with pytest.raises(DamagedFile, match="are unknown"):
        results.check_sweep(replace(sweep, files=None))


@pytest.mark.parametrize("name", ["results", "summary"])
@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_sweeps_damaged_file_is_found_also_after_it_was_whole(
    results: Results, tmp_path: Path, name: str, damage: str
) -> None:
    sweep = published(results)
    results.check_sweep(sweep)
    path = tmp_path / "results" / "sweeps" / SWEEP.id / f"{name}.3.parquet"
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-1])
    with pytest.raises(DamagedFile, match=name):
        results.check_sweep(sweep)


@contextmanager
def too_many_open_files() -> Iterator[None]:
    """Let every attempt to open a file fail, as in a process that has reached its limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_the_process_cannot_open_for_now_is_not_damaged(results: Results) -> None:
    sweep, cell = published(results), completed_record(STEERED, write(results, STEERED, [a_sample("a")]))
    with too_many_open_files(), pytest.raises(Unavailable, match=r"cannot be read: .*Too many open files"):
        results.read_cell(cell)
    with too_many_open_files(), pytest.raises(Unavailable, match=r"cannot be read: .*Too many open files"):
        results.check_sweep(sweep)
    results.read_cell(cell)
    results.check_sweep(sweep)


def test_every_flipped_bit_and_every_truncation_is_detected(results: Results, tmp_path: Path) -> None:
    """200 bits and 20 lengths, of a cell's file and of a sweep's."""
    chance = random.Random(7)
    sweep, cell = published(results), completed_record(STEERED, write(results, STEERED, [a_sample("a"), a_sample("b")]))
    assert cell.file is not None
    for path, check in (
        (tmp_path / "results" / "cells" / cell.file, lambda: results.read_cell(cell)),
        (tmp_path / "results" / "sweeps" / SWEEP.id / "results.3.parquet", lambda: results.check_sweep(sweep)),
    ):
        whole = path.read_bytes()
        damaged = [whole[: chance.randrange(len(whole))] for _ in range(20)]
        for _ in range(200):
            flipped = bytearray(whole)
            flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            damaged.append(bytes(flipped))
        for number, content in enumerate(damaged):
            path.write_bytes(content)
            os.utime(path, ns=(number, number))
            with pytest.raises(DamagedFile):
                check()
        path.write_bytes(whole)
        check()


def test_a_cell_from_before_a_column_was_added_has_what_the_cell_tells_or_nulls_there() -> None:
    table = to_table(STEERED, epoch=1, samples=[a_sample("a")], left_out=0, neurons=3, versions={})
    sink = pa.BufferOutputStream()
    later = ["spanned_join", "neuron_set", "method", "answer", "input", "random_seed", "task_options"]
    later += ["neuron_layer", "neuron_index", "adapter", "tokens", "steered_spans", "when", "part"]
    pq.write_table(table.drop_columns(later), sink)
    cell_table = from_bytes(sink.getvalue().to_pybytes(), "old").table
    assert cell_table.schema.remove_metadata() == CELL
    assert cell_table["spanned_join"].to_pylist() == [None]
    assert cell_table["neuron_set"].to_pylist() == ["ns_1"]
    assert cell_table["method"].to_pylist() == ["neurons"]
    assert cell_table["answer"].to_pylist() == [None]
    assert cell_table["measures"] == table["measures"]
