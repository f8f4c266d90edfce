"""What vLLM's scheduler holds, read from the scheduler itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm import LLMEngine


@dataclass(frozen=True, kw_only=True)
class SchedulerStats:
    """What vLLM's scheduler holds: requests running and waiting, and the limits it works within.

    Attributes:
        running: Requests in the batch.
        waiting: Requests in the scheduler's queue.
        kv_use: Share of the KV cache's blocks in use, from 0 to 1.
        batch_size: Requests that may run at once.
    """

    running: int
    waiting: int
    kv_use: float
    batch_size: int


def scheduler_of(engine: LLMEngine) -> Any:
    """Return vLLM's scheduler, which runs in this process."""
    core: Any = engine.engine_core
    return core.engine_core.scheduler


def read_stats(engine: LLMEngine) -> SchedulerStats:
    """Read the scheduler's own lists. vLLM's statistics are turned off, because they cost time in each step."""
    scheduler = scheduler_of(engine)
    running, waiting = scheduler.get_request_counts()
    return SchedulerStats(
        running=running,
        waiting=waiting,
        kv_use=float(scheduler.kv_cache_manager.usage),
        batch_size=int(scheduler.max_num_running_reqs),
    )
