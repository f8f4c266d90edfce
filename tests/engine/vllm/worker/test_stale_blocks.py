"""Which blocks of the cache a CPU worker clears, and when."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.vllm.worker import stale_blocks

BLOCK = 4
FINITE, OVERFLOWED = torch.ones(3, 8), torch.tensor([[1.0], [math.nan]])


class Runner:
    """What the module reads of vLLM's runner: two groups of layers whose caches have eight blocks, all of them used."""

    def __init__(self) -> None:
        self.caches = {name: torch.ones(8, 2, BLOCK, 3) for name in ("full", "sliding")}
        self.states = [torch.ones(8, 3)] * 2
        layers = {**self.caches, "recurrent": self.states}
        groups = [(["full", "recurrent"], BLOCK), (["sliding"], 2 * BLOCK)]
        self.kv_cache_config = SimpleNamespace(
            num_blocks=8,
            kv_cache_groups=[
                SimpleNamespace(layer_names=names, kv_cache_spec=SimpleNamespace(block_size=size))
                for names, size in groups
            ],
        )
        self.compilation_config = SimpleNamespace(
            static_forward_context={name: SimpleNamespace(kv_cache=cache) for name, cache in layers.items()}
        )

    def _update_states(self, _output: Any) -> str:
        return "updated"

    def _get_prompt_logprobs_dict(self, _hidden_states: Any, _scheduled: Any) -> dict[str, Any]:
        return {}

    def step(self, hidden_states: torch.Tensor, output: Any) -> None:
        assert self._update_states(output) == "updated"
        assert self._get_prompt_logprobs_dict(hidden_states, {}) == {}

    def cleared(self, name: str) -> list[int]:
        return [block for block, values in enumerate(self.caches[name]) if not values.any()]


def step_with(
    new: dict[str, tuple[tuple[list[int], list[int]], int]] | None = None,
    appended: dict[str, tuple[list[int], list[int]] | None] | None = None,
    resumed: dict[str, tuple[tuple[list[int], list[int]], int]] | None = None,
) -> Any:
    """Return a scheduler's output: blocks of each group, and computed tokens, of new, running and resumed requests."""
    running = {name: (blocks, 40) for name, blocks in (appended or {}).items()} | (resumed or {})
    return SimpleNamespace(
        scheduled_new_reqs=[
            SimpleNamespace(block_ids=blocks, num_computed_tokens=computed) for blocks, computed in (new or {}).values()
        ],
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=list(running),
            resumed_req_ids=set(resumed or {}),
            new_block_ids=[blocks for blocks, _ in running.values()],
            num_computed_tokens=[computed for _, computed in running.values()],
        ),
    )


@pytest.fixture
def runner() -> Runner:
    runner = Runner()
    stale_blocks.attach(runner, every_step=False)
    return runner


def test_no_block_is_cleared_before_an_overflow(runner: Runner) -> None:
    for _ in range(2):
        runner.step(FINITE, step_with(new={"a": (([1, 2], [3]), 0)}))
    assert runner.cleared("full") == runner.cleared("sliding") == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_blocks_are_cleared_after_an_overflow(runner: Runner, value: float) -> None:
    runner.step(torch.tensor([[1.0, value]], dtype=torch.float16), step_with())
    runner.step(FINITE, step_with(new={"a": (([1, 2], [3]), 0)}, appended={"b": ([5], [6]), "c": None}))
    runner.step(FINITE, step_with(appended={"b": ([], [7])}))
    assert runner.cleared("full") == [1, 2, 5]
    assert runner.cleared("sliding") == [3, 6, 7]
    assert all(state.all() for state in runner.states)


def test_blocks_that_a_request_shares_or_has_already_filled_are_kept(runner: Runner) -> None:
    runner.step(OVERFLOWED, step_with())
    shared = ([1, 2, 4], [3, 5])
    runner.step(FINITE, step_with(new={"a": (shared, 2 * BLOCK)}, resumed={"b": (([6, 7], [6]), BLOCK + 1)}))
    assert runner.cleared("full") == [4, 7]
    assert runner.cleared("sliding") == [5, 6]


def test_a_worker_that_sees_no_hidden_states_clears_from_its_first_step() -> None:
    runner = Runner()
    stale_blocks.attach(runner, every_step=True)
    runner.step(FINITE, step_with(new={"a": (([1], [2]), 0)}))
    assert (runner.cleared("full"), runner.cleared("sliding")) == ([1], [2])


def test_a_cache_whose_kernel_has_smaller_blocks_is_cleared_by_the_scheduler_s() -> None:
    runner = Runner()
    runner.caches["full"] = torch.ones(16, 2, 2, 3)
    runner.compilation_config.static_forward_context["full"].kv_cache = runner.caches["full"]
    stale_blocks.attach(runner, every_step=True)
    runner.step(FINITE, step_with(new={"a": (([1, 3], [2]), 0)}))
    assert runner.cleared("full") == [2, 3, 6, 7]
