"""Fixtures of all tests: Triton's interpreter without a GPU, Ctrl-C, and processors of each worker's own."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import re
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from _pytest.logging import catching_logs

from tests.loop_stalls import LIMIT, watched_loops

if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton: it reads this for its own functions too

# How long one example takes is the machine's affair. `make reliability` tries many more.
hypothesis.settings.register_profile("ampsweep", deadline=None, max_examples=30)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("ampsweep")

# A shell's background jobs ignore SIGINT, and so would the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist workers not share processors for the threads of OpenMP, before anything imports PyTorch.

    Such threads spin while they wait for each other, so two engines that share processors take several times as long as
    one after the other. Each worker of the engine tier has processors of its own, of which one is enough for a tiny
    model, and each worker of the fast tier has one thread.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    terms = config.option.markexpr.split(" and ")
    if worker is not None and "engine" in terms:
        processors = sorted(os.sched_getaffinity(0))
        own = processors[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])] or processors
        os.sched_setaffinity(0, own)
        os.environ["OMP_NUM_THREADS"] = str(len(own))
    elif worker is not None and {"not engine", "not processes"} <= set(terms):
        os.environ["OMP_NUM_THREADS"] = "1"


MODULE_OF_A_TIER = re.compile(r"^pytestmark = \[?[^\]]*?pytest\.mark\.(engine|processes|reliability)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import modules that belong as a whole to a tier that `-m` excludes: they import what only they need."""
    terms = config.option.markexpr.split(" and ")
    excluded = {term.removeprefix("not ") for term in terms if term.startswith("not ")}
    if not excluded or " or " in config.option.markexpr or collection_path.suffix != ".py":
        return None
    tier = MODULE_OF_A_TIER.search(collection_path.read_text(encoding="utf-8"))
    return True if tier is not None and tier[1] in excluded else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while modules are imported, most of whose objects stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Exclude all modules and tests from garbage collection: they stay, and searching them takes a second each time.

    pytest collects five times at its end, so only the interpreter's exit includes them again. Meanwhile garbage is
    collected less often than by default: what tests leave in cycles is little.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 5)
    atexit.register(gc.unfreeze)


def _capture_from_root(self: catching_logs[logging.Handler]) -> logging.Handler:
    """Enter `catching_logs` without looking for loggers that do not propagate.

    pytest looks through the thousands of loggers of all libraries six times in each test.
    """
    root = logging.getLogger()
    root.addHandler(self.handler)
    self.attached_loggers.append(root)
    if self.level is not None:
        self.handler.setLevel(self.level)
        self.orig_level = root.level
        root.setLevel(min(self.orig_level, self.level))
    return self.handler


catching_logs.__enter__ = _capture_from_root  # type: ignore[method-assign,assignment]


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Let no test wait until its files are on the disk: none cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The database of a PostgreSQL server that the tests of a process share."""
    from tests.postgres import postgres_server  # here, because xdist's main process needs no SQLAlchemy

    with postgres_server() as url:
        yield url


@pytest.fixture
def no_loop_stalls(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that keeps an event loop from turning for more than 200 ms.

    Tests of the tiers `engine` and `processes` are left out: there a loop waits for the interpreter's lock, which a
    compiler in another thread holds for long, or for a processor that a process of the test's has.
    AMPSWEEP_STALL_FACTOR multiplies the limit, for machines whose processors are shared with others.
    """
    if {"engine", "processes"} & {marker.name for marker in request.node.iter_markers()}:
        yield
        return
    with watched_loops(LIMIT * float(os.environ.get("AMPSWEEP_STALL_FACTOR", "1"))) as watch:
        yield
    if watch.stalls:
        pytest.fail("an event loop stalled for " + "\n".join(map(str, watch.stalls)))
