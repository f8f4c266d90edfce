"""Keeps what an overflow leaves in the key-value cache of a CPU worker out of later requests.

vLLM's attention on a CPU multiplies a whole block of values by weights that are 0 beyond a request's end, and does not
clear a block that a request gets. An infinity or NaN that an earlier request left there makes the product NaN. So once
a forward pass has overflowed, as an intervention that is too strong makes it in float16, the worker clears every block
before a request's first step with it. Until then it clears none: a short request would pay for whole blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput


def attach(runner: Any, *, every_step: bool) -> None:
    """Wrap the methods of a V1 runner.

    Args:
        runner: The model runner; its cache may not be allocated yet.
        every_step: Clear blocks from the first step on, for a worker that does not see the last hidden states.
    """
    update_states = runner._update_states  # noqa: SLF001
    prompt_logprobs = runner._get_prompt_logprobs_dict  # noqa: SLF001
    overflowed = every_step

    def clearing_update_states(scheduler_output: SchedulerOutput) -> Any:
        if overflowed:
            _clear(runner, scheduler_output)
        return update_states(scheduler_output)

    def observing_prompt_logprobs(hidden_states: torch.Tensor, num_scheduled_tokens: dict[str, int]) -> Any:
        nonlocal overflowed
        overflowed = overflowed or not _is_finite(hidden_states)
        return prompt_logprobs(hidden_states, num_scheduled_tokens)

    runner._update_states = clearing_update_states  # noqa: SLF001
    runner._get_prompt_logprobs_dict = observing_prompt_logprobs  # noqa: SLF001


def _is_finite(hidden_states: torch.Tensor) -> bool:
    """Return whether all values are finite. A value that is not, in any layer, makes its token's last state NaN."""
    return math.isfinite(hidden_states.sum(dtype=torch.float32))


def _clear(runner: Any, scheduler_output: SchedulerOutput) -> None:
    """Set the blocks to 0 that requests get for this step, in each layer of the attention."""
    layers, config = runner.compilation_config.static_forward_context, runner.kv_cache_config
    given = list(_given_blocks(scheduler_output))
    for number, group in enumerate(config.kv_cache_groups):
        size = group.kv_cache_spec.block_size
        new = torch.tensor([block for blocks, computed in given for block in blocks[number][computed // size :]])
        if not len(new):
            continue
        for cache in (layers[name].kv_cache for name in group.layer_names):
            if isinstance(cache, torch.Tensor):  # a recurrent layer has several, and reads no state but its request's
                cache.view(config.num_blocks, -1, *cache.shape[1:]).index_fill_(0, new, 0)


def _given_blocks(scheduler_output: SchedulerOutput) -> Iterator[tuple[tuple[list[int], ...], int]]:
    """Yield the blocks of each group that requests have for this step, and how many tokens these already hold."""
    for request in scheduler_output.scheduled_new_reqs:
        yield request.block_ids, request.num_computed_tokens
    cached = scheduler_output.scheduled_cached_reqs
    for name, ids, computed in zip(cached.req_ids, cached.new_block_ids, cached.num_computed_tokens, strict=True):
        if ids is not None:
            yield ids, computed if name in cached.resumed_req_ids else 0
