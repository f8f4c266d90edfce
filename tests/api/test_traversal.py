"""Path traversal: none of 300 ids and names reads, creates or changes a file outside the server's home."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.auth.api_keys import KeyScope
from jobs.clock import SystemClock
from jobs.store.sql.store import SqlStore
from tests.api.running_server import running_server
from tests.worker.installation import SPEC, Installation

pytestmark = pytest.mark.anyio

SECRET = "outside-the-home-folder"
STEPS = ("../", "..\\", "....//", "..;/", "%2e%2e/", "..%2f", "%252e%252e%252f", "..%c0%af", "./../", "..//")
TARGETS = ("etc/passwd", SECRET, f"{SECRET}/config.json", f"{SECRET}/metadata.json", "", "proc/self/environ")
ABSOLUTE = (
    "/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    "~/.ssh/id_rsa",
    "$HOME",
    "C:\\windows",
    "\\\\host\\share",
)
TAILS = ("", "\x00", "\x00.parquet", "%00", " ", ".", "/", "/.", "?x", "#x")


def payloads() -> list[str]:
    """Return 300 names that lead to other folders if they are used as paths."""
    relative = [step * depth + target for step, depth, target in product(STEPS, (1, 3, 8), TARGETS)]
    absolute = [start + tail for start, tail in product(ABSOLUTE, TAILS)]
    plain = [".", "..", "...", "CON", "-rf", "a/b", "ns_../../x", "sweep_../x", "x" * 300, "ns_" + "/.." * 40, "\x00"]
    more = [f"{word}{step}{SECRET}" for word, step in product(("ns_a", "sweep_a", "atlas/", "tiny/"), STEPS)]
    return [*relative, *absolute, *plain, *more][:300]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder next to the home folder that could be a model, a neuron set, a corpus and a data set."""
    folder = tmp_path / SECRET
    folder.mkdir()
    for name in ("config.json", "metadata.json", "en.txt", "results.parquet", "test.it.jsonl"):
        (folder / name).write_text(SECRET)
    return folder


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    matches = {path: path.lstat() for path in folder.rglob("*")}
    return {str(path): (stat.st_mtime_ns, stat.st_size) for path, stat in matches.items() if not path.is_dir()}


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every path that this process opens, lists, creates or moves during the test."""
    paths: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("open", "os.mkdir", "os.rename", "os.remove", "os.listdir", "os.scandir"):
            paths.extend(
                os.fsdecode(matches) for matches in arguments[:2] if isinstance(matches, str | bytes | os.PathLike)
            )

    sys.addaudithook(hook)  # it cannot be taken away again, only told to stop
    yield paths
    watching.clear()


@pytest.mark.parametrize(
    "every",
    [
        pytest.param(1, marks=[pytest.mark.reliability, pytest.mark.timeout(900)], id="all"),
        pytest.param(15, marks=pytest.mark.processes),  # takes seconds
        60,
    ],
)
async def test_no_name_leads_out_of_the_home_folder(
    tmp_path: Path, outside: Path, opened: list[str], every: int
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    store = SqlStore(f"sqlite:///{home / 'ampsweep.db'}", SystemClock())
    installation = Installation.build(home, store=store)
    names = payloads()
    assert len(set(names)) == 300
    async with running_server(installation, working=False) as server:
        server.http.headers.update(server.key(KeyScope.ADMIN)[1])
        before = everything(outside)
        opened.clear()
        for name in names[::every]:
            once, twice = quote(name, safe=""), quote(quote(name, safe=""), safe="")
            for encoded in (once, twice):
                for path in (
                    f"/v1/sweeps/{encoded}",
                    f"/v1/sweeps/{encoded}/cells",
                    f"/v1/sweeps/{encoded}/events",
                    f"/v1/sweeps/{encoded}/results",
                    f"/v1/sweeps/{encoded}/summary",
                    f"/v1/neuron-sets/{encoded}?include=neurons",
                    f"/v1/models/{encoded}",
                    f"/v1/sweeps?after={encoded}",
                    f"/v1/neuron-sets?after={encoded}",
                ):
                    answer = await server.http.get(path)
                    assert answer.status_code in (200, 307, 404, 422), (
                        path,
                        answer.text,
                    )  # 307: without the last slash
                    assert SECRET not in answer.text or SECRET in name
                    assert "root:" not in answer.text
            for where, body in bodies(name):
                answer = await server.http.post(where, json=body)
                assert 400 <= answer.status_code < 500, (where, body, answer.text)
            headers = {"Idempotency-Key": quote(name)[:255], "X-Request-ID": quote(name)[:128]}
            assert (await server.http.post("/v1/sweeps", json={"name": name}, headers=headers)).status_code == 422
        touched = {path for path in opened if SECRET in path or path.startswith(("/etc/passwd", "/proc/self/environ"))}
        assert touched == set()
        assert everything(outside) == before
    store.close()


def bodies(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a request for every field of a body that takes a name."""
    task = SPEC["tasks"][0]
    by_method = SPEC["neurons"]
    sweeps: list[dict[str, Any]] = [
        {"model": name},
        {"neurons": {"id": name}},
        {"neurons": {**by_method, "corpus": name}},
        {"neurons": {**by_method, "languages": ["en", name]}},
        {"tasks": [{**task, "name": name}]},
        {"tasks": [{**task, "data": name}]},
        {"tasks": [{**task, "split": name}]},
        {"tasks": [{**task, "languages": [name]}]},
        {"interventions": {**SPEC["interventions"], "languages": [name]}},
    ]
    steering = {"languages": ["fr"], "op": "scale", "factor": 2}
    text = {"model": "tiny", "prompt": "x"}
    return [
        *(("/v1/sweeps", {**SPEC, **change}) for change in sweeps),
        ("/v1/completions", {**text, "model": name}),
        ("/v1/completions", {**text, "neurons": name, "intervention": steering}),
        ("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/neuron-sets", {"model": name, "neurons": {"fr": {"0": [1]}}}),
        ("/v1/neuron-sets", {"model": "tiny", "neurons": {**by_method, "corpus": name}}),
        ("/v1/neuron-sets", {"model": "tiny", "neurons": {**by_method, "languages": ["en", name]}}),
        ("/v1/neuron-sets", {"model": "tiny", "neurons": {"fr": {name: [1]}}}),
    ]
