"""Experts with the CPU backend, compared with a computation token by token. No vLLM is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.layer_widths import LayerWidths
from engine.kernels.activation import MlpForm
from engine.steering.edits import resolve
from engine.vllm.backends.activation import set_step
from engine.vllm.backends.base import NOTHING, RecordedSpan, StepLayout
from engine.vllm.backends.cpu import CpuBackend
from engine.vllm.backends.experts import ExpertRows, run_experts
from engine.vllm.request_extras import CaptureArgs
from engine.vllm.worker.capturing import CapturedSpan, Capturing
from engine.vllm.worker.recorded_part import join_reached
from engine.vllm.worker.recording import Recording
from engine.vllm.worker.table import Shard
from tests.engine.neuron_sets import make_neuron_set

EXPERTS, WIDTH, HIDDEN, REACHED = 5, 4, 6, 2
WIDTHS = LayerWidths(2, (7, EXPERTS * WIDTH))  # layer 0 has one plain MLP
SHARD = Shard.of_rank(range(2), WIDTHS, experts=(1, EXPERTS))
NEURONS = make_neuron_set(
    {"fr": [(0, 3), (1, 1), (1, 6), (1, 7), (1, 18)], "tr": [(1, 0), (1, 13)]}, layers=2, width=WIDTHS.width
)
TOKENS = 9  # the last two are padding
SLOTS = np.array([1, 0, 2, 1, 1, 0, 2], dtype=np.int32)
STRENGTHS = np.array([1.0, 1.0, 0.5, 0.25, 1.0, 1.0, 1.0], dtype=np.float32)
INTERVENTIONS: tuple[dict[str, Any], ...] = (
    {"languages": ["fr"], "op": "scale", "factor": -3.0},
    {"languages": ["tr"], "op": "set", "statistic": "p75", "factor": 2.0},
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """Inputs of a layer of experts, and which experts its tokens reach."""

    x: torch.Tensor
    w13: torch.Tensor
    w2: torch.Tensor
    shares: torch.Tensor
    chosen: torch.Tensor

    def run(self) -> torch.Tensor:
        return run_experts(self.x, self.w13, self.w2, self.shares, self.chosen, torch.tensor(1), "silu")

    def by_hand(self, slots: list[int], strengths: list[float]) -> torch.Tensor:
        """Return the output, with the intervention of each token's slot at its strength."""
        output = torch.zeros(TOKENS, HIDDEN)
        for token, slot in enumerate(slots):
            activations = {}
            for expert in self.chosen[token].tolist():
                gate, up = (self.w13[expert].float() @ self.x[token].float()).view(2, WIDTH)
                activations[expert] = gate * torch.sigmoid(gate), up
            statistic = np.percentile(np.concatenate([part.numpy() for part, _ in activations.values()]), 75)
            for share, (expert, (activation, up)) in zip(self.shares[token], activations.items(), strict=True):
                for layer, neuron in NEURONS.neurons["fr" if slot == 1 else "tr"].tolist():
                    if slot and layer == 1 and neuron // WIDTH == expert:
                        old = activation[neuron % WIDTH]
                        new = -3.0 * old if slot == 1 else 2.0 * statistic
                        activation[neuron % WIDTH] = old + strengths[token] * (new - old)
                output[token] += share.float() * (self.w2[expert].float() @ (activation * up))
        return output


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def layer(request: pytest.FixtureRequest) -> Layer:
    torch.manual_seed(0)
    chosen = torch.stack([torch.randperm(EXPERTS - 1)[:REACHED] for _ in range(TOKENS)])  # none reaches the last
    chosen[chosen == 3] = 4
    return Layer(
        x=torch.randn(TOKENS, HIDDEN, dtype=request.param),
        w13=torch.randn(EXPERTS, 2 * WIDTH, HIDDEN, dtype=request.param),
        w2=torch.randn(EXPERTS, HIDDEN, WIDTH, dtype=request.param),
        shares=torch.rand(TOKENS, REACHED),
        chosen=chosen.int(),
    )


@pytest.fixture
def backend() -> CpuBackend:
    backend = CpuBackend(
        [MlpForm(activation="silu", gated=True)] * 2,
        width=(7, REACHED * WIDTH),
        experts=SHARD.experts,
        slots=2,
        new_recording=partial(Recording, SHARD, rows=3, hidden_size=HIDDEN, device=torch.device("cpu")),
        gather=lambda part: part,
    )
    for slot, raw in enumerate(INTERVENTIONS, start=1):
        backend.write(slot, SHARD.cut(resolve(Intervention.from_dict(raw), NEURONS)))
    return backend


def tolerance(layer: Layer) -> dict[str, Any]:
    return {"rtol": 0.05, "atol": 0.3} if layer.x.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}


def test_rows_are_the_chosen_pairs_by_expert() -> None:
    rows = ExpertRows.of(torch.tensor([[2, 0], [0, 4], [4, 2]], dtype=torch.int32))
    assert rows.experts.tolist() == [0, 0, 2, 2, 4, 4]
    assert rows.tokens.tolist() == [0, 1, 0, 2, 1, 2]
    assert rows.groups == ((0, 0, 2), (2, 2, 4), (4, 4, 6))
    assert rows.by_token.tolist() == [[2, 0], [1, 4], [5, 3]]


