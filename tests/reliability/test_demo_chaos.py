"""`make demo ARGS=--chaos` on the fake engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampsweep import Client
from examples.chaos import compare, follow_and_kill
from tests.ampsweep.client.server_process import server_process
from tests.reliability.test_killed_processes import spec

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(600)]


def test_a_sweep_whose_engine_is_killed_comes_to_the_same_figures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server_process(model, tmp_path / "killed") as server, Client(server.url) as client:
        ended = follow_and_kill(client, client.submit(spec(60)), server.process.pid)
        assert (ended.status, ended.request_counts.failed) == ("completed", 0)
        rows = client.summary(ended.id)["rows"]
    output = capsys.readouterr().out
    assert "killed the engine (SIGKILL to process " in output
    assert "leased again" in output
    with server_process(model, tmp_path / "clean") as server, Client(server.url) as client:
        clean = client.summary(client.wait(client.submit(spec(60)).id).id)["rows"]
    compare(rows, clean)
    with pytest.raises(RuntimeError, match=f"1 of {len(clean)} values"):
        compare(rows, [{**clean[0], "value": clean[0]["value"] + 1}, *clean[1:]])
