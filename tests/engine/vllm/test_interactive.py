"""Which requests of a stub scheduler are left out of a step, and how long steps become."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.base import Priority
from engine.vllm.interactive import (
    FIRST_SHARE,
    GRACE_SECONDS,
    LEAST_STEP_SECONDS,
    MAX_HELD_STEPS,
    InteractiveScheduling,
    StepLength,
)

PLACES, TOKENS = 4, 320
SHORT = int(TOKENS * FIRST_SHARE)


class StubScheduler:
    """Schedules as vLLM's does: running requests in order, then waiting ones by priority, within tokens and places."""

    def __init__(self) -> None:
        self.running: list[Any] = []
        self.waiting: list[Any] = []
        self.requests: dict[str, Any] = {}
        self.prev_step_scheduled_req_ids: set[str] = set()
        self.current_step = 0
        self.max_num_scheduled_tokens, self.max_num_active_reqs = TOKENS, PLACES
        self.scheduler_config = SimpleNamespace(long_prefill_token_threshold=0)
        self.has_blocks = True
        self.now = 100.0

    def add_request(self, request: Any) -> None:
        self.requests[request.request_id] = request
        self.waiting.append(request)

    def schedule(self) -> Any:
        self.current_step += 1
        scheduled: dict[str, int] = {}
        for request in self.running:
            if request.next_decode_eligible_step <= self.current_step:
                self._take(request, scheduled)
        for request in sorted(self.waiting, key=lambda request: request.priority):
            if self.has_blocks and len(self.running) < self.max_num_active_reqs and self._take(request, scheduled):
                self.waiting.remove(request)
                self.running.append(request)
        return SimpleNamespace(num_scheduled_tokens=scheduled, total_num_scheduled_tokens=sum(scheduled.values()))

    def _take(self, request: Any, scheduled: dict[str, int]) -> bool:
        limit = self.scheduler_config.long_prefill_token_threshold or TOKENS
        wanted = min(request.num_tokens_with_spec - request.num_computed_tokens, limit)
        tokens = min(wanted, self.max_num_scheduled_tokens - sum(scheduled.values()))
        if tokens:
            scheduled[request.request_id] = tokens
        return bool(tokens)

    def update_from_output(self, output: Any) -> None:
        for request_id, tokens in output.num_scheduled_tokens.items():
            request = self.requests[request_id]
            request.num_computed_tokens += tokens
            if request.num_computed_tokens == request.num_tokens_with_spec:
                request.num_output_tokens += 1
                request.num_tokens_with_spec += 1

    def _preempt_request(self, request: Any, _: float) -> None:
        request.num_computed_tokens = 0
        self.waiting.append(request)

    def _is_blocked_waiting_status(self, status: str) -> bool:
        return status == "blocked"

    def finish(self, request_id: str) -> None:
        request = self.requests.pop(request_id)
        for queue in (self.running, self.waiting):
            if request in queue:
                queue.remove(request)


class Site:
    """A stub scheduler with the changes, and its steps."""

    def __init__(self) -> None:
        self.scheduler: Any = StubScheduler()
        self.scheduling = InteractiveScheduling(self.scheduler, clock=lambda: float(self.scheduler.now))
        self.scheduling.install()

    def add(self, request_id: str, priority: Priority, *, prompt: int = 3, status: str = "waiting") -> None:
        self.scheduler.add_request(
            SimpleNamespace(
                request_id=request_id,
                priority=priority,
                num_tokens_with_spec=prompt,
                num_output_placeholders=0,
                num_computed_tokens=0,
                num_output_tokens=0,
                next_decode_eligible_step=0,
                status=status,
            )
        )

    def step(self, seconds: float = 0.1) -> dict[str, int]:
        output = self.scheduler.schedule()
        self.scheduler.now += seconds
        self.scheduler.update_from_output(output)
        scheduled: dict[str, int] = output.num_scheduled_tokens
        return scheduled


@pytest.fixture
def site() -> Site:
    return Site()


def test_batch_requests_alone_are_not_limited(site: Site) -> None:
    for number in range(6):
        site.add(f"batch-{number}", Priority.BATCH, prompt=60)
    assert site.step() == dict.fromkeys(("batch-0", "batch-1", "batch-2", "batch-3"), 60)
    assert len(site.step()) == PLACES


