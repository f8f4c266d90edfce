"""Counters and current load of an engine, cheap enough to read often.

Counters never decrease and restart at 0 with the engine. What an engine lacks (block cache, slots) is None or 0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """`prompt_tokens` of requests that have begun to be answered, `cached_tokens` among them read from a cache.

    `steps` are forward passes, and `step_requests` the requests that took part in them, added up over the steps: their
    quotient is the mean batch, of at most `batch_size`. `kv_use` is the share of the KV cache's blocks in use, from 0
    to 1. `slots_used` of `slots` hold an intervention; `slots_waiting` requests wait for one.
    """

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    steps: int
    step_requests: int
    running: int
    waiting: int
    batch_size: int
    kv_use: float | None = None
    slots: int = 0
    slots_used: int = 0
    slots_waiting: int = 0


@dataclass(kw_only=True)
class TokenCounts:
    """Tokens counted as they come and go; see `EngineStats`."""

    prompt: int = 0
    cached: int = 0
    generated: int = 0
