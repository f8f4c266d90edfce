"""The plug-in's metrics follow what an engine's core reports, for each engine and through its restarts."""

from __future__ import annotations

from collections import Counter as Counts
from types import SimpleNamespace
from typing import ClassVar

from prometheus_client import REGISTRY, Counter, Gauge

from engine.vllm.plugin.metrics import OVERFLOWED, SLOTS, STEERED, USED, WAITING, SlotMetrics


def value(name: str, engine: int) -> float | None:
    return REGISTRY.get_sample_value(f"ampsweep:{name}", {"model_name": "tiny", "engine": str(engine)})


def stats(steered: int, used: int = 1, waiting: int = 3) -> SimpleNamespace:
    numbers = {SLOTS: 4, USED: used, WAITING: waiting, STEERED: steered, OVERFLOWED: steered // 4, "in_progress": 9}
    return SimpleNamespace(num_kv_fetch_reqs_by_stage=numbers)


def test_the_numbers_of_each_engine_are_shown_under_its_labels() -> None:
    metrics = SlotMetrics({0: ["tiny", "0"], 1: ["tiny", "1"]}, gauge=Gauge, counter=Counter)
    metrics.record(stats(5), 0)
    metrics.record(stats(7, used=2), 1)
    metrics.record(stats(8), 0)
    metrics.record(SimpleNamespace(num_kv_fetch_reqs_by_stage={}), 0)  # before the first step
    assert [value("slots", engine) for engine in (0, 1)] == [4, 4]
    assert [value("slots_used", engine) for engine in (0, 1)] == [1, 2]
    assert [value("requests_waiting_for_slot", engine) for engine in (0, 1)] == [3, 3]
    assert [value("steered_requests_total", engine) for engine in (0, 1)] == [8, 7]
    assert [value("overflowed_requests_total", engine) for engine in (0, 1)] == [2, 1]


def test_a_second_engine_of_the_process_goes_on_counting() -> None:
    before = value("steered_requests_total", 0) or 0.0
    metrics = SlotMetrics({0: ["tiny", "0"]}, gauge=Gauge, counter=Counter)
    metrics.record(stats(2), 0)
    metrics.record(stats(3), 0)
    assert value("steered_requests_total", 0) == before + 3


class Kept:
    """A metric of another library, as vLLM wraps Ray's."""

    values: ClassVar[Counts[str]] = Counts()

    def __init__(self, name: str, *_: object, **__: object) -> None:
        self.name = name

    def labels(self, *_: object) -> Kept:
        return self

    def set(self, number: float) -> None:
        self.values[self.name] = int(number)

    def inc(self, number: float) -> None:
        self.values[self.name] += int(number)


def test_the_numbers_go_where_vllm_s_own_go() -> None:
    before = value("steered_requests_total", 0)
    metrics = SlotMetrics({0: ["tiny", "0"]}, gauge=Kept, counter=Kept)
    metrics.record(stats(5, used=2), 0)
    expected = {"slots": 4, "slots_used": 2, "requests_waiting_for_slot": 3, "steered_requests": 5}
    expected["overflowed_requests"] = 1
    assert Kept.values == {f"ampsweep:{name}": number for name, number in expected.items()}
    assert value("steered_requests_total", 0) == before
