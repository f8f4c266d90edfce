"""A worker's backends agree with float64 for every two choices of an intervention, in chunks, over again, and switched.

No model runs: each layer gets random inputs. The CUDA backend runs in Triton's interpreter where there is no GPU.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ampsweep.domain.intervention import Intervention
from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.base import Steering
from engine.kernels.activation import MlpForm
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.backends.base import SteeringBackend
from engine.vllm.backends.cpu import CpuBackend
from engine.vllm.requests.request_extras import RequestExtras, steering_args
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.outputs.scoring import Scoring
from engine.vllm.worker.steering import WorkerSteering
from engine.vllm.worker.table import Shard
from tests.all_pairs import Chosen, all_pairs
from tests.engine.combinations import INTERVENTION, SWITCHED, intervention, is_valid, overlapping_neurons
from tests.engine.plain_rules import Rules, strengths_of
from tests.engine.vllm.worker.one_layer import SiluAndMul, head

pytestmark = pytest.mark.processes

LAYERS, WIDTH, HIDDEN = 3, 24, 5
SEEDS = range(int(os.environ.get("AMPSWEEP_COMBINATION_SEEDS", "1")))
PARTS = 8
"""The interpreter of the CUDA backend takes a minute for all combinations, so each seed tries an eighth of them."""
AT_ONCE = 4
STEP_TOKENS = 24
WIDTHS = LayerWidths(LAYERS, WIDTH)
NEURONS = overlapping_neurons(
    NeuronSet(
        id="ns",
        model="made-up",
        fingerprint="",
        layers=LAYERS,
        width=WIDTH,
        method="test",
        neurons={"en": np.empty((0, 2), dtype=np.int32)},
    ),
    hidden_size=HIDDEN,
)


@dataclass(kw_only=True)
class Running:
    """A request whose tokens are computed in steps; `state` says which of its tokens are steered if it is switched."""

    name: str
    raw: dict[str, Any]
    rules: Rules
    prompt_tokens: int
    total: int
    computed: int = 0
    since: int = 0  # the last switch
    switch: str | None = None
    state: list[bool] = field(default_factory=list)

    def strengths(self) -> Tensor:
        if self.switch is None:
            return strengths_of(self.raw, prompt_tokens=self.prompt_tokens, total=self.total)
        return torch.tensor([0.0] * self.prompt_tokens + [float(on) for on in self.state], dtype=torch.float64)


class Worker:
    """A worker with gated MLPs in all layers on one of the backends."""

    def __init__(self, backend_name: str) -> None:
        shard, device = Shard.of_rank(range(LAYERS), WIDTHS), torch.device("cpu")
        recording = partial(Recording, shard, rows=2, hidden_size=HIDDEN, device=device)
        forms = [MlpForm(activation="silu", gated=True)] * LAYERS
        backend: SteeringBackend
        if backend_name == "cpu":
            backend = CpuBackend(forms, width=WIDTH, slots=AT_ONCE, new_recording=recording, gather=lambda part: part)
        else:
            cuda = importlib.import_module("engine.vllm.backends.cuda")
            backend = cuda.CudaBackend(
                forms,
                width=WIDTH,
                hidden_size=HIDDEN,
                slots=AT_ONCE,
                entries=AT_ONCE * LAYERS * WIDTH,
                tokens=STEP_TOKENS + 1,
                recording=recording(),
                statistics=True,
                device=device,
            )
        self.steering = WorkerSteering(shard, backend, Scoring(head), slots=AT_ONCE)
        self.steering.add_neurons(NEURONS)
        inner: nn.Module = SiluAndMul()
        self.activations = [backend.activation(layer, inner) for layer in range(LAYERS)]
        self.residuals = [backend.residual(layer) for layer in range(LAYERS)]

    def check_step(self, spans: list[tuple[Running, int]], generator: torch.Generator) -> None:
        """Run the next tokens of some requests, with a token of padding, and compare each layer with float64."""
        names, counts = [each.name for each, _ in spans], [count for _, count in spans]
        self.steering.begin_step(names, counts, [each.computed for each, _ in spans])
        tokens = sum(counts) + 1
        for layer, (activation, steered) in enumerate(zip(self.activations, self.residuals, strict=True)):
            x = torch.randn(tokens, 2 * WIDTH, generator=generator)
            hidden, residual = (torch.randn(tokens, HIDDEN, generator=generator) for _ in range(2))
            gate, up = x.double().chunk(2, dim=1)
            active, stream = functional.silu(gate), hidden.double()
            first = 0
            for request, count in spans:
                rows = slice(first, first + count)
                strengths = request.strengths()[request.computed : request.computed + count]
                active[rows] = request.rules.edited(layer, active[rows], strengths)
                stream[rows] = request.rules.shifted(layer, stream[rows], strengths)
                first += count
            torch.testing.assert_close(activation(x).double(), active * up, rtol=2e-5, atol=2e-5)
            steered(hidden, residual if layer % 2 else None)
            torch.testing.assert_close(hidden.double(), stream, rtol=2e-5, atol=2e-5)
        for request, count in spans:
            request.computed += count


def start(worker: Worker, name: str, chosen: Chosen, random: Random) -> Running:
    """Start a request; one with a choice of `SWITCHED` is switched at random tokens instead of by a text."""
    raw, switched = intervention(chosen, NEURONS), chosen["tokens"] in SWITCHED
    prompt_tokens, generated = random.randint(1, 45), random.randint(1, 8)
    request = Running(
        name=name,
        raw=raw,
        rules=Rules(raw, NEURONS),
        prompt_tokens=prompt_tokens,
        total=prompt_tokens + generated,
        switch=f"switch {name}" if switched else None,
        state=[random.random() < 0.5] * generated if switched else [],
    )
    begin(worker, request)
    return request


def begin(worker: Worker, request: Running) -> None:
    steering = Steering(intervention=Intervention.from_dict(request.raw), neurons=NEURONS.id)
    on = bool(request.state and request.state[0])
    args = steering_args(steering, request.prompt_tokens, switch=request.switch, on=on)
    worker.steering.start(request.name, RequestExtras(steer=args).extra_args(), range(request.prompt_tokens))


def switch(worker: Worker, request: Running, random: Random) -> None:
    """Switch a request at its next token, or at a later one, that was not computed yet."""
    position = max(request.computed, request.prompt_tokens, request.since) + random.randint(0, 2)
    index = position - request.prompt_tokens
    if index < len(request.state):
        worker.steering.switch({str(request.switch): position})
        request.since = position
        request.state[index:] = [not request.state[index]] * (len(request.state) - index)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_two_choices_are_exact_in_a_batch(backend_name: str, seed: int) -> None:
    dimensions = {name: list(choices) for name, choices in INTERVENTION.items()}
    drawn = all_pairs(dimensions, is_valid, seed=0 if backend_name == "cuda" else seed)
    pending = list(enumerate(drawn[seed % PARTS :: PARTS] if backend_name == "cuda" else drawn))
    random, generator, worker = Random(seed), torch.Generator().manual_seed(seed), Worker(backend_name)
    running: list[Running] = []
    restarts = 0
    while pending or running:
        while pending and len(running) < AT_ONCE:
            number, chosen = pending.pop()
            running.append(start(worker, str(number), chosen, random))
        for request in running:
            if request.switch is not None and random.random() < 0.5:
                switch(worker, request, random)
            if request.computed and random.random() < 0.1:  # it is preempted
                begin(worker, request)
                request.computed = 0
                restarts += 1
        random.shuffle(running)
        spans: list[tuple[Running, int]] = []
        for request in running:
            wanted = 1 if request.computed >= request.prompt_tokens else random.randint(1, 40)
            room = STEP_TOKENS - sum(count for _, count in spans)
            if count := min(wanted, room, request.total - request.computed):
                spans.append((request, count))
        worker.check_step(spans, generator)
        for request in [each for each in running if each.computed == each.total]:
            worker.steering.finish(request.name)
            running.remove(request)
    assert worker.steering.slots_in_use == 0
    assert restarts > 0
