"""Which token of a step is steered by what, and what is recorded of it, without vLLM."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from engine.intervention import Intervention
from engine.neuron_set import NeuronSet
from engine.protocol import Steering
from engine.vllm_patch.steering import WorkerSteering
from engine.vllm_patch.table import Shard
from engine.vllm_patch.wire import record_args, steer_args

WIDTH = 4
NEURONS = NeuronSet(
    id="ns_test",
    model="test",
    fingerprint="",
    layers=1,
    width=WIDTH,
    method="test",
    params={},
    corpus="",
    corpus_hash="",
    neurons={"fr": np.array([[0, 1], [0, 3]], dtype=np.int32)},
)


def worker() -> WorkerSteering:
    shard = Shard(layers=(0,), first=0, width=WIDTH)
    steering = WorkerSteering(shard, [functional.silu], slots=2, rows=2, device=torch.device("cpu"))
    steering.add_neurons(NEURONS)
    return steering


def steer(prompt_tokens: int, **intervention: object) -> dict[str, object]:
    made = Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 9.0, **intervention})
    return steer_args(Steering(intervention=made, neurons="ns_test"), prompt_tokens)


def run_layer(steering: WorkerSteering, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    gate_up = torch.ones(tokens, 2 * WIDTH)
    out = torch.zeros(tokens, WIDTH)
    steering.apply(0, gate_up, out)
    return gate_up, out


def steered_tokens(out: torch.Tensor) -> list[bool]:
    expected = torch.tensor([0.0, 9.0, 0.0, 9.0])
    flags = [bool(torch.equal(row, expected)) for row in out]
    assert all(flag or not row.any() for flag, row in zip(flags, out, strict=True))
    return flags


def test_each_token_goes_by_its_own_request() -> None:
    steering = worker()
    steering.start("a", steer(3))
    steering.start("b", None)
    steering.begin_step(["b", "a"], [2, 3], [0, 0])
    _, out = run_layer(steering, 6)  # the last token is padding
    assert steered_tokens(out) == [False, False, True, True, True, False]


def test_scope_follows_positions_over_chunks() -> None:
    steering = worker()
    steering.start("prompt", steer(3, scope="prompt"))
    steering.start("generation", steer(3, scope="generation"))
    steering.begin_step(["prompt", "generation"], [2, 4], [2, 1])  # positions 2 3 and 1 2 3 4
    _, out = run_layer(steering, 6)
    assert steered_tokens(out) == [True, False, False, False, True, True]


def test_a_finished_request_no_longer_steers() -> None:
    steering = worker()
    steering.start("a", steer(1))
    assert steering.slots_in_use == 1
    steering.finish("a")
    steering.finish("never started")
    assert steering.slots_in_use == 0
    steering.begin_step(["a"], [1], [0])
    _, out = run_layer(steering, 1)
    assert steered_tokens(out) == [False]


def test_recording_skips_special_tokens_and_starts_over_with_its_request() -> None:
    steering = worker()
    steering.start("r", record_args("s", 1))
    for _ in range(2):  # computed, preempted, computed again
        steering.begin_step(["r"], [2], [0])
        run_layer(steering, 2)
        steering.begin_step(["r"], [1], [2])
        run_layer(steering, 1)
    counts, sums = steering.take_recording("s")
    np.testing.assert_array_equal(counts, np.full((1, WIDTH), 2))
    np.testing.assert_allclose(sums, np.full((1, WIDTH), 2 * float(functional.silu(torch.tensor(1.0)))), rtol=1e-6)
