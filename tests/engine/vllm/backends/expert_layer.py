"""A layer of experts and what it must compute, token by token, for tests of the backends' experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.kernels.activation import MlpForm
from engine.kernels.device_table import SlotEntries
from engine.steering.edits import resolve
from engine.vllm.backends.base import NOTHING, RecordedSpan, SteeringBackend, StepLayout
from engine.vllm.requests.request_extras import CaptureArgs
from engine.vllm.worker.outputs.capturing import CapturedSpan, Capturing
from engine.vllm.worker.outputs.recorded_part import join_reached
from engine.vllm.worker.table import Shard
from tests.engine.neuron_sets import make_neuron_set
from tests.engine.vllm.taken_parts import taken_parts

EXPERTS, WIDTH, HIDDEN, REACHED = 5, 4, 6, 2
WIDTHS = LayerWidths(2, (7, EXPERTS * WIDTH))  # layer 0 has one plain MLP
SHARD = Shard.of_rank(range(2), WIDTHS, experts=(1, EXPERTS))
FORMS = [MlpForm(activation="silu", gated=True)] * 2
SLOTS_IN_TABLE = 2
TOKENS = 9  # the last two are padding
_NEURONS = make_neuron_set(
    {"fr": [(0, 3), (1, 1), (1, 6), (1, 7), (1, 18)], "tr": [(1, 0), (1, 13)]}, layers=2, width=WIDTHS.width
)
_SLOTS = np.array([1, 0, 2, 1, 1, 0, 2], dtype=np.int32)
_STRENGTHS = np.array([1.0, 1.0, 0.5, 0.25, 1.0, 1.0, 1.0], dtype=np.float32)
_INTERVENTIONS: tuple[dict[str, Any], ...] = (
    {"languages": ["fr"], "op": "scale", "factor": -3.0},
    {"languages": ["tr"], "op": "set", "statistic": "p75", "factor": 2.0},
)
Run = Callable[["Layer"], torch.Tensor]
"""Computes the layer with a backend."""


def write_slots(backend: SteeringBackend) -> None:
    """Give the table of a backend the interventions of the tests."""
    for slot, raw in enumerate(_INTERVENTIONS, start=1):
        backend.write(slot, SHARD.cut(resolve(Intervention.from_dict(raw), _NEURONS)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """Inputs of a layer of experts, and which experts its tokens reach."""

    x: torch.Tensor
    w13: torch.Tensor
    w2: torch.Tensor
    shares: torch.Tensor
    chosen: torch.Tensor

    @classmethod
    def drawn(cls, dtype: torch.dtype) -> Layer:
        """Draw a layer in which no token reaches the last expert but one."""
        torch.manual_seed(0)
        chosen = torch.stack([torch.randperm(EXPERTS - 1)[:REACHED] for _ in range(TOKENS)])
        chosen[chosen == 3] = 4
        return cls(
            x=torch.randn(TOKENS, HIDDEN, dtype=dtype),
            w13=torch.randn(EXPERTS, 2 * WIDTH, HIDDEN, dtype=dtype),
            w2=torch.randn(EXPERTS, HIDDEN, WIDTH, dtype=dtype),
            shares=torch.rand(TOKENS, REACHED),
            chosen=chosen.int(),
        )

    def run(self, experts: nn.Module) -> torch.Tensor:
        """Compute the layer with the module of a backend."""
        parts = (self.x, self.w13, self.w2, self.shares, self.chosen)
        device = next(experts.buffers()).device
        output: torch.Tensor = experts(*(part.to(device) for part in parts))
        return output.cpu()

    def by_hand(self, slots: Sequence[int], strengths: Sequence[float]) -> torch.Tensor:
        """Return the output, with the intervention of each token's slot at its strength."""
        output = torch.zeros(TOKENS, HIDDEN)
        for token, slot in enumerate(slots):
            activations = {}
            for expert in self.chosen[token].tolist():
                gate, up = (self.w13[expert].float() @ self.x[token].float()).view(2, WIDTH)
                activations[expert] = gate * torch.sigmoid(gate), up
            statistic = np.percentile(np.concatenate([part.numpy() for part, _ in activations.values()]), 75)
            for share, (expert, (activation, up)) in zip(self.shares[token], activations.items(), strict=True):
                for layer, neuron in _NEURONS.neurons["fr" if slot == 1 else "tr"].tolist():
                    if slot and layer == 1 and neuron // WIDTH == expert:
                        old = activation[neuron % WIDTH]
                        new = -3.0 * old if slot == 1 else 2.0 * statistic
                        activation[neuron % WIDTH] = old + strengths[token] * (new - old)
                output[token] += share.float() * (self.w2[expert].float() @ (activation * up))
        return output

    @property
    def tolerance(self) -> dict[str, Any]:
        """How far results may be from `by_hand`."""
        return {"rtol": 0.05, "atol": 0.3} if self.x.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}

    def gates(self, token: int) -> dict[int, torch.Tensor]:
        """Return the gates of the experts that a token reaches, [F] each."""
        return {
            expert: nn.functional.linear(self.x[token], self.w13[expert])[:WIDTH]
            for expert in self.chosen[token].tolist()
        }


