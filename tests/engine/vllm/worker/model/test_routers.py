"""Which routers get one group of all experts, on stand-ins that have the names of vLLM's class and attributes.

`tests/engine/test_families.py` compares the answers of ERNIE 4.5 and MiniMax M2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from engine.vllm.worker.model import routers


@dataclass
class CPURouter:
    """The settings of vLLM's router for CPUs."""

    scoring_func: str = "softmax"
    e_score_correction_bias: Any = None
    custom_routing_function: Any = None
    use_grouped_topk: bool = False
    num_expert_group: int | None = None
    topk_group: int | None = None


class OtherRouter(CPURouter):
    """A router for another device."""


@pytest.mark.parametrize(
    ("router", "groups"),
    [
        (CPURouter(), (False, None, None)),
        (CPURouter(e_score_correction_bias=torch.ones(4)), (True, 1, 1)),
        (CPURouter(scoring_func="sigmoid"), (True, 1, 1)),
        (CPURouter(scoring_func="sigmoid", custom_routing_function=max), (False, None, None)),
        (
            CPURouter(scoring_func="sigmoid", use_grouped_topk=True, num_expert_group=4, topk_group=2),
            (True, 4, 2),
        ),
        (OtherRouter(scoring_func="sigmoid"), (False, None, None)),
    ],
)
def test_a_router_for_cpus_reads_bias_and_sigmoid_in_one_group(
    router: CPURouter, groups: tuple[bool, int | None, int | None]
) -> None:
    runner: Any = nn.Module()
    runner.router = router
    routers.correct(nn.ModuleList([runner, nn.Linear(2, 2)]))
    assert (router.use_grouped_topk, router.num_expert_group, router.topk_group) == groups
