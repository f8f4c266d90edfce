"""Steered requests in vLLM's scheduler, against a stand-in that keeps vLLM's queues.

They wait until there is a slot, and end with an error if the workers report NaN.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ampsweep.domain.intervention import Intervention
from engine.base import Steering
from engine.vllm.admission import SlotQueue
from engine.vllm.plugin.scheduler import SteeredScheduling
from engine.vllm.requests.request_extras import RequestExtras, steering_args

Request = Any


class Scheduler:
    """The queues of vLLM's scheduler, and the order in which its methods call each other."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self.waiting: list[Request] = []
        self.finished: list[str] = []

    def add_request(self, request: Request) -> None:
        self._enqueue_waiting_request(request)
        self.requests[request.request_id] = request

    def _enqueue_waiting_request(self, request: Request) -> None:
        self.waiting.append(request)

    def finish_requests(self, request_ids: str | Iterable[str] | None, finished_status: str) -> list[Request]:
        ids = (request_ids,) if isinstance(request_ids, str) else self.requests if request_ids is None else request_ids
        ended = [self.requests[request_id] for request_id in ids if request_id in self.requests]
        self.waiting = [request for request in self.waiting if request not in ended]
        for request in ended:
            request.status = finished_status
            self._free_request(request)
        return ended

    def _free_request(self, request: Request) -> tuple[None, None]:
        self.finished.append(request.request_id)
        del self.requests[request.request_id]
        return None, None

    def get_request_counts(self) -> tuple[int, int]:
        return 0, len(self.waiting)

    def make_stats(self) -> Any:
        return SimpleNamespace(num_kv_fetch_reqs_by_stage={})

    def update_from_output(self, scheduled: list[str], output: Any) -> dict[int, Any]:
        """Give each scheduled request that has not ended its next token."""
        outputs: dict[int, Any] = {}
        for request in [self.requests[name] for name in scheduled if name in self.requests]:
            token = SimpleNamespace(request_id=request.request_id, new_token_ids=[7], finish_reason=None)
            outputs.setdefault(request.client_index, SimpleNamespace(outputs=[])).outputs.append(token)
        return outputs


def request(name: str, factor: float | None, *, priority: int = 0) -> Request:
    extra_args = {}
    if factor is not None:
        intervention = Intervention.from_dict({"languages": ["fr"], "op": "scale", "factor": factor})
        steering = Steering(intervention=intervention, neurons="ns")
        extra_args = RequestExtras(steer=steering_args(steering, 3, entries=1)).extra_args()
    made: Request = SimpleNamespace(
        request_id=name,
        sampling_params=SimpleNamespace(extra_args=extra_args),
        priority=priority,
        status="",
        client_index=0,
        trace_headers=None,
        take_events=lambda: None,
        get_finished_reason=lambda: made.status,
    )
    return made


@pytest.fixture
def scheduler() -> Scheduler:
    scheduler = Scheduler()
    SteeredScheduling(scheduler, SlotQueue(2, max_entries=16), dtype="float16").install()
    return scheduler


def names(scheduler: Scheduler) -> list[str]:
    return [request.request_id for request in scheduler.waiting]


def numbers(scheduler: Scheduler) -> dict[str, int]:
    counts: dict[str, int] = scheduler.make_stats().num_kv_fetch_reqs_by_stage
    return {name.removeprefix("ampsweep_"): count for name, count in counts.items()}


def test_a_full_table_holds_requests_back_until_a_slot_is_given_up(scheduler: Scheduler) -> None:
    for name, factor in (("a", 1.5), ("b", 2.0), ("c", 3.0), ("a2", 1.5), ("plain", None), ("d", 4.0)):
        scheduler.add_request(request(name, factor))
    assert names(scheduler) == ["a", "b", "a2", "plain"]
    assert scheduler.get_request_counts() == (0, 6)
    assert numbers(scheduler) == {"slots": 2, "slots_used": 2, "slots_waiting": 2, "steered": 3, "overflowed": 0}
    scheduler.finish_requests("a", "stopped")
    assert "c" not in names(scheduler), "a2 still has the slot"
    scheduler.finish_requests("a2", "stopped")
    assert names(scheduler) == ["b", "plain", "c"]
    scheduler.finish_requests("b", "stopped")
    assert names(scheduler) == ["plain", "c", "d"]
    assert numbers(scheduler) == {"slots": 2, "slots_used": 2, "slots_waiting": 0, "steered": 5, "overflowed": 0}


