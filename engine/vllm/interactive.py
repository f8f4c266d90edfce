"""Schedules interactive requests ahead of the batch requests of sweeps.

vLLM orders waiting requests by priority, but a step computes all running requests, however many there are, and cannot
be interrupted: the first token of an interactive request would take one to two steps of a full batch. Here

- a step in which an interactive request waits for its first token has no batch requests;
- while interactive requests run, and for `GRACE_SECONDS` after the last one, a step has only so many tokens of batch
  requests that it takes no longer than a step of interactive requests alone took, and always as many as that step had;
- if an interactive request finds no place in the batch, or no free block of the KV cache, a batch request is preempted.

Without interactive requests nothing is limited. Requests that are held keep their blocks and their places.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.base import Priority

if TYPE_CHECKING:
    from vllm import LLMEngine

GRACE_SECONDS = 10.0
"""How long steps stay short after the last interactive request, because another one may follow."""
MAX_HELD_STEPS = 16
"""Most steps in a row without batch requests. The next one has some, so that they progress under any load."""
LEAST_STEP_SECONDS = 0.005
"""The shortest step that batch requests are limited to."""
FIRST_SHARE = 1 / 32
"""Share of the tokens of a step that batch requests get before the time of a step is known."""
_SMOOTHING = 0.3
_GROWTH, _LEAST_CUT = 1.25, 0.25


class Mode(Enum):
    """How many tokens of batch requests a step may have: all that fit, a few, or none."""

    FULL = "full"
    SHORT = "short"
    HELD = "held"


@dataclass(frozen=True, kw_only=True)
class _Step:
    mode: Mode
    interactive_tokens: int
    batch_tokens: int
    scheduled_at: float


class StepLength:
    """Learns how many tokens of batch requests fit into the time of a step of interactive requests.

    Attributes:
        tokens: How many tokens of batch requests a short step may have.
        least: The fewest, which is the smoothed number of tokens in the steps that computed prompts of interactive
            requests alone. If a step of so many takes longer than those did, the machine has become slower, and fewer
            tokens would only stop the batch requests.
        seconds: Smoothed time of these steps; None before the first.
    """

    def __init__(self, max_tokens: int) -> None:
        """Begin with a small share of `max_tokens`, the most tokens of a step."""
        self._max_tokens = max_tokens
        self.tokens = max(1, int(max_tokens * FIRST_SHARE))
        self.least = 1.0
        self.seconds: float | None = None

    def alone(self, tokens: int, seconds: float) -> None:
        """Learn from a step that computed prompts of interactive requests and nothing else."""
        if self.seconds is None:
            self.least, self.seconds = tokens, seconds
        else:
            self.least += _SMOOTHING * (tokens - self.least)
            self.seconds += _SMOOTHING * (seconds - self.seconds)
        self.tokens = max(self.tokens, int(self.least))

    def short(self, batch_tokens: int, seconds: float) -> None:
        """Learn from a step with a limited number of tokens of batch requests."""
        if self.seconds is None:
            return
        goal = max(self.seconds, LEAST_STEP_SECONDS)
        if seconds > goal:
            self.tokens = max(int(self.least), int(self.tokens * max(goal / seconds, _LEAST_CUT)))
        elif batch_tokens * _GROWTH >= self.tokens:
            self.tokens = min(self._max_tokens, math.ceil(self.tokens * _GROWTH))


class InteractiveScheduling:
    """Makes one of vLLM's schedulers put interactive requests first.

    Attributes:
        length: The length of short steps.
        preempted: How many batch requests were preempted for an interactive one.
    """

    def __init__(self, scheduler: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare the changes to `scheduler`; `install` makes them."""
        self._scheduler = scheduler
        self._clock = clock
        self._schedule_all = scheduler.schedule
        self._add = scheduler.add_request
        self._update = scheduler.update_from_output
        self._interactive: dict[str, Any] = {}
        self._last_seen = -math.inf
        self._held_steps = 0
        self._found_no_room = False
        self._steps: dict[int, _Step] = {}
        self._updated_at = -math.inf
        self.length = StepLength(scheduler.max_num_scheduled_tokens)
        self.preempted = 0

    def install(self) -> None:
        """Replace the scheduler's methods."""
        self._scheduler.add_request = self._add_request
        self._scheduler.schedule = self._schedule
        self._scheduler.update_from_output = self._update_from_output

    def _add_request(self, request: Any) -> None:
        self._add(request)
        if _is_interactive(request):
            self._interactive[request.request_id] = request

    def _schedule(self, *args: Any, **kwargs: Any) -> Any:
        known = self._scheduler.requests
        self._interactive = {key: request for key, request in self._interactive.items() if key in known}
        now = self._clock()
        if self._interactive:
            self._last_seen = now
        elif now - self._last_seen > GRACE_SECONDS:
            return self._schedule_all(*args, **kwargs)
        mode = self._mode()
        if mode is Mode.HELD:
            self._make_room()
        output = self._limited(mode, partial(self._schedule_all, *args, **kwargs))
        self._note(output, mode)
        return output

    def _mode(self) -> Mode:
        if len(self._interactive) == len(self._scheduler.requests):
            return Mode.FULL  # there is nothing to hold
        if not self._awaited() or self._held_steps >= MAX_HELD_STEPS:
            return Mode.SHORT
        return Mode.HELD

    def _awaited(self) -> list[Any]:
        """Return the interactive requests that have no token yet and could be computed."""
        is_blocked = self._scheduler._is_blocked_waiting_status  # noqa: SLF001
        return [
            request
            for request in self._interactive.values()
            if not request.num_output_tokens and not is_blocked(request.status)
        ]

    def _places_needed(self) -> int:
        """Return how many of these have no place in the batch."""
        running = {request.request_id for request in self._scheduler.running}
        return sum(request.request_id not in running for request in self._awaited())

    def _make_room(self) -> None:
        """Preempt batch requests, the latest first, where interactive ones have no place or found no free block."""
        scheduler = self._scheduler
        waiting = self._places_needed()
        missing = len(scheduler.running) + waiting - scheduler.max_num_active_reqs
        if self._found_no_room and waiting:
            missing = max(missing, 1)
        batch = [request for request in scheduler.running if not _is_interactive(request)]
        for request in batch[::-1][: max(0, missing)]:
            scheduler.running.remove(request)
            scheduler._preempt_request(request, self._clock())  # noqa: SLF001
            scheduler.prev_step_scheduled_req_ids.discard(request.request_id)
            self.preempted += 1

    def _limited(self, mode: Mode, schedule: Callable[[], Any]) -> Any:
        """Schedule a step with the tokens of batch requests that its mode allows."""
        if mode is Mode.FULL:
            return schedule()
        scheduler = self._scheduler
        config = scheduler.scheduler_config
        before = scheduler.max_num_scheduled_tokens, scheduler.max_num_active_reqs, config.long_prefill_token_threshold
        batch_tokens = 0 if mode is Mode.HELD else self.length.tokens
        interactive_tokens = sum(map(_tokens_to_compute, self._interactive.values()))
        self._hold(batch_tokens)
        try:
            scheduler.max_num_scheduled_tokens = max(1, min(before[0], interactive_tokens + batch_tokens))
            if mode is Mode.HELD:
                scheduler.max_num_active_reqs = min(before[1], len(scheduler.running) + self._places_needed())
            else:
                config.long_prefill_token_threshold = min(before[2] or batch_tokens, batch_tokens)
            return schedule()
        finally:
            scheduler.max_num_scheduled_tokens, scheduler.max_num_active_reqs = before[:2]
            config.long_prefill_token_threshold = before[2]

    def _hold(self, tokens: int) -> None:
        """Leave the running batch requests that exceed `tokens` out of the next step."""
        left = tokens
        for request in self._scheduler.running:
            if _is_interactive(request):
                continue
            needed = min(_tokens_to_compute(request), tokens)  # a longer prompt is divided
            if 0 < needed <= left:
                left -= needed
            else:
                following = self._scheduler.current_step + 2
                request.next_decode_eligible_step = max(request.next_decode_eligible_step, following)

    def _note(self, output: Any, mode: Mode) -> None:
        scheduled = output.num_scheduled_tokens
        interactive = sum(scheduled.get(key, 0) for key in self._interactive)
        batch = output.total_num_scheduled_tokens - interactive
        self._found_no_room = mode is Mode.HELD and not interactive
        self._held_steps = self._held_steps + 1 if mode is Mode.HELD else 0
        if len(self._steps) > 8:  # of steps that were never updated
            self._steps.clear()
        self._steps[id(output)] = _Step(
            mode=mode, interactive_tokens=interactive, batch_tokens=batch, scheduled_at=self._clock()
        )

    def _update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        now = self._clock()
        step = self._steps.pop(id(scheduler_output), None)
        if step is not None:
            seconds = now - max(step.scheduled_at, self._updated_at)
            if step.batch_tokens == 0 and step.interactive_tokens > len(self._interactive):  # prompts, not only answers
                self.length.alone(step.interactive_tokens, seconds)
            elif step.mode is Mode.SHORT and step.batch_tokens:
                self.length.short(step.batch_tokens, seconds)
        self._updated_at = now
        return self._update(scheduler_output, *args, **kwargs)


def prefer_interactive_requests(engine: LLMEngine) -> None:
    """Make the scheduler of an engine put interactive requests first, if this release of vLLM allows it."""
    core: Any = engine.engine_core
    scheduler = core.engine_core.scheduler
    if can_hold_requests(scheduler):
        InteractiveScheduling(scheduler).install()


def can_hold_requests(scheduler: Any) -> bool:
    """Return whether this release of vLLM has what `InteractiveScheduling` sets; 0.25.1 does not."""
    from vllm.v1.request import Request

    set_by_request = Request.__init__.__code__.co_names
    return "next_decode_eligible_step" in set_by_request and hasattr(scheduler, "max_num_active_reqs")


def _is_interactive(request: Any) -> bool:
    return bool(request.priority <= Priority.INTERACTIVE)


def _tokens_to_compute(request: Any) -> int:
    """Return how many tokens of a request the next step would compute if nothing limited it."""
    tokens: int = request.num_tokens_with_spec + request.num_output_placeholders - request.num_computed_tokens
    return max(1, tokens)
