"""Which token of a step is steered by what, and what is recorded of it, without vLLM."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from engine.intervention import Intervention
from engine.neuron_set import NeuronSet
from engine.protocol import Steering
from engine.vllm_patch.scoring import Scoring
from engine.vllm_patch.steering import WorkerSteering
from engine.vllm_patch.table import Shard
from engine.vllm_patch.wire import Orders, RecordOrder, ScoreOrder, steer_order

WIDTH = 4
NEURONS = NeuronSet(
    id="ns_test",
    model="test",
    fingerprint="",
    layers=1,
    width=WIDTH,
    method="test",
    neurons={"fr": np.array([[0, 1], [0, 3]], dtype=np.int32)},
)


HEAD = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))


def head(hidden: torch.Tensor) -> torch.Tensor:
    return hidden @ HEAD


def worker() -> WorkerSteering:
    shard = Shard(layers=(0,), first=0, width=WIDTH)
    steering = WorkerSteering(shard, [functional.silu], Scoring(head), slots=2, rows=2, device=torch.device("cpu"))
    steering.add_neurons(NEURONS)
    return steering


def steer(prompt_tokens: int, **intervention: object) -> dict[str, object]:
    made = Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 9.0, **intervention})
    return Orders(steer=steer_order(Steering(intervention=made, neurons="ns_test"), prompt_tokens)).extra_args()


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
    steering.start("a", steer(3), [0, 1, 2])
    steering.start("b", None, [0, 1, 2])
    steering.begin_step(["b", "a"], [2, 3], [0, 0])
    _, out = run_layer(steering, 6)  # the last token is padding
    assert steered_tokens(out) == [False, False, True, True, True, False]


def test_scope_follows_positions_over_chunks() -> None:
    steering = worker()
    steering.start("prompt", steer(3, scope="prompt"), [0, 1, 2])
    steering.start("generation", steer(3, scope="generation"), [0, 1, 2])
    steering.begin_step(["prompt", "generation"], [2, 4], [2, 1])  # positions 2 3 and 1 2 3 4
    _, out = run_layer(steering, 6)
    assert steered_tokens(out) == [True, False, False, False, True, True]


def test_a_finished_request_no_longer_steers() -> None:
    steering = worker()
    steering.start("a", steer(1), [0, 1, 2])
    assert steering.slots_in_use == 1
    steering.finish("a")
    steering.finish("never started")
    assert steering.slots_in_use == 0
    steering.begin_step(["a"], [1], [0])
    _, out = run_layer(steering, 1)
    assert steered_tokens(out) == [False]


def test_recording_skips_special_tokens_and_starts_over_with_its_request() -> None:
    steering = worker()
    steering.start("r", Orders(record=RecordOrder(key="s", skip=1)).extra_args(), [0, 1, 2])
    for _ in range(2):  # computed, preempted, computed again
        steering.begin_step(["r"], [2], [0])
        run_layer(steering, 2)
        steering.begin_step(["r"], [1], [2])
        run_layer(steering, 1)
    counts, sums = steering.take_recording("s")
    np.testing.assert_array_equal(counts, np.full((1, WIDTH), 2))
    np.testing.assert_allclose(sums, np.full((1, WIDTH), 2 * float(functional.silu(torch.tensor(1.0)))), rtol=1e-6)


def test_the_row_of_a_sentence_that_nobody_takes_is_free_again() -> None:
    steering = worker()
    for name in ("a", "b", "c"):  # there are two rows
        steering.start(name, Orders(record=RecordOrder(key=name, skip=0)).extra_args(), [0])
        steering.finish(name)
        steering.drop_recording(name)
    steering.drop_recording("never started")
    steering.start("d", Orders(record=RecordOrder(key="d", skip=0)).extra_args(), [0])
    steering.begin_step(["d"], [1], [0])
    run_layer(steering, 1)
    counts, _ = steering.take_recording("d")
    np.testing.assert_array_equal(counts, np.ones((1, WIDTH)))


def test_scoring_over_chunks_gives_the_log_softmax_at_the_asked_positions() -> None:
    steering = worker()
    tokens = [4, 7, 1, 9, 3]
    hidden = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    steering.start("plain", None, [1])
    steering.start("s", Orders(score=ScoreOrder(key="k", first=2)).extra_args(), tokens)
    steering.begin_step(["plain", "s"], [1, 2], [0, 0])
    steering.end_step(torch.cat([torch.zeros(1, 3), hidden[:2]]))
    steering.begin_step(["s"], [3], [2])
    steering.end_step(hidden[2:])
    expected = [float(torch.log_softmax(head(hidden[at - 1]), 0)[tokens[at]]) for at in (2, 3, 4)]
    np.testing.assert_allclose(steering.take_score("k"), expected, atol=1e-6)
