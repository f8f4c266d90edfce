"""How far a scoring request reads the prefix cache: up to the token whose state predicts the first scored one.

vLLM reads as far as it can, all but the last token; the states from there on, which scoring needs, would then never be
computed. Blocks before it are read as ever, so a context shared by many continuations is computed once.
"""

from __future__ import annotations

from typing import Any

from vllm import LLMEngine
from vllm.v1.request import Request

from engine.vllm.request_extras import RequestExtras


def limit_prefix_reads(engine: LLMEngine) -> None:
    """Make the engine's scheduler stop reading the prefix cache before the first scored token's predecessor."""
    core: Any = engine.engine_core
    manager = core.engine_core.scheduler.kv_cache_manager
    look_up, find = manager.get_computed_blocks, manager.coordinator.find_longest_cache_hit
    limit: int | None = None

    def limited_find(block_hashes: Any, max_cache_hit_length: int) -> Any:
        return find(block_hashes, max_cache_hit_length if limit is None else min(max_cache_hit_length, limit))

    def limited_look_up(request: Request) -> Any:
        nonlocal limit
        limit = _first_needed(request)
        try:
            return look_up(request)
        finally:
            limit = None

    manager.coordinator.find_longest_cache_hit = limited_find
    manager.get_computed_blocks = limited_look_up


def _first_needed(request: Request) -> int | None:
    """Return the position of the first state that scoring needs, None for a request that scores nothing."""
    params = request.sampling_params
    order = RequestExtras.read(None if params is None else params.extra_args).score
    return None if order is None else order.first - 1
