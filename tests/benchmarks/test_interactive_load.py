from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ampsweep.errors import Unavailable
from benchmarks.interactive_load import SPEC, Round, command, report, sweep_running, wait_for_engine
from jobs.spec.sweep import parse_spec


class StubClient:
    """A server whose sweep goes through the given states, one at each request, and stays in the last one."""

    def __init__(self, *states: tuple[str, int]) -> None:
        self.states: Iterator[tuple[str, int]] = iter(states)
        self.state = ("in_progress", 0)
        self.cancelled: list[str] = []

    def submit(self, spec: Any) -> SimpleNamespace:
        assert spec["name"] == "interactive-load"
        return SimpleNamespace(id="sweep_1")

    def sweep(self, _: str) -> SimpleNamespace:
        self.state = next(self.states, self.state)
        return SimpleNamespace(status=self.state[0], request_counts=SimpleNamespace(completed=self.state[1]))

    def cancel(self, sweep_id: str) -> None:
        self.cancelled.append(sweep_id)
        self.states = iter([("cancelling", 1), ("cancelled", 1)])


def test_requests_begin_when_the_engine_has_started() -> None:
    slept: list[float] = []

    def complete(model: str, prompt: str, *, max_tokens: int) -> None:
        assert (model, max_tokens) == ("atlas", 1)
        if len(slept) < 3:
            raise Unavailable("the engine is starting")

    client: Any = SimpleNamespace(complete=complete)
    wait_for_engine(client, "atlas", sleep=slept.append)
    assert len(slept) == 3


def running(client: Any, slept: list[float]) -> Any:
    return sweep_running(client, SPEC, sleep=slept.append)


def test_the_goal_is_met_or_missed_by_the_median_of_the_rounds() -> None:
    rounds = [Round(idle=10.0, busy=busy) for busy in (14.0, 30.0, 13.0)]
    text = report(rounds)
    assert "| 2 | 10.0 | 30.0 | 3.00 |" in text
    assert text.endswith("Median ratio 1.40; the goal of at most 1.5 is met.")
    assert report(rounds[:2]).endswith("Median ratio 2.20; the goal of at most 1.5 is missed.")


def test_the_sweep_has_a_completed_cell_before_the_requests_are_sent_and_is_cancelled_after_them() -> None:
    client, slept = StubClient(("in_progress", 0), ("in_progress", 0), ("in_progress", 1)), list[float]()
    with running(client, slept):
        assert (client.state, slept, client.cancelled) == (("in_progress", 1), [1.0, 1.0], [])
    assert (client.state, client.cancelled) == (("cancelled", 1), ["sweep_1"])


def test_a_sweep_that_is_too_short_is_an_error() -> None:
    client = StubClient(("in_progress", 1), ("completed", 9))
    with (
        pytest.raises(SystemExit, match="completed before the requests were answered; give a larger one"),
        running(client, []),
    ):
        pass
    assert client.cancelled == []


def test_the_default_sweep_is_valid_and_the_requests_are_sent_to_the_server() -> None:
    assert parse_spec(dict(SPEC)).model == "atlas"
    options = argparse.Namespace(url="http://host:1", model="m", tokenizer=Path("f"), requests=5, rate=2.0)
    arguments = command(options, seed=3, folder=Path("out"))
    pairs = dict(pairwise(arguments))
    assert (pairs["--base-url"], pairs["--endpoint"], pairs["--num-prompts"]) == (
        "http://host:1",
        "/v1/completions",
        "5",
    )
