"""Which tokens of a step are steered, recorded and scored, tested without vLLM."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ampsweep.domain.neurons.layer_widths import LayerWidths
from engine.kernels.activation import MlpForm
from engine.kernels.xielu import Xielu, XieluConstants
from engine.vllm.backends.cpu import CpuBackend
from engine.vllm.requests.request_extras import RecordingArgs, RequestExtras, ScoringArgs
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.outputs.scoring import Scoring
from engine.vllm.worker.steering import WorkerSteering
from engine.vllm.worker.table import Shard
from tests.engine.vllm.worker.one_layer import (
    FORMS,
    HIDDEN,
    NEURONS,
    WIDTH,
    SiluAndMul,
    Worker,
    head,
    make_worker,
    run_layer,
    steer,
    steered_tokens,
)


def test_each_token_is_steered_by_its_own_request(worker: Worker) -> None:
    worker.steering.start("a", steer(3), [0, 1, 2])
    worker.steering.start("b", None, [0, 1, 2])
    worker.steering.begin_step(["b", "a"], [2, 3], [0, 0])
    out = run_layer(worker, 6)  # the last token is padding
    assert steered_tokens(out) == [False, False, True, True, True, False]


def test_an_mlp_without_a_gate_is_steered_in_a_batch_dimension_too(backend_name: str) -> None:
    worker = make_worker(backend_name, [MlpForm(activation="relu", gated=False)], nn.ReLU())
    worker.steering.start("a", steer(3, op="add", factor=2.0), [0, 1])
    worker.steering.start("b", RequestExtras(record=RecordingArgs(key="s", skip=0, sums=True)).extra_args(), [0])
    worker.steering.begin_step(["a", "b"], [2, 1], [0, 0])
    x = torch.randn(1, 4, WIDTH, generator=torch.Generator().manual_seed(0))  # the last token is padding
    expected = functional.relu(x)
    expected[:, :2, [1, 3]] += 2.0
    torch.testing.assert_close(worker.layer(x), expected)
    recorded = worker.steering.results("recording").take(["s"])[0]
    np.testing.assert_array_equal(recorded.counts, (x[:, 2] > 0).int())
    assert recorded.sums is not None
    np.testing.assert_allclose(recorded.sums, functional.relu(x[:, 2]))


def test_the_constants_of_an_activation_are_used_in_steering_recording_and_statistics(backend_name: str) -> None:
    function = Xielu(XieluConstants(alpha_p=0.7, alpha_n=1.3, beta=0.4))
    form = MlpForm(activation="xielu", gated=False, constants=function.constants)
    worker = make_worker(backend_name, [form], function)
    record = RequestExtras(record=RecordingArgs(key="s", skip=0, sums=True)).extra_args()
    worker.steering.start("a", steer(1, factor=2.0, statistic="max"), [0])
    worker.steering.start("b", record, [0])
    worker.steering.begin_step(["a", "b"], [1, 2], [0, 0])
    x = torch.tensor([[-5.0, -0.1, 0.0, 3.0], [-5.0, -0.1, 0.0, 3.0], [-4.0, 2.0, -1.0, -9.0]])
    expected = function(x)
    np.testing.assert_array_equal(expected[1] > 0, [True, False, False, True])  # xIELU is positive far below 0 too
    counts, sums = (expected[1:] > 0).sum(dim=0), expected[1:].sum(dim=0)
    expected[0, [1, 3]] = 2 * expected[0].max()
    torch.testing.assert_close(worker.layer(x), expected)
    recorded = worker.steering.results("recording").take(["s"])[0]
    np.testing.assert_array_equal(recorded.counts[0], counts)
    assert recorded.sums is not None
    np.testing.assert_allclose(recorded.sums[0], sums, rtol=1e-6)


def test_each_token_has_its_own_statistic(worker: Worker) -> None:
    worker.steering.start("most", steer(3, factor=2.0, statistic="max"), [0, 1])
    worker.steering.start("middle", steer(3, op="add", factor=-1.0, statistic="p50"), [0])
    worker.steering.begin_step(["most", "middle"], [2, 1], [0, 0])
    gate = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))  # the last token is padding
    rest = functional.silu(gate)
    expected = rest.clone()
    for token, (mult, value) in enumerate(
        [(0, 2 * rest[0].max()), (0, 2 * rest[1].max()), (1, -rest[2].quantile(0.5))]
    ):
        expected[token, [1, 3]] = mult * rest[token, [1, 3]] + value
    torch.testing.assert_close(worker.layer(torch.cat([gate, torch.ones(4, WIDTH)], dim=1)), expected)


def test_a_statistic_covers_the_neurons_of_all_ranks() -> None:
    """Only the first of two ranks has neurons that change, but the second must provide its part too."""
    gate = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    halves = gate.chunk(2, dim=1)
    gathered: list[list[int]] = []
    outs = []
    for rank in (0, 1):

        def gather(part: torch.Tensor, rank: int = rank) -> torch.Tensor:
            tokens = [int((functional.silu(halves[rank]) == row).all(dim=1).nonzero()) for row in part]
            gathered.append(tokens)
            return torch.cat([functional.silu(half[tokens]) for half in halves], dim=1)

        shard, cpu = Shard.of_rank(range(1), LayerWidths(1, WIDTH), rank=rank, ranks=2), torch.device("cpu")
        new_recording = partial(Recording, shard, rows=1, hidden_size=HIDDEN, device=cpu)
        backend = CpuBackend(FORMS, width=WIDTH, slots=2, new_recording=new_recording, gather=gather)
        steering = WorkerSteering(shard, backend, Scoring(head), slots=2)
        steering.add_neurons(replace(NEURONS, neurons={**NEURONS.neurons, "fr": np.array([[0, 1]], dtype=np.int32)}))
        steering.start("other", steer(1), [0])
        steering.start("mean", steer(3, factor=3.0, statistic="mean"), [0, 1])
        steering.begin_step(["other", "mean"], [1, 2], [0, 0])
        layer = backend.activation(0, SiluAndMul())
        outs.append(layer(torch.cat([halves[rank], torch.ones(3, 2)], dim=1)))
    assert gathered == [[1, 2], [1, 2]]
    expected = functional.silu(gate)
    expected[:, 1] = torch.stack([torch.tensor(9.0), *(3 * expected[1:].mean(dim=1))])
    torch.testing.assert_close(torch.cat(outs, dim=1), expected)


def test_scope_follows_positions_over_chunks(worker: Worker) -> None:
    worker.steering.start("prompt", steer(3, scope="prompt"), [0, 1, 2])
    worker.steering.start("generation", steer(3, scope="generation"), [0, 1, 2])
    worker.steering.begin_step(["prompt", "generation"], [2, 4], [2, 1])  # positions 2 3 and 1 2 3 4
    out = run_layer(worker, 6)
    assert steered_tokens(out) == [True, False, False, False, True, True]


def test_tokens_are_counted_over_chunks_recomputed_answers_and_steps_of_one_token(worker: Worker) -> None:
    listed = {"scope": "generation", "tokens": {"positions": [0, 2]}}
    worker.steering.start("slice", steer(3, scope="prompt", tokens={"start": -2}), [0, 1, 2])
    worker.steering.start("listed", steer(3, **listed), [0, 1, 2])
    worker.steering.start("plain", None, [0])
    worker.steering.begin_step(["slice", "plain", "listed"], [3, 1, 5], [0, 0, 1])  # positions 0 to 2, 0 and 1 to 5
    out = run_layer(worker, 10)  # the last token is padding
    assert steered_tokens(out) == [False, True, True, False, False, False, True, False, True, False]
    decoded = []
    for position in range(3, 7):
        worker.steering.begin_step(["slice", "plain", "listed"], [1, 1, 1], [position, position, position])
        decoded.append(steered_tokens(run_layer(worker, 3)))
    assert decoded == [[False, False, True], [False] * 3, [False, False, True], [False] * 3]


def test_the_strength_decays_with_the_position_and_only_for_its_request(worker: Worker) -> None:
    rest = functional.silu(torch.tensor(1.0))

    def strengths(tokens: int) -> list[float]:
        out = run_layer(worker, tokens)
        assert torch.isclose(out[:, [0, 2]], rest).all()
        assert torch.equal(out[:, 1], out[:, 3])
        return [round(value, 6) for value in ((out[:, 1] - rest) / (9.0 - rest)).tolist()]

    worker.steering.start("decays", steer(2, scope="generation", tokens={"decay": 0.5}), [0, 1])
    worker.steering.start("plain", steer(2), [0])
    worker.steering.begin_step(["decays", "plain"], [4, 2], [1, 0])  # positions 1 to 4, and 0 and 1
    assert strengths(7) == [0.0, 1.0, 0.5, 0.25, 1.0, 1.0, 0.0]  # the last token is padding
    worker.steering.begin_step(["plain", "decays"], [1, 1], [2, 5])
    assert strengths(2) == [1.0, 0.125]
    worker.steering.finish("decays")
    worker.steering.begin_step(["plain"], [3], [3])
    assert strengths(3) == [1.0, 1.0, 1.0]


def test_a_dummy_run_after_a_steered_step_steers_nothing(worker: Worker) -> None:
    worker.steering.start("a", steer(3), [0, 1, 2])
    worker.steering.start("r", RequestExtras(record=RecordingArgs(key="s", skip=0, sums=True)).extra_args(), [0])
    worker.steering.begin_step(["a", "r"], [3, 1], [0, 0])
    run_layer(worker, 4)
    worker.steering.begin_dummy_step()
    assert not any(steered_tokens(run_layer(worker, 8)))
    counts = worker.steering.results("recording").take(["s"])[0].counts
    np.testing.assert_array_equal(counts, np.ones((1, WIDTH)))


def test_a_preempted_request_keeps_its_slot_and_row(worker: Worker) -> None:
    extras = steer(3) | RequestExtras(record=RecordingArgs(key="s", skip=0, sums=True)).extra_args()
    for _ in range(2):
        worker.steering.start("a", steer(3), [0, 1, 2])
        worker.steering.start("r", extras, [0])
        worker.steering.begin_step(["a", "r"], [3, 2], [0, 0])
        assert steered_tokens(run_layer(worker, 5))[:3] == [True] * 3
    worker.steering.finish("a")
    worker.steering.finish("r")
    assert worker.steering.slots_in_use == 0
    counts = worker.steering.results("recording").take(["s"])[0].counts
    np.testing.assert_array_equal(counts, np.full((1, WIDTH), 2))


def test_a_finished_request_no_longer_steers(worker: Worker) -> None:
    worker.steering.start("a", steer(1), [0, 1, 2])
    assert worker.steering.slots_in_use == 1
    worker.steering.begin_step(["a"], [1], [0])
    assert steered_tokens(run_layer(worker, 1)) == [True]
    worker.steering.start("b", steer(1), [0, 1, 2])  # so that the step belongs to a request
    worker.steering.finish("a")
    worker.steering.begin_step(["a"], [1], [0])
    assert steered_tokens(run_layer(worker, 1)) == [False]
    worker.steering.finish("b")
    assert worker.steering.slots_in_use == 0


def test_recording_skips_special_tokens_and_starts_over_with_its_request(worker: Worker) -> None:
    worker.steering.start("r", RequestExtras(record=RecordingArgs(key="s", skip=1, sums=True)).extra_args(), [0, 1, 2])
    for _ in range(2):  # computed, preempted, computed again
        worker.steering.begin_step(["r"], [2], [0])
        run_layer(worker, 2)
        worker.steering.begin_step(["r"], [1], [2])
        run_layer(worker, 1)
    part = worker.steering.results("recording").take(["s"])[0]
    np.testing.assert_array_equal(part.counts, np.full((1, WIDTH), 2))
    assert part.sums is not None
    np.testing.assert_allclose(part.sums, np.full((1, WIDTH), 2 * float(functional.silu(torch.tensor(1.0)))), rtol=1e-6)


def test_a_sentence_without_requested_sums_is_only_counted(worker: Worker) -> None:
    for key, sums in (("counted", False), ("summed", True)):
        worker.steering.start(key, RequestExtras(record=RecordingArgs(key=key, skip=0, sums=sums)).extra_args(), [0])
    worker.steering.begin_step(["counted", "summed"], [5, 2], [0, 0])
    run_layer(worker, 7)
    counted, summed = worker.steering.results("recording").take(["counted", "summed"])
    np.testing.assert_array_equal(counted.counts, np.full((1, WIDTH), 5))
    np.testing.assert_array_equal(summed.counts, np.full((1, WIDTH), 2))
    assert counted.sums is None
    assert summed.sums is not None


def test_dropping_a_recorded_sentence_frees_its_row(worker: Worker) -> None:
    for name in ("a", "b", "c"):  # there are two rows
        worker.steering.start(name, RequestExtras(record=RecordingArgs(key=name, skip=0, sums=True)).extra_args(), [0])
        worker.steering.finish(name)
        worker.steering.results("recording").drop(name)
    worker.steering.results("recording").drop("never started")
    worker.steering.start("d", RequestExtras(record=RecordingArgs(key="d", skip=0, sums=True)).extra_args(), [0])
    worker.steering.begin_step(["d"], [1], [0])
    run_layer(worker, 1)
    np.testing.assert_array_equal(worker.steering.results("recording").take(["d"])[0].counts, np.ones((1, WIDTH)))


def test_scoring_over_chunks_gives_the_log_softmax_at_the_scored_positions(worker: Worker) -> None:
    tokens = [4, 7, 1, 9]  # and 3, the last, which is not fed
    hidden = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    worker.steering.start("plain", None, [1])
    worker.steering.start("s", RequestExtras(score=ScoringArgs(key="k", first=2, last=3)).extra_args(), tokens)
    worker.steering.begin_step(["plain", "s"], [1, 2], [0, 0])
    worker.steering.end_step(torch.cat([torch.zeros(1, 3), hidden[:2]]))
    worker.steering.begin_step(["s"], [2], [2])
    worker.steering.end_step(hidden[2:])
    expected = [float(torch.log_softmax(head(hidden[row]), 0)[token]) for row, token in ((1, 1), (2, 9), (3, 3))]
    (logprobs,) = worker.steering.results("score").take(["k"])
    assert logprobs is not None
    np.testing.assert_allclose(logprobs, expected, atol=1e-6)


def test_a_dropped_neuron_set_steers_from_its_slot_and_again_after_reloading(
    worker: Worker,
) -> None:
    worker.steering.start("a", steer(1), [0])
    worker.steering.drop_neurons("ns_test")
    worker.steering.drop_neurons("never loaded")
    worker.steering.start("b", steer(1), [0])  # the same intervention: its slot is filled
    with pytest.raises(KeyError):
        worker.steering.start("c", steer(1, scope="prompt"), [0])
    worker.steering.add_neurons(NEURONS)
    worker.steering.start("d", steer(1, scope="prompt"), [0])
    worker.steering.begin_step(["a", "b", "d"], [1, 1, 1], [0, 0, 0])
    assert steered_tokens(run_layer(worker, 3)) == [True, True, True]
