"""Lets requests of vLLM's scheduler wait until the steering table has a slot for their intervention.

A waiting request is known to the scheduler, so that it can be aborted and counted, but is in none of its queues. It is
put in one when an unfinished request gives the slot up. The scheduler names that request as finished in the same output
as the new one, or in an earlier one, and a worker reads who has finished first. A preempted request keeps its slot.
"""

from __future__ import annotations

from typing import Any

from engine.vllm.admission import SlotQueue
from engine.vllm.options import table_entries
from engine.vllm.plugin.configuration import describe
from engine.vllm.plugin.metrics import SLOTS, STEERED, USED, WAITING
from engine.vllm.request_extras import RequestExtras, SteeringArgs


def attach(scheduler: Any, vllm_config: Any) -> None:
    """Make a scheduler admit steered requests by the slots of the workers' tables."""
    slots: int = vllm_config.additional_config["ampsweep"]["slots"]
    entries = table_entries(describe(vllm_config).widths, slots=slots)
    SlotScheduling(scheduler, SlotQueue(slots, max_entries=entries)).install()


class SlotScheduling:
    """The admission of one scheduler.

    Attributes:
        steered: Steered requests that were admitted.
    """

    def __init__(self, scheduler: Any, queue: SlotQueue[Any]) -> None:
        self._scheduler = scheduler
        self._queue = queue
        self._admitted: dict[str, str] = {}  # slot keys by request
        self._enqueue = scheduler._enqueue_waiting_request  # noqa: SLF001
        self._free = scheduler._free_request  # noqa: SLF001
        self._finish = scheduler.finish_requests
        self._counts = scheduler.get_request_counts
        self._stats = scheduler.make_stats
        self.steered = 0

    def install(self) -> None:
        """Replace the scheduler's methods."""
        scheduler = self._scheduler
        scheduler._enqueue_waiting_request = self._enqueue_or_hold  # noqa: SLF001
        scheduler._free_request = self._free_and_admit  # noqa: SLF001
        scheduler.finish_requests = self._finish_requests
        scheduler.get_request_counts = self._count_requests
        scheduler.make_stats = self._make_stats

    def _enqueue_or_hold(self, request: Any) -> None:
        steer = _steering(request)
        if steer is None or request.request_id in self._admitted:
            self._enqueue(request)
        elif self._queue.acquire(request, steer.key, size=steer.entries, priority=request.priority):
            self._admit(request, steer.key)

    def _admit(self, request: Any, key: str) -> None:
        self._admitted[request.request_id] = key
        self.steered += 1
        self._enqueue(request)

    def _free_and_admit(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        freed = self._free(request, *args, **kwargs)
        key = self._admitted.pop(request.request_id, None)
        self._admit_all(self._queue.withdraw(request) if key is None else self._queue.release(key))
        return freed

    def _admit_all(self, requests: list[Any]) -> None:
        for request in requests:
            steer = _steering(request)
            assert steer is not None
            self._admit(request, steer.key)

    def _finish_requests(self, request_ids: Any, finished_status: Any) -> Any:
        """End requests, those that wait for a slot first: none of them may be admitted by the end of another."""
        requests = self._scheduler.requests
        ids = [request_ids] if isinstance(request_ids, str) else requests if request_ids is None else request_ids
        for request_id in list(ids):
            if (request := requests.get(request_id)) is not None and request_id not in self._admitted:
                self._admit_all(self._queue.withdraw(request))
        return self._finish(request_ids, finished_status)

    def _count_requests(self) -> tuple[int, int]:
        running, waiting = self._counts()
        return running, waiting + self._queue.waiting

    def _make_stats(self, *args: Any, **kwargs: Any) -> Any:
        """Add the slots to the only numbers by name that vLLM's statistics have and its own loggers ignore."""
        stats = self._stats(*args, **kwargs)
        if stats is not None:
            stats.num_kv_fetch_reqs_by_stage |= {
                SLOTS: self._queue.capacity,
                USED: self._queue.in_use,
                WAITING: self._queue.waiting,
                STEERED: self.steered,
            }
        return stats


def _steering(request: Any) -> SteeringArgs | None:
    params = request.sampling_params
    return None if params is None else RequestExtras.read(params.extra_args).steer
