"""A Ray cluster on this machine whose nodes come and go in the midst of a sweep: work moves over, and back.

Real Ray nodes, with a token, each a process group of its own; the sweep runs in a third process. A node is killed as a
machine dies: all its processes at once.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ampsweep.processes import descendants

pytestmark = pytest.mark.reliability

RAY = str(Path(sys.executable).parent / "ray")
STORE = f"--object-store-memory={80 * 1024 * 1024}"


@dataclass(kw_only=True)
class Cluster:
    """A head without resources, and the nodes that were joined to it."""

    address: str
    environment: dict[str, str]
    folder: Path
    stack: ExitStack

    def join(self) -> Node:
        """Add a node with room for one engine."""
        options = ["--address", self.address, "--num-cpus=1", "--num-gpus=0", STORE]
        return self.stack.enter_context(node(self.environment, *options))


@dataclass(kw_only=True)
class Node:
    """A Ray node: its first process, the leader of a group."""

    process: subprocess.Popen[bytes]

    def engines(self) -> int:
        """Return how many engines run on it."""
        return sum(is_engine(pid) for pid, _ in descendants(self.process.pid))

    def die(self) -> None:
        """Kill all its processes at once; those that Ray has put into sessions of their own too."""
        for pid, _ in descendants(self.process.pid):
            with_pid(pid)
        self.process.wait()


def with_pid(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def is_engine(pid: int) -> bool:
    try:
        return b"RayEngineActor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextmanager
def node(environment: dict[str, str], *options: str) -> Iterator[Node]:
    command = [RAY, "start", "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--block", *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    started = Node(process=process)
    try:
        yield started
    finally:
        started.die()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
    short = Path(f"/tmp/ampsweep-ray-{os.getpid()}")  # Ray's sockets lie below it, and their paths must be short
    with ExitStack() as stack:
        address = f"127.0.0.1:{port}"
        head = ["--head", f"--port={port}", "--num-cpus=0", "--num-gpus=0", STORE, "--include-dashboard=false"]
        stack.enter_context(node(environment, *head, f"--temp-dir={short}"))
        new_cluster = Cluster(address=address, environment=environment, folder=tmp_path, stack=stack)
        wait_for(lambda: healthy(new_cluster), "the head")
        yield new_cluster
    shutil.rmtree(short, ignore_errors=True)


def healthy(cluster: Cluster) -> bool:
    command = [RAY, "health-check", "--address", cluster.address]
    return subprocess.run(command, env=cluster.environment, capture_output=True, check=False).returncode == 0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"{what} did not come up"


@dataclass(kw_only=True)
class Sweep:
    """The process of the sweep, and what it has said."""

    process: subprocess.Popen[str]
    messages: list[dict[str, Any]] = field(default_factory=list)

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on until it says something of the kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue  # Ray's own, of a node that died
            fact: dict[str, Any] = json.loads(line)
            self.messages.append(fact)
            if condition(fact):
                return fact
        raise AssertionError(f"it ended; the last it said: {self.messages[-1:]}")

    def __enter__(self) -> Sweep:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def sweep(cluster: Cluster) -> Sweep:
    command = [sys.executable, "-m", "tests.worker.in_cluster", cluster.address, str(cluster.folder / "stack")]
    process = subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True)
    return Sweep(process=process)


def ready(count: int) -> Callable[[dict[str, Any]], bool]:
    return lambda fact: fact.get("states", []).count("ready") == count


def test_nodes_join_and_leave_during_a_sweep(cluster: Cluster) -> None:
    first = cluster.join()
    with sweep(cluster) as running:
        running.until(lambda fact: fact.get("done", 0) > 0)
        assert running.messages[-1]["states"].count("ready") == 1, "the other engine waits for a node"
        assert first.engines() == 1

        second = cluster.join()
        running.until(ready(2))
        assert (first.engines(), second.engines()) == (1, 1), "work moves over"

        died = time.monotonic()
        first.die()
        before = running.until(lambda fact: not ready(2)(fact))["done"]
        noticed = time.monotonic() - died
        running.until(lambda fact: fact["done"] > before + 2)
        assert second.engines() == 1, "the other node goes on alone"

        joined = time.monotonic()
        third = cluster.join()
        back = running.until(ready(2))
        moved = time.monotonic() - joined
        assert (second.engines(), third.engines()) == (1, 1), "and work moves back"
        assert back["done"] < back["total"], "all that happened in the midst of the sweep"

        ended = running.until(lambda fact: "ended" in fact)
        sys.stdout.write(f"death noticed after {noticed:.1f} s; an engine {moved:.1f} s after its node; {ended}\n")
        assert (ended["ended"], ended["failed"]) == ("completed", 0)
        assert max(map(int, ended["tries"])) <= 2, "what was in flight on the dead node was tried once more"
        assert ended["tries"].get("2", 0) <= 2, "and that was at most what one engine holds"
    assert running.process.returncode is not None
