"""Experts with the CPU backend, compared with a computation token by token. No vLLM is needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.vllm.backends.activation import set_step
from engine.vllm.backends.cpu import CpuBackend
from engine.vllm.backends.experts import ExpertRows, SequentialExperts
from engine.vllm.worker.outputs.recorded_part import join_reached
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.table import Shard
from tests.engine.vllm.backends import expert_layer
from tests.engine.vllm.backends.expert_layer import FORMS, HIDDEN, REACHED, SHARD, SLOTS_IN_TABLE, WIDTH, Layer
from tests.engine.vllm.taken_parts import taken_parts


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def layer(request: pytest.FixtureRequest) -> Layer:
    return Layer.drawn(request.param)


@pytest.fixture
def backend() -> Iterator[CpuBackend]:
    backend = CpuBackend(
        FORMS,
        width=(7, REACHED * WIDTH),
        experts=SHARD.experts,
        slots=SLOTS_IN_TABLE,
        new_recording=partial(Recording, SHARD, rows=3, hidden_size=HIDDEN, device=torch.device("cpu")),
        gather=lambda part: part,
    )
    expert_layer.write_slots(backend)
    yield backend
    set_step(None)


def run_with(backend: CpuBackend) -> expert_layer.Run:
    return lambda layer: layer.run(backend.experts(1))


def test_rows_are_the_chosen_pairs_by_expert() -> None:
    rows = ExpertRows.of(torch.tensor([[2, 0], [0, 4], [4, 2]], dtype=torch.int32))
    assert rows.experts.tolist() == [0, 0, 2, 2, 4, 4]
    assert rows.tokens.tolist() == [0, 1, 0, 2, 1, 2]
    assert rows.groups == ((0, 0, 2), (2, 2, 4), (4, 4, 6))
    assert rows.by_token.tolist() == [[2, 0], [1, 4], [5, 3]]


def test_each_token_is_steered_in_the_experts_that_it_reaches(layer: Layer, backend: CpuBackend) -> None:
    expert_layer.check_steering(layer, backend, run_with(backend))


def test_a_recording_counts_the_tokens_that_reach_each_expert(layer: Layer, backend: CpuBackend) -> None:
    expert_layer.check_recording(layer, backend, run_with(backend))


def test_a_capture_has_the_activations_of_the_experts_that_each_token_reaches(
    layer: Layer, backend: CpuBackend
) -> None:
    expert_layer.check_capture(layer, backend, run_with(backend))


@pytest.mark.parametrize(("limit", "on_input"), [(None, False), (0.5, False), (None, True)])
def test_experts_without_a_gate_and_those_of_gpt_oss_are_computed(limit: float | None, on_input: bool) -> None:
    expert_layer.check_form(lambda form: SequentialExperts(0, form.activation), limit=limit, on_input=on_input)


def test_all_tokens_reach_the_layers_of_a_worker_without_experts() -> None:
    widths = LayerWidths(2, (4, 4))
    plain = Recording(Shard.of_rank(range(1), widths), rows=1, hidden_size=2, device=torch.device("cpu"))
    mixture = Recording(
        Shard.of_rank(range(1, 2), widths, experts=(2,)), rows=1, hidden_size=2, device=torch.device("cpu")
    )
    for recording in (plain, mixture):
        recording.open("a", sums=False)
    assert mixture.reached is not None
    mixture.reached[0, 0] = torch.tensor([3, 2], dtype=torch.int32)
    parts = [part for recording in (mixture, plain) for part in taken_parts(recording, "a")]
    joined = join_reached(parts, LayerWidths(2, 4), tokens=5)
    np.testing.assert_array_equal(joined, [[5, 5, 5, 5], [3, 3, 2, 2]])
    assert join_reached(parts[1:], LayerWidths(1, 4), tokens=5) is None
