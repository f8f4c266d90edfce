"""Partial results of a cancelled sweep, with both clients and on the command line."""

from __future__ import annotations

import copy
import json
import secrets
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ampsweep.cli.app import app
from ampsweep.client.models import Sweep
from ampsweep.errors import Conflict
from tests.ampsweep.client.both_clients import KINDS, opened
from tests.ampsweep.client.server_process import ServerProcess
from tests.ampsweep.conftest import CELLS, SPEC

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cancelled(server: ServerProcess) -> Sweep:
    """A sweep that was cancelled with some of its cells completed: those of a smaller one that had ended before."""
    spec = copy.deepcopy({**SPEC, "seed": secrets.randbelow(10**6)})  # cells that nobody has computed
    with opened("blocking", server.url) as client:
        assert client.wait(client.submit(spec).id).request_counts.completed == CELLS
        spec["interventions"]["factors"] += [3 + step / 100 for step in range(900)]
        sweep = client.submit(spec)
        client.cancel(sweep.id)
        return client.wait(sweep.id)


@pytest.mark.parametrize("kind", KINDS)
def test_partial_results_and_summary_are_those_of_the_completed_cells(
    server: ServerProcess, cancelled: Sweep, kind: str, tmp_path: Path
) -> None:
    with opened(kind, server.url) as client:
        with pytest.raises(Conflict, match="partial"):
            client.results(cancelled.id)
        samples = client.results(cancelled.id, partial=True)
        summary = client.summary(cancelled.id, partial=True)
        path = client.download(cancelled.id, tmp_path / "partial.parquet", partial=True)
    counts = json.loads(samples.schema.metadata[b"ampsweep.partial"])
    assert counts == summary["partial"]
    assert CELLS <= counts["included"] < counts["total"]
    assert len(set(samples["cell_id"].to_pylist())) == counts["included"]
    assert pq.read_table(path).equals(samples)


def test_the_command_line_says_how_many_cells_partial_results_have(
    server: ServerProcess, cancelled: Sweep, tmp_path: Path
) -> None:
    command = ["results", cancelled.id, "--server", server.url, "--out", str(tmp_path / "samples.parquet")]
    assert CliRunner().invoke(app, command).exit_code != 0
    result = CliRunner().invoke(app, [*command, "--partial"])
    assert result.exit_code == 0, result.output
    samples = pq.read_table(tmp_path / "samples.parquet")
    counts = json.loads(samples.schema.metadata[b"ampsweep.partial"])
    assert f"partial results: {counts['included']} of {counts['total']} cells" in result.stderr
