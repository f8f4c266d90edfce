"""Experts with the CUDA backend, compared with a computation token by token. No vLLM is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.kernels.activation import MlpForm
from engine.vllm.backends import step_needs
from engine.vllm.backends.base import NOTHING, RecordedSpan, StepLayout
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.table import Shard
from tests.engine.kernels.triton_modules import DEVICE, use_interpreter
from tests.engine.vllm.backends import expert_layer
from tests.engine.vllm.backends.expert_layer import (
    EXPERTS,
    FORMS,
    HIDDEN,
    REACHED,
    SHARD,
    SLOTS_IN_TABLE,
    TOKENS,
    WIDTH,
    Layer,
)
from tests.engine.vllm.backends.traced import traced_code
from tests.engine.vllm.taken_parts import taken_parts

pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> Any:
    use_interpreter(monkeypatch)
    yield
    step_needs.set_needs()


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def layer(request: pytest.FixtureRequest) -> Layer:
    return Layer.drawn(request.param)


def make_backend(forms: list[MlpForm], shard: Shard, reached: tuple[int, ...], *, tokens: int = TOKENS) -> Any:
    from engine.vllm.backends.cuda import CudaBackend

    return CudaBackend(
        forms,
        width=shard.widths.width,
        hidden_size=HIDDEN,
        slots=SLOTS_IN_TABLE,
        entries=40,
        tokens=tokens,
        recording=Recording(shard, rows=3, hidden_size=HIDDEN, device=DEVICE),
        statistics=True,
        device=DEVICE,
        experts=shard.experts,
        reached=reached,
    )


@pytest.fixture
def backend() -> Any:
    backend = make_backend(FORMS, SHARD, (7, REACHED * WIDTH))
    expert_layer.write_slots(backend)
    return backend


def run_with(backend: Any) -> expert_layer.Run:
    return lambda layer: layer.run(backend.experts(1))


def test_each_token_is_steered_in_the_experts_that_it_reaches(layer: Layer, backend: Any) -> None:
    expert_layer.check_steering(layer, backend, run_with(backend))


def test_a_recording_counts_the_tokens_that_reach_each_expert(layer: Layer, backend: Any) -> None:
    expert_layer.check_recording(layer, backend, run_with(backend))


def test_a_capture_has_the_activations_of_the_experts_that_each_token_reaches(layer: Layer, backend: Any) -> None:
    expert_layer.check_capture(layer, backend, run_with(backend))


@pytest.mark.parametrize(("limit", "on_input"), [(None, False), (0.5, False), (None, True)])
def test_experts_without_a_gate_and_those_of_gpt_oss_are_computed(limit: float | None, on_input: bool) -> None:
    def make(form: MlpForm) -> Any:
        shard = Shard(layers=(0,), neurons=(range(3 * WIDTH),), experts=(3,))
        return make_backend([form], shard, (2 * WIDTH,)).experts(0)

    expert_layer.check_form(make, limit=limit, on_input=on_input)


def test_the_plain_mlp_of_a_mixture_is_steered_and_its_tokens_are_counted() -> None:
    """It follows the experts in the table; here its row is the second of a layer with experts."""
    shard = Shard(layers=(0, 0), neurons=(range(3 * WIDTH), range(3 * WIDTH, 3 * WIDTH + 5)), experts=(3, 1))
    beside = make_backend([MlpForm(activation="relu", gated=False)] * 2, shard, (WIDTH, 5))
    beside.write(1, expert_layer.one_entry(offsets=[0, 0, 0, 0, 1], neuron=4, mult=3.0))
    row = beside.recording.open("a", sums=True)
    beside.begin_step(StepLayout(slots=np.array([0, 1], dtype=np.int32), recorded=(RecordedSpan(row, 0, 2, True),)))
    x = torch.tensor([[-1.0, 1.0, 2.0, 3.0, 4.0]] * 2, device=DEVICE)
    output = beside.activation(1, torch.nn.Identity())(x)
    assert output.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 12.0]]
    (part,) = taken_parts(beside.recording, "a")
    assert part.reached is not None
    assert part.reached.tolist() == [0] * 12 + [2] * 5
    assert part.counts.tolist() == [0] * 12 + [0, 2, 2, 2, 2]


def test_long_batches_have_two_pairs_a_program_and_large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels give the same as for short batches, up to the rounding of their sums."""
    from engine.kernels.cuda import expert_pairs, steer_triton

    layer, backend = Layer.drawn(torch.float32), make_backend(FORMS, SHARD, (7, REACHED * WIDTH))
    expert_layer.write_slots(backend)
    expert_layer.check_steering(layer, backend, run_with(backend))
    monkeypatch.setattr(expert_pairs, "MANY_PAIRS", 1)
    monkeypatch.setattr(steer_triton, "LONG_BATCH", 2)
    assert expert_pairs.ExpertPairs.of(layer.chosen, experts=EXPERTS).tile == 64
    expert_layer.check_steering(layer, backend, run_with(backend))


def test_all_layers_have_one_graph_of_their_experts() -> None:
    shard = Shard.of_rank(range(2), LayerWidths(2, EXPERTS * WIDTH), experts=(EXPERTS, EXPERTS))
    backend, layer = make_backend(FORMS, shard, (REACHED * WIDTH,) * 2), Layer.drawn(torch.float32)
    parts = [part.to(DEVICE) for part in (layer.x, layer.w13, layer.w2, layer.shares, layer.chosen)]
    first, last = (traced_code(backend.experts(row), *parts) for row in (0, 1))
    assert "run_device_experts" in first
    assert first == last


def test_every_kernel_of_the_experts_is_compiled_before_a_step(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.kernels.cuda import expert_pairs
    from engine.vllm.backends import cuda

    monkeypatch.setattr(cuda, "LONG_BATCH", 6)
    monkeypatch.setattr(cuda, "MANY_PAIRS", 2)
    monkeypatch.setattr(expert_pairs, "MANY_PAIRS", 2)
    layer, experts = Layer.drawn(torch.float32), backend.experts(1)
    computed = []

    def compute(x: torch.Tensor, shares: torch.Tensor, chosen: torch.Tensor) -> None:
        needs = step_needs.needs_of(x)
        tile = expert_pairs.ExpertPairs.of(chosen, experts=EXPERTS).tile
        computed.append((len(x), tile, needs.statistics, needs.recording))
        weights = (layer.w13.to(DEVICE), layer.w2.to(DEVICE))
        assert not experts(x, *weights, shares, chosen).any()

    backend.warm_up_experts(compute, experts=EXPERTS, each=REACHED, dtype=torch.float32)
    assert set(computed) == {
        (tokens, tile, statistics, True) for tokens, tile in ((1, 16), (3, 16), (5, 64)) for statistics in (True, False)
    }
    backend.begin_step(NOTHING)
