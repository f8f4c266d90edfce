"""What vLLM's scheduler holds, read from its own lists: vLLM's statistics are off, for they cost time each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm import LLMEngine


@dataclass(frozen=True, kw_only=True)
class SchedulerStats:
    """Requests that run and wait, the share of the KV cache's blocks in use, and how many may run at once."""

    running: int
    waiting: int
    kv_use: float
    batch_size: int


def read_scheduler(engine: LLMEngine) -> SchedulerStats:
    """Read the scheduler of an engine; only the thread that owns it may."""
    core: Any = engine.engine_core
    scheduler = core.engine_core.scheduler
    running, waiting = scheduler.get_request_counts()
    return SchedulerStats(
        running=running,
        waiting=waiting,
        kv_use=float(scheduler.kv_cache_manager.usage),
        batch_size=int(scheduler.max_num_running_reqs),
    )
