"""A worker with one layer and without vLLM, on either backend, and the steps that tests let it run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
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

WIDTH, HIDDEN = 4, 3
FORMS = [MlpForm(activation="silu", gated=True)]
NEURONS = NeuronSet(
    id="ns_test",
    model="test",
    fingerprint="",
    layers=1,
    width=WIDTH,
    method="test",
    neurons={"fr": np.array([[0, 1], [0, 3]], dtype=np.int32), "tr": np.empty((0, 2), dtype=np.int32)},
    residual_mean=np.array([[[1.0, 2.0, 3.0]], [[0.0, 0.0, -1.0]]], dtype=np.float32),
)
DIFFERENCE = torch.tensor([1.0, 2.0, 4.0])  # fr minus tr
HEAD = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))


def head(hidden: torch.Tensor) -> torch.Tensor:
    return hidden @ HEAD


class SiluAndMul(nn.Module):
    def forward(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=1)
        return functional.silu(gate) * up


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker with one layer, the activation of that layer, and the module that steers its output."""

    steering: WorkerSteering
    layer: nn.Module
    residual: nn.Module


def make_worker(backend_name: str, forms: list[MlpForm], inner: nn.Module) -> Worker:
    shard, cpu = Shard.of_rank(range(1), LayerWidths(1, WIDTH)), torch.device("cpu")
    new_recording = partial(Recording, shard, rows=2, hidden_size=HIDDEN, device=cpu)
    backend: SteeringBackend
    if backend_name == "cpu":
        backend = CpuBackend(forms, width=WIDTH, slots=2, new_recording=new_recording, gather=lambda part: part)
    else:
        cuda = importlib.import_module("engine.vllm.backends.cuda")
        backend = cuda.CudaBackend(
            forms,
            width=WIDTH,
            hidden_size=HIDDEN,
            slots=2,
            entries=8,
            tokens=16,
            recording=new_recording(),
            statistics=True,
            device=cpu,
        )
    steering = WorkerSteering(shard, backend, Scoring(head), slots=2)
    steering.add_neurons(NEURONS)
    return Worker(steering=steering, layer=backend.activation(0, inner), residual=backend.residual(0))


def steer(prompt_tokens: int, **intervention: object) -> dict[str, object]:
    parsed = Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 9.0, **intervention})
    return RequestExtras(
        steer=steering_args(Steering(intervention=parsed, neurons="ns_test"), prompt_tokens)
    ).extra_args()


def run_layer(worker: Worker, tokens: int) -> torch.Tensor:
    out: torch.Tensor = worker.layer(torch.ones(tokens, 2 * WIDTH))
    return out


def steered_tokens(out: torch.Tensor) -> list[bool]:
    rest = float(functional.silu(torch.tensor(1.0)))
    steered = torch.isclose(out, torch.tensor([rest, 9.0, rest, 9.0])).all(dim=1)
    assert (steered | torch.isclose(out, torch.tensor(rest)).all(dim=1)).all()
    result: list[bool] = steered.tolist()
    return result