def test_each_token_is_steered_in_the_experts_that_it_reaches(layer: Layer, backend: CpuBackend) -> None:
    backend.begin_step(NOTHING)
    plain = layer.run()
    torch.testing.assert_close(plain.float(), layer.by_hand([0] * TOKENS, [1.0] * TOKENS), **tolerance(layer))
    backend.begin_step(StepLayout(slots=SLOTS, strengths=STRENGTHS))
    steered = layer.run()
    set_step(None)
    expected = layer.by_hand([*SLOTS.tolist(), 0, 0], [*STRENGTHS.tolist(), 1.0, 1.0])
    torch.testing.assert_close(steered.float(), expected, **tolerance(layer))
    assert torch.equal(steered[SLOTS.tolist().index(0)], plain[SLOTS.tolist().index(0)])
    assert not torch.equal(steered, plain)


def test_a_recording_counts_the_tokens_that_reach_each_expert(layer: Layer, backend: CpuBackend) -> None:
    """A sentence is computed in two steps, beside another one that is counted and not summed."""
    keys = ("summed", "counted")
    rows = [backend.recording.open(key, sums=key == "summed") for key in keys]
    for row in rows:
        backend.recording.clear([row])
    for first in (0, 2):
        spans = (RecordedSpan(rows[0], first, first + 2, sums=True), RecordedSpan(rows[1], 4, 5, sums=False))
        backend.begin_step(StepLayout(slots=SLOTS, recorded=spans[: 1 if first else 2]))
        layer.run()
    set_step(None)
    for key, tokens in zip(keys, (range(4), range(4, 5)), strict=True):
        counts, sums = np.zeros((EXPERTS, WIDTH), dtype=int), np.zeros((EXPERTS, WIDTH), dtype=np.float32)
        reached = np.zeros(EXPERTS, dtype=int)
        for token in tokens:
            for expert in layer.chosen[token].tolist():
                gate = torch.nn.functional.linear(layer.x[token], layer.w13[expert])[:WIDTH]
                counts[expert] += (gate > 0).numpy()
                sums[expert] += torch.nn.functional.silu(gate).float().numpy()
                reached[expert] += 1
        (part,) = backend.recording.take([key])
        np.testing.assert_array_equal(part.counts[7:], counts.ravel())
        assert part.reached is not None
        np.testing.assert_array_equal(part.reached[7:], reached.repeat(WIDTH))
        if key == "summed":
            assert part.sums is not None
            np.testing.assert_allclose(part.sums[7:], sums.ravel(), rtol=0.02, atol=1e-2)
        else:
            assert part.sums is None
        joined = join_reached([part], WIDTHS, tokens=len(tokens))
        np.testing.assert_array_equal(joined, part.reached)


def test_a_capture_has_the_activations_of_the_experts_that_each_token_reaches(
    layer: Layer, backend: CpuBackend
) -> None:
    """Tokens 3 to 6 of the step are the first of a text; all neurons of the layer are captured before their edit."""
    capturing = Capturing(SHARD)
    rows = capturing.open(CaptureArgs(key="k", layers=[1], indices=[None]), tokens=4)
    backend.begin_step(StepLayout(slots=SLOTS, captured=(CapturedSpan(rows, 3, 7, 0),)))
    layer.run()
    set_step(None)
    (row,) = capturing.take("k")
    expected = np.full((4, EXPERTS, WIDTH), np.nan, dtype=np.float32)
    for token in range(4):
        for expert in layer.chosen[3 + token].tolist():
            gate = torch.nn.functional.linear(layer.x[3 + token], layer.w13[expert])[:WIDTH]
            expected[token, expert] = torch.nn.functional.silu(gate).float().numpy()
    np.testing.assert_allclose(row.values, expected.reshape(4, -1), rtol=0.02, atol=1e-2)
    assert row.computed.all()


@pytest.mark.parametrize("limit", [None, 0.5])
def test_experts_without_a_gate_and_those_of_gpt_oss_are_computed(limit: float | None) -> None:
    """Those of gpt-oss have biases, alternate gate and up, and clamp them."""
    torch.manual_seed(1)
    gated = limit is not None
    x, chosen, shares = torch.randn(3, HIDDEN), torch.tensor([[0, 2], [2, 1], [1, 0]]), torch.rand(3, 2)
    w13, w2 = torch.randn(3, WIDTH * (2 if gated else 1), HIDDEN), torch.randn(3, HIDDEN, WIDTH)
    b13, b2 = (torch.randn(3, w13.shape[1]), torch.randn(3, HIDDEN)) if gated else (None, None)
    function = "quick_gelu" if gated else "relu2"
    output = run_experts(x, w13, w2, shares, chosen, torch.tensor(0), function, b13=b13, b2=b2, limit=limit)  # type: ignore[arg-type]
    expected = torch.zeros(3, HIDDEN)
    for token in range(3):
        for share, expert in zip(shares[token], chosen[token].tolist(), strict=True):
            first = w13[expert] @ x[token]
            if b13 is None or b2 is None:
                expected[token] += share * (w2[expert] @ first.relu().square())
                continue
            gate, up = (first + b13[expert]).view(WIDTH, 2).unbind(1)
            gate, up = gate.minimum(torch.tensor(limit)), up.clip(-0.5, 0.5)
            expected[token] += share * (w2[expert] @ ((up + 1) * gate * torch.sigmoid(1.702 * gate)) + b2[expert])
    torch.testing.assert_close(output, expected)


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
    parts = [part for recording in (mixture, plain) for part in recording.take(["a"])]
    joined = join_reached(parts, LayerWidths(2, 4), tokens=5)
    np.testing.assert_array_equal(joined, [[5, 5, 5, 5], [3, 3, 2, 2]])
    assert join_reached(parts[1:], LayerWidths(1, 4), tokens=5) is None
