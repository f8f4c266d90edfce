"""Admits steered requests to vLLM's scheduler, and ends those for which the model computes NaN.

A steered request waits until the steering table has a slot for its intervention. Meanwhile it is known to the
scheduler, so that it can be aborted and counted, but it is in none of the scheduler's queues. It is put in one when an
unfinished request gives a slot up. The scheduler names that request as finished in the same output as the new one, or
in an earlier one, and a worker reads who has finished first. A preempted request keeps its slot.

The workers report the steered requests that overflow. Such a request ends with vLLM's finish reason `error`, without a
token of that step, and with the message as its stop reason.
"""

from __future__ import annotations

import logging
from typing import Any

from engine.overflow import too_strong
from engine.vllm.admission import SlotQueue
from engine.vllm.options import table_entries
from engine.vllm.plugin.configuration import describe
from engine.vllm.plugin.metrics import OVERFLOWED, SLOTS, STEERED, USED, WAITING
from engine.vllm.requests.request_extras import RequestExtras, SteeringArgs

log = logging.getLogger(__name__)


def attach(scheduler: Any, vllm_config: Any) -> None:
    """Make a scheduler admit steered requests by the slots of the workers' tables."""
    slots: int = vllm_config.additional_config["ampsweep"]["slots"]
    info = describe(vllm_config)
    queue: SlotQueue[Any] = SlotQueue(slots, max_entries=table_entries(info.widths, slots=slots))
    scheduler.ampsweep = SteeredScheduling(scheduler, queue, dtype=info.dtype)
    scheduler.ampsweep.install()


class SteeredScheduling:
    """The steered requests of one scheduler.

    Args:
        scheduler: vLLM's scheduler.
        queue: The slots, and the requests that wait for one.
        dtype: The dtype in which the model computes.

    Attributes:
        steered: Steered requests that were admitted.
        overflowed: Those of them for which the model computed NaN.
    """

    def __init__(self, scheduler: Any, queue: SlotQueue[Any], *, dtype: str) -> None:
        self._scheduler = scheduler
        self._queue = queue
        self._dtype = dtype
        self._admitted: dict[str, str] = {}  # slot keys by request
        self._enqueue = scheduler._enqueue_waiting_request  # noqa: SLF001
        self._free = scheduler._free_request  # noqa: SLF001
        self._finish = scheduler.finish_requests
        self._counts = scheduler.get_request_counts
        self._stats = scheduler.make_stats
        self._update = scheduler.update_from_output
        self.steered = 0
        self.overflowed = 0

    def install(self) -> None:
        """Replace the scheduler's methods."""
        scheduler = self._scheduler
        scheduler._enqueue_waiting_request = self._enqueue_or_hold  # noqa: SLF001
        scheduler._free_request = self._free_and_admit  # noqa: SLF001
        scheduler.finish_requests = self._finish_requests
        scheduler.get_request_counts = self._count_requests
        scheduler.make_stats = self._make_stats
        scheduler.update_from_output = self._update_from_output

    def reset_counts(self) -> None:
        """Count anew, after requests that no client has sent."""
        self.steered = self.overflowed = 0

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

    def _update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """End the requests that overflowed before their tokens are read, as if a client had aborted them just now."""
        if not (nans := model_runner_output.num_nans_in_logits):
            return self._update(scheduler_output, model_runner_output)
        ended = self._end_overflowed([request_id for request_id, count in nans.items() if count])
        outputs = self._update(scheduler_output, model_runner_output)
        if ended:
            _add_errors(outputs, ended, too_strong(self._dtype))
        return outputs

    def _end_overflowed(self, request_ids: list[str]) -> list[Any]:
        from vllm.v1.request import RequestStatus

        steered = [request_id for request_id in request_ids if request_id in self._admitted]
        if not steered:
            return []
        ended: list[Any] = self._scheduler.finish_requests(steered, RequestStatus.FINISHED_ERROR)
        if ended and not self.overflowed:
            message = "request %s ended with an error: %s; further ones are only counted"
            log.warning(message, ended[0].request_id, too_strong(self._dtype))
        self.overflowed += len(ended)
        return ended

    def _make_stats(self, *args: Any, **kwargs: Any) -> Any:
        """Add the slots to the only numbers by name that vLLM's statistics have and its own loggers ignore."""
        stats = self._stats(*args, **kwargs)
        if stats is not None:
            stats.num_kv_fetch_reqs_by_stage |= {
                SLOTS: self._queue.capacity,
                USED: self._queue.in_use,
                WAITING: self._queue.waiting,
                STEERED: self.steered,
                OVERFLOWED: self.overflowed,
            }
        return stats


def _add_errors(outputs: dict[int, Any], ended: list[Any], message: str) -> None:
    """Add the last output of each of these requests to those for its front end."""
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs

    for request in ended:
        output = EngineCoreOutput(
            request_id=request.request_id,
            new_token_ids=[],
            finish_reason=request.get_finished_reason(),
            stop_reason=message,
            events=request.take_events(),
            trace_headers=request.trace_headers,
        )
        outputs.setdefault(request.client_index, EngineCoreOutputs(outputs=[])).outputs.append(output)


def _steering(request: Any) -> SteeringArgs | None:
    params = request.sampling_params
    return None if params is None else RequestExtras.read(params.extra_args).steer
