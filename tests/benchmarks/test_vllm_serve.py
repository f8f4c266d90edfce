from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import pytest

from ampsweep.domain.neurons.layer_widths import LayerWidths
from benchmarks.vllm_serve import (
    DISTINCT,
    IDLE,
    NOT_CONFIGURED,
    STOCK,
    STOCK_AGAIN,
    Server,
    measure,
    report,
    write_neurons,
)


class StubServer:
    """A server that takes a second of CPU time for each request, and four for a steered one."""

    def __init__(self) -> None:
        self.taken = 0.0
        self.bursts: list[tuple[list[str], bool]] = []

    def cpu_seconds(self) -> float:
        return self.taken

    async def burst(self, prompts: list[str], *, tokens: int, steered: bool) -> None:
        assert tokens == 5
        self.bursts.append((prompts, steered))
        self.taken += len(prompts) * (4 if steered else 1)


def test_variants_get_new_prompts_and_only_one_is_steered() -> None:
    stock, plugin = StubServer(), StubServer()
    servers = cast("dict[str, Server]", {STOCK: stock, DISTINCT: plugin})
    seconds, cpu = asyncio.run(measure(servers, rounds=2, requests=3, tokens=5))
    assert {variant: len(taken) for variant, taken in seconds.items()} == {STOCK: 2, DISTINCT: 2}
    assert cpu == {STOCK: [3, 3], DISTINCT: [12, 12]}  # the round that warms up is not counted
    assert [steered for _, steered in stock.bursts] == [False] * 3
    assert [steered for _, steered in plugin.bursts] == [True] * 3
    prompts = [prompt for server in (stock, plugin) for burst, _ in server.bursts for prompt in burst]
    assert len(set(prompts)) == len(prompts) == 18


@pytest.mark.parametrize(
    ("seconds", "again", "verdict"),
    [
        (10.2, 10.0, "is met"),
        (12.0, 10.0, "is missed"),
        (12.0, 10.5, "is missed"),
        (10.5, 12.5, "is neither met nor missed: two servers without the plug-in differ by 0.200"),
    ],
)
def test_report_states_ratios_and_whether_the_goal_is_met(seconds: float, again: float, verdict: str) -> None:
    taken = {STOCK: [10.0, 10.0, 10.0], NOT_CONFIGURED: [10.0, 10.0, 20.0], IDLE: [10.0, 20.0, 10.0]}
    taken |= {STOCK_AGAIN: [again] * 3}
    table = report(taken | {DISTINCT: [seconds] * 3}, taken | {DISTINCT: [8.0, 8.0, 8.0]})
    assert "| the plug-in, unsteered requests, over stock vLLM | 1.000 | 0.500 to 1.000 of 3 | 1.000 |" in table
    assert f"| the same, over unsteered requests to the same server | {10 / seconds:.3f} |" in table
    assert "| 0.800 |" in table
    assert table.endswith(f"The goal of at least 0.97 for distinct interventions {verdict}.")


def test_each_language_has_other_neurons(tmp_path: Path) -> None:
    path = tmp_path / "neurons.json"
    write_neurons(LayerWidths.parse(2, 300), path, languages=3)
    neurons = json.loads(path.read_text())
    assert [{layer: len(indices) for layer, indices in each.items()} for each in neurons.values()] == [
        {"0": 3, "1": 3}
    ] * 3
    assert len({json.dumps(each) for each in neurons.values()}) == 3