def test_a_prompt_of_an_interactive_request_has_a_step_of_its_own(site: Site) -> None:
    for number in range(3):
        site.add(f"batch-{number}", Priority.BATCH)
    site.step()
    site.add("urgent", Priority.INTERACTIVE, prompt=7)
    assert site.step() == {"urgent": 7}
    assert site.step() == {"batch-0": 1, "batch-1": 1, "batch-2": 1, "urgent": 1}
    assert (site.scheduler.max_num_scheduled_tokens, site.scheduler.max_num_active_reqs) == (TOKENS, PLACES)
    assert site.scheduler.scheduler_config.long_prefill_token_threshold == 0
    assert site.scheduling.preempted == 0


def test_a_full_batch_and_a_full_cache_make_room(site: Site) -> None:
    for number in range(PLACES):
        site.add(f"batch-{number}", Priority.BATCH)
    site.step()
    site.add("urgent", Priority.INTERACTIVE)
    assert site.step() == {"urgent": 3}
    assert site.scheduling.preempted == 1
    assert [request.request_id for request in site.scheduler.waiting] == ["batch-3"], "the latest is preempted"
    site.scheduler.finish("urgent")
    site.add("blockless", Priority.INTERACTIVE)
    site.scheduler.has_blocks = False
    assert site.step() == {}
    assert site.scheduling.preempted == 1
    site.step()
    assert site.scheduling.preempted == 2


def test_steps_stay_short_for_a_while_after_the_last_interactive_request(site: Site) -> None:
    site.add("urgent", Priority.INTERACTIVE)
    site.step()
    site.scheduler.finish("urgent")
    for number in range(3):
        site.add(f"batch-{number}", Priority.BATCH, prompt=200)
    assert site.step() == {"batch-0": SHORT}
    site.scheduler.now += GRACE_SECONDS
    assert sum(site.step().values()) == TOKENS


def test_a_long_prompt_of_a_batch_request_does_not_displace_an_answer(site: Site) -> None:
    site.add("long", Priority.BATCH, prompt=300)
    site.add("urgent", Priority.INTERACTIVE)
    assert site.step() == {"urgent": 3}
    assert site.step() == {"urgent": 1, "long": SHORT}
    assert site.step()["urgent"] == 1


def test_endless_interactive_prompts_do_not_stop_the_batch(site: Site) -> None:
    site.add("batch", Priority.BATCH)
    site.step()
    site.add("endless", Priority.INTERACTIVE, prompt=10**6)
    held = 0
    while "batch" not in site.step():
        held += 1
    assert held == MAX_HELD_STEPS


def test_a_request_that_cannot_be_computed_yet_holds_nothing(site: Site) -> None:
    site.add("batch", Priority.BATCH)
    site.step()
    site.add("urgent", Priority.INTERACTIVE, status="blocked")
    site.scheduler.has_blocks = False
    assert site.step() == {"batch": 1}


def test_interactive_requests_alone_are_not_limited(site: Site) -> None:
    for number in range(PLACES):
        site.add(f"urgent-{number}", Priority.INTERACTIVE, prompt=50)
    assert sum(site.step().values()) == 200


def test_a_step_has_as_many_tokens_as_fit_the_time_of_one_without_a_batch() -> None:
    length = StepLength(1000)
    before = length.tokens
    length.short(before, 9.0)
    assert length.tokens == before, "the time of a step alone is not known yet"
    length.alone(4, 0.02)
    for _ in range(60):
        length.short(length.tokens, length.tokens * 0.001)
    assert 14 <= length.tokens <= 25
    length.short(1, 0.001)
    assert 14 <= length.tokens <= 25, "a step that used few tokens shows nothing"
    for _ in range(200):
        length.short(length.tokens, 0.0)
    assert length.tokens == 1000
    for _ in range(200):
        length.short(length.tokens, 9.0)
    assert length.tokens == 4, "a slower machine does not stop the batch requests"


def test_time_and_tokens_of_a_step_alone_are_smoothed_and_its_time_bounded() -> None:
    length = StepLength(1000)
    length.alone(10, 0.001)
    before = length.tokens
    length.short(before, LEAST_STEP_SECONDS)
    assert length.tokens > before
    length.alone(20, 0.101)
    assert length.seconds == pytest.approx(0.031)
    assert length.least == pytest.approx(13)
    length.alone(900, 0.1)
    assert length.tokens == int(length.least) == 279