def test_a_new_user_of_a_slot_is_queued_only_after_the_old_one_is_reported_finished(scheduler: Scheduler) -> None:
    reported: list[tuple[str, list[str]]] = []
    for name, factor in (("a", 1.5), ("b", 2.0), ("c", 3.0)):
        scheduler.add_request(request(name, factor))
    queue = scheduler.waiting

    class Watched(list[Request]):
        def append(self, item: Request) -> None:
            reported.append((item.request_id, list(scheduler.finished)))
            super().append(item)

    scheduler.waiting = Watched(queue)
    scheduler.add_request(request("d", None))
    scheduler._free_request(queue[0])
    assert reported == [("d", []), ("c", ["a"])]


def test_a_request_that_is_enqueued_again_keeps_its_slot(scheduler: Scheduler) -> None:
    for name, factor in (("a", 1.5), ("b", 2.0), ("c", 3.0)):
        scheduler.add_request(request(name, factor))
    preempted = scheduler.waiting.pop(0)
    scheduler._enqueue_waiting_request(preempted)
    assert names(scheduler) == ["b", "a"]
    assert numbers(scheduler)["slots_used"] == 2


def test_aborted_requests_leave_the_queue_of_slots_and_none_of_them_is_admitted(scheduler: Scheduler) -> None:
    for name, factor in (("a", 1.5), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0)):
        scheduler.add_request(request(name, factor))
    ended = scheduler.finish_requests(["a", "c"], "aborted")
    assert sorted(one.request_id for one in ended) == ["a", "c"]
    assert names(scheduler) == ["b", "d"]
    scheduler.finish_requests(None, "aborted")
    assert names(scheduler) == []
    assert scheduler.requests == {}
    assert numbers(scheduler)["slots_used"] == numbers(scheduler)["slots_waiting"] == 0


def test_the_priority_decides_which_request_gets_the_next_slot(scheduler: Scheduler) -> None:
    scheduler.add_request(request("a", 1.5))
    scheduler.add_request(request("b", 2.0))
    scheduler.add_request(request("late", 3.0, priority=1))
    scheduler.add_request(request("urgent", 4.0, priority=-1))
    scheduler.finish_requests("a", "stopped")
    assert names(scheduler) == ["b", "urgent"]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of vLLM with which a request is ended."""
    status = SimpleNamespace(FINISHED_ERROR="error")
    names: dict[str, dict[str, Any]] = {
        "vllm": {},
        "vllm.v1": {},
        "vllm.v1.request": {"RequestStatus": status},
        "vllm.v1.engine": {"EngineCoreOutput": SimpleNamespace, "EngineCoreOutputs": SimpleNamespace},
    }
    for name, members in names.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("vllm")
def test_a_steered_request_that_overflows_ends_with_an_error_and_gives_its_slot_up(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    for name, factor in (("a", 1.5), ("b", 2.0), ("c", 3.0), ("plain", None), ("elsewhere", None)):
        scheduler.add_request(request(name, factor))
    scheduler.requests["b"].client_index = scheduler.requests["elsewhere"].client_index = 1
    with caplog.at_level(logging.WARNING):
        nans = {"a": 1, "b": 0, "plain": 1}
        outputs = scheduler.update_from_output(["a", "b", "plain"], SimpleNamespace(num_nans_in_logits=nans))
    given = {index: {one.request_id: one.new_token_ids for one in outputs[index].outputs} for index in outputs}
    assert given == {0: {"plain": [7], "a": []}, 1: {"b": [7]}}
    error = outputs[0].outputs[-1]
    assert error.finish_reason == "error"
    assert error.stop_reason.startswith("the intervention is too strong")
    assert error.stop_reason.endswith("use a smaller factor, or load the model with --dtype bfloat16")
    assert names(scheduler) == ["b", "plain", "elsewhere", "c"]
    assert numbers(scheduler)["overflowed"] == 1
    scheduler.update_from_output(["b", "plain"], SimpleNamespace(num_nans_in_logits={"b": 1, "a": 1}))
    assert numbers(scheduler)["overflowed"] == 2
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["request a ended with an error"]


def test_a_step_without_overflow_is_vllms_own(scheduler: Scheduler) -> None:
    scheduler.add_request(request("a", 1.5))
    without: list[dict[str, int] | None] = [None, {}]
    for nans in without:
        outputs = scheduler.update_from_output(["a"], SimpleNamespace(num_nans_in_logits=nans))
        assert [one.new_token_ids for one in outputs[0].outputs] == [[7]]
