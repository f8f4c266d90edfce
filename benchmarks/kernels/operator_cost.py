"""Microseconds that a layer's operators take with the CUDA backend: idle, steered, and recording.

They run in a CUDA graph, in which every kernel is launched and finds out on the device whether it has anything to do.
A plain SiLU-and-multiply by torch.compile is timed beside them. Does not need vLLM.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ampsweep.domain.neurons.layer_widths import LayerWidths
from benchmarks.kernels import references, steering_cost, timing
from engine.kernels.activation import MlpForm
from engine.vllm.backends.base import NOTHING, RecordedSpan, StepLayout
from engine.vllm.backends.cuda import CudaBackend
from engine.vllm.worker.outputs.recording import Recording, recording_rows
from engine.vllm.worker.table import Shard

WIDTHS = {4864: 896, 18944: 3584}
"""Widths of an MLP, with the size of the residual stream."""
TOKENS = (1, 64, 256, 512, 8192)
LAYERS, SLOTS, SHARE = 28, 256, 0.01
SENTENCE = 64
"""Tokens of a recorded sentence."""


def times(width: int, hidden_size: int, tokens: int, *, device: torch.device, slots: int = SLOTS) -> dict[str, float]:
    """Return the times at one shape, in microseconds a layer."""
    backend = _backend(width, hidden_size, tokens, slots, device)
    modules = [(backend.activation(layer, nn.Identity()), backend.residual(layer)) for layer in range(LAYERS)]
    count = timing.launches(3 * tokens * width * 2)
    x = [torch.randn(tokens, 2 * width, device=device, dtype=torch.bfloat16) for _ in range(count)]
    hidden = torch.zeros(tokens, hidden_size, device=device, dtype=torch.bfloat16)
    out = torch.empty(tokens, width, device=device, dtype=torch.bfloat16)
    plain = references.references()["torch.compile"]

    def run_plain(index: int) -> None:
        plain(out, x[index])

    def run_layer(index: int) -> None:
        activation, residual = modules[index % LAYERS]
        activation(x[index])
        residual(hidden, None)

    steered = StepLayout(slots=(np.arange(tokens) % slots + 1).astype(np.int32))
    layouts = {"idle": NOTHING, "steered": steered, "recording": _recording(tokens, backend.recording.rows)}
    by_name = {"plain": timing.microseconds(run_plain, count)}
    for name, layout in layouts.items():
        backend.begin_step(layout)
        by_name[name] = timing.microseconds(run_layer, count)
    return {name: round(microseconds, 2) for name, microseconds in by_name.items()}


def _backend(width: int, hidden_size: int, tokens: int, slots: int, device: torch.device) -> CudaBackend:
    """Return a backend in which each slot edits a random share of each layer's neurons."""
    widths, touched = LayerWidths(LAYERS, width), max(1, round(width * SHARE))
    backend = CudaBackend(
        [MlpForm(activation="silu", gated=True)] * LAYERS,
        width=width,
        hidden_size=hidden_size,
        slots=slots,
        entries=(slots + 1) * LAYERS * touched,
        tokens=tokens,
        recording=Recording(
            Shard.of_rank(range(LAYERS), widths), rows=recording_rows(widths), hidden_size=hidden_size, device=device
        ),
        statistics=True,
        device=device,
    )
    rng = np.random.default_rng(steering_cost.SEED)
    for slot in range(1, slots + 1):
        backend.write(slot, steering_cost.random_entries(rng, width, touched, LAYERS))
    backend.warm_up(torch.bfloat16)
    return backend


def _recording(tokens: int, rows: int) -> StepLayout:
    """Return a step in which every token belongs to a recorded sentence, as far as there are rows."""
    firsts = range(0, tokens, SENTENCE)[:rows]
    spans = (RecordedSpan(row, first, min(first + SENTENCE, tokens), True) for row, first in enumerate(firsts))
    return StepLayout(slots=np.zeros(tokens, dtype=np.int32), recorded=tuple(spans))
