"""Steered requests whose last hidden states are not finite are reported, and nothing else is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.vllm.backends.cpu import CpuBackend
from engine.vllm.requests.request_extras import RequestExtras, ScoringArgs
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.outputs.scoring import Scoring
from engine.vllm.worker.overflow import OverflowCheck
from engine.vllm.worker.steering import WorkerSteering
from engine.vllm.worker.table import Shard
from tests.engine.vllm.worker.one_layer import FORMS, HIDDEN, NEURONS, WIDTH, head, steer

FINE, NAN, INFINITE = [1.0, -2.0, 3.0], [1.0, float("nan"), 3.0], [float("-inf"), 0.0, 1.0]


@dataclass
class Output:
    """The output of vLLM's runner."""

    num_nans_in_logits: dict[str, int] | None = None


@dataclass
class LaterOutput:
    """One that is read once the device has computed it."""

    output: Output

    def get_output(self) -> Output:
        return self.output


@pytest.fixture
def steering() -> WorkerSteering:
    shard = Shard.of_rank(range(1), LayerWidths(1, WIDTH))
    new_recording = partial(Recording, shard, rows=2, hidden_size=HIDDEN, device=torch.device("cpu"))
    backend = CpuBackend(FORMS, width=WIDTH, slots=2, new_recording=new_recording, gather=lambda part: part)
    steering = WorkerSteering(shard, backend, Scoring(head), slots=2, overflow=OverflowCheck())
    steering.add_neurons(NEURONS)
    return steering


def step(steering: WorkerSteering, rows: list[list[float]], output: Any, **counts: int) -> Any:
    """Run a step with so many tokens of each request, whose last hidden states are `rows`."""
    steering.begin_step(list(counts), list(counts.values()), [0] * len(counts))
    steering.end_step(torch.tensor(rows))
    return steering.reported(output)


def test_the_last_row_of_each_steered_request_is_read(steering: WorkerSteering) -> None:
    steering.start("a", steer(2), [0, 1])
    steering.start("b", steer(1, factor=2.0), [0])
    steering.start("scored", RequestExtras(score=ScoringArgs(key="k", first=1, last=3)).extra_args(), [4, 7])
    rows = [FINE, NAN, NAN, FINE, INFINITE]  # the last one is padding
    assert step(steering, rows, Output(), a=2, plain=1, b=1).num_nans_in_logits == {"a": 1}
    assert step(steering, [NAN, FINE, INFINITE], Output(), a=2, b=1).num_nans_in_logits == {"b": 1}
    shared = Output()
    assert step(steering, [FINE, FINE, NAN], shared, a=1, b=1, scored=1) is shared
    assert shared.num_nans_in_logits is None
    steering.begin_dummy_step()
    assert steering.reported(shared).num_nans_in_logits is None
    assert steering.reported(None) is None


def test_values_that_the_dtype_holds_are_no_overflow_whatever_their_sum(steering: WorkerSteering) -> None:
    steering.start("a", steer(1), [0])
    steering.begin_step(["a"], [1], [0])
    steering.end_step(torch.full((1, 3), 6e4, dtype=torch.float16))
    assert steering.reported(Output()).num_nans_in_logits is None


def test_the_counts_of_vllm_stay(steering: WorkerSteering) -> None:
    steering.start("a", steer(1), [0])
    counted = Output(num_nans_in_logits={"plain": 5, "a": 0})
    assert step(steering, [NAN, NAN], counted, a=1, plain=1).num_nans_in_logits == {"plain": 5, "a": 1}


def test_the_device_is_not_waited_for_before_the_output_is_read(
    steering: WorkerSteering, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []

    def later(values: torch.Tensor) -> tuple[torch.Tensor, Callable[[], object]]:
        copy = torch.ones_like(values)

        def wait() -> None:
            waited.append(True)
            copy.copy_(values)

        return copy, wait

    monkeypatch.setattr("engine.vllm.worker.overflow.to_host", later)
    steering.start("a", steer(1), [0])
    first = step(steering, [NAN], LaterOutput(Output()), a=1)
    second = step(steering, [FINE], LaterOutput(Output()), a=1)  # the next step is launched before the first is read
    assert not waited
    assert first.get_output().num_nans_in_logits == {"a": 1}
    assert second.get_output().num_nans_in_logits is None


def test_a_step_without_steered_requests_reads_nothing(
    steering: WorkerSteering, monkeypatch: pytest.MonkeyPatch
) -> None:
    steering.start("a", steer(1), [0])
    monkeypatch.setattr("engine.vllm.worker.overflow.to_device", pytest.fail)
    later = LaterOutput(Output())
    assert step(steering, [NAN], later, plain=1).get_output().num_nans_in_logits is None
    assert "get_output" not in vars(later)