def check_steering(layer: Layer, backend: SteeringBackend, run: Run) -> None:
    """Check that each token is steered in the experts that it reaches."""
    backend.begin_step(NOTHING)
    plain = run(layer)
    torch.testing.assert_close(plain.float(), layer.by_hand([0] * TOKENS, [1.0] * TOKENS), **layer.tolerance)
    backend.begin_step(StepLayout(slots=_SLOTS, strengths=_STRENGTHS))
    steered = run(layer)
    expected = layer.by_hand([*_SLOTS.tolist(), 0, 0], [*_STRENGTHS.tolist(), 1.0, 1.0])
    torch.testing.assert_close(steered.float(), expected, **layer.tolerance)
    unsteered = _SLOTS.tolist().index(0)
    assert torch.equal(steered[unsteered], plain[unsteered])
    assert not torch.equal(steered, plain)


def check_recording(layer: Layer, backend: SteeringBackend, run: Run) -> None:
    """Check a sentence that is computed in two steps, beside another one that is counted and not summed."""
    keys = "sc"  # summed, counted
    rows = [backend.recording.open(key, sums=key == "s") for key in keys]
    for row in rows:
        backend.recording.clear([row])
    for first in (0, 2):
        spans = (RecordedSpan(rows[0], first, first + 2, sums=True), RecordedSpan(rows[1], 4, 5, sums=False))
        backend.begin_step(StepLayout(slots=_SLOTS, recorded=spans[: 1 if first else 2]))
        run(layer)
    for key, tokens in zip(keys, (range(4), range(4, 5)), strict=True):
        counts, sums = np.zeros((EXPERTS, WIDTH), dtype=int), np.zeros((EXPERTS, WIDTH), dtype=np.float32)
        reached = np.zeros(EXPERTS, dtype=int)
        for token in tokens:
            for expert, gate in layer.gates(token).items():
                counts[expert] += (gate > 0).numpy()
                sums[expert] += nn.functional.silu(gate).float().numpy()
                reached[expert] += 1
        (part,) = taken_parts(backend.recording, key)
        np.testing.assert_array_equal(part.counts[7:], counts.ravel())
        assert part.reached is not None
        np.testing.assert_array_equal(part.reached[7:], reached.repeat(WIDTH))
        if key == "s":
            assert part.sums is not None
            np.testing.assert_allclose(part.sums[7:], sums.ravel(), rtol=0.02, atol=1e-2)
        else:
            assert part.sums is None
        joined = join_reached([part], WIDTHS, tokens=len(tokens))
        np.testing.assert_array_equal(joined, part.reached)


def check_capture(layer: Layer, backend: SteeringBackend, run: Run) -> None:
    """Check a step whose tokens 3 to 6 are the first of a text; all neurons are captured before their edit."""
    capturing = Capturing(SHARD)
    rows = capturing.open(CaptureArgs(key="k", layers=[1], indices=[None]), tokens=4)
    backend.begin_step(StepLayout(slots=_SLOTS, captured=(CapturedSpan(rows, 3, 7, 0),)))
    run(layer)
    ((row,),) = capturing.take(["k"])
    expected = np.full((4, EXPERTS, WIDTH), np.nan, dtype=np.float32)
    for token in range(4):
        for expert, gate in layer.gates(3 + token).items():
            expected[token, expert] = nn.functional.silu(gate).float().numpy()
    np.testing.assert_allclose(row.values, expected.reshape(4, -1), rtol=0.02, atol=1e-2)
    assert row.computed.all()


def check_form(make: Callable[[MlpForm], nn.Module], *, limit: float | None, on_input: bool = False) -> None:
    """Check experts without a gate or, with a limit, those of gpt-oss.

    Those of gpt-oss have biases, alternate gate and up, and clamp them. With `on_input` the shares multiply the inputs.
    """
    torch.manual_seed(1)
    gated = limit is not None
    x, chosen, shares = torch.randn(3, HIDDEN), torch.tensor([[0, 2], [2, 1], [1, 0]]), torch.rand(3, 2)
    w13, w2 = torch.randn(3, WIDTH * (2 if gated else 1), HIDDEN), torch.randn(3, HIDDEN, WIDTH)
    b13, b2 = (torch.randn(3, w13.shape[1]), torch.randn(3, HIDDEN)) if gated else (None, None)
    experts = make(MlpForm(activation="quick_gelu" if gated else "relu2", gated=gated))
    device = next(experts.buffers()).device
    biases = {name: None if bias is None else bias.to(device) for name, bias in (("b13", b13), ("b2", b2))}
    parts = (part.to(device) for part in (x, w13, w2, shares, chosen))
    output = experts(*parts, **biases, limit=limit, on_input=on_input)
    expected = torch.zeros(3, HIDDEN)
    for token in range(3):
        for share, expert in zip(shares[token], chosen[token].tolist(), strict=True):
            before, after = (share, 1.0) if on_input else (1.0, share)
            first = w13[expert] @ (before * x[token])
            if b13 is None or b2 is None:
                expected[token] += after * (w2[expert] @ first.relu().square())
                continue
            gate, up = (first + b13[expert]).view(WIDTH, 2).unbind(1)
            gate, up = gate.minimum(torch.tensor(limit)), up.clip(-0.5, 0.5)
            activated = (up + 1) * gate * torch.sigmoid(1.702 * gate)
            expected[token] += after * (w2[expert] @ activated + b2[expert])
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-5, atol=1e-5)


def one_entry(*, offsets: Sequence[int], neuron: int, mult: float) -> SlotEntries:
    """Return a row of the table with one entry that multiplies."""
    return SlotEntries(
        offsets=np.array(offsets, dtype=np.int64),
        indices=np.array([neuron], dtype=np.int32),
        mult=np.array([mult], dtype=np.float32),
        add=np.zeros(1, dtype=np.float32),
    )
