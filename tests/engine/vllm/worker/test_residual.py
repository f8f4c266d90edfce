"""Vectors are added to the residual stream of a step, and the residual stream is recorded; tested without vLLM."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.vllm.requests.request_extras import RecordingArgs, RequestExtras
from tests.engine.vllm.worker.one_layer import DIFFERENCE, FORMS, HIDDEN, SiluAndMul, Worker, make_worker, steer

VECTOR = {"op": "add", "vector": "diffmean_raw"}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vectors_neurons_and_recordings_share_a_batch(worker: Worker, fused: bool, dtype: torch.dtype) -> None:
    record = RequestExtras(record=RecordingArgs(key="s", skip=1, sums=False)).extra_args()
    worker.steering.start("vector", steer(1, **VECTOR, factor=2.0, scope="generation"), [0])
    worker.steering.start("neurons", steer(1), [0])
    worker.steering.start("recorded", record, [0])
    worker.steering.begin_step(["recorded", "vector", "neurons"], [3, 2, 1], [0, 0, 0])
    hidden = torch.randn(1, 7, HIDDEN, generator=torch.Generator().manual_seed(0)).to(dtype)  # the last is padding
    residual = torch.ones_like(hidden) if fused else None
    expected = hidden.clone()
    expected[0, 4] = (hidden[0, 4].float() + 2 * DIFFERENCE).to(dtype)  # its generated token
    total = (hidden.float() + (1.0 if fused else 0.0))[0, 1:3].sum(dim=0)
    worker.residual(hidden, residual)
    torch.testing.assert_close(hidden, expected)  # Triton's interpreter rounds to bfloat16 in its own way
    unsteered = [0, 1, 2, 3, 5, 6]
    assert torch.equal(hidden[0, unsteered], expected[0, unsteered])
    np.testing.assert_allclose(worker.steering.results("recording").take(["s"])[0].residual[0], total, rtol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_residual_is_counted_for_the_sentences_that_ask_for_it(fused: bool, dtype: torch.dtype) -> None:
    worker = make_worker("cpu", FORMS, SiluAndMul())
    plain, counted = (
        RecordingArgs(key="p", skip=0, sums=False),
        RecordingArgs(key="c", skip=1, sums=False, residual_counts=True),
    )
    worker.steering.start("plain", RequestExtras(record=plain).extra_args(), [0])
    worker.steering.start("counted", RequestExtras(record=counted).extra_args(), [0])
    hidden = torch.randn(1, 9, HIDDEN, generator=torch.Generator().manual_seed(0)).to(dtype)  # the last is padding
    residual = torch.full_like(hidden, 0.5) if fused else None
    for _ in range(2):  # the second time its request starts over
        worker.steering.begin_step(["plain", "counted"], [2, 4], [0, 0])
        worker.residual(hidden, residual)
    worker.steering.begin_step(["counted"], [2], [4])
    worker.residual(hidden, residual)
    output = hidden[0].float() + (0.5 if fused else 0.0)
    expected = (torch.cat([output[3:6], output[:2]]) > 0).sum(dim=0)
    part = worker.steering.results("recording").take(["c"])[0]
    assert part.residual_counts is not None
    np.testing.assert_array_equal(part.residual_counts[0], expected)
    assert worker.steering.results("recording").take(["p"])[0].residual_counts is None


def test_a_row_is_used_again_without_the_counts_of_its_last_sentence() -> None:
    worker = make_worker("cpu", FORMS, SiluAndMul())
    for name, value in (("a", 1.0), ("b", 1.0), ("c", -1.0)):
        record = RecordingArgs(key=name, skip=0, sums=False, residual_counts=True)
        worker.steering.start(name, RequestExtras(record=record).extra_args(), [0])
        worker.steering.begin_step([name], [2], [0])
        worker.residual(torch.full((2, HIDDEN), value), None)
        counts = worker.steering.results("recording").take([name])[0].residual_counts
        np.testing.assert_array_equal(counts, np.full((1, HIDDEN), 2 if value > 0 else 0))
        worker.steering.finish(name)


def test_a_slot_that_had_a_vector_has_none_when_it_is_used_again(worker: Worker) -> None:
    for request, intervention in enumerate((VECTOR, VECTOR, {"op": "set"}, {"op": "scale"})):
        worker.steering.start(str(request), steer(1, **intervention, factor=1.0 + request), [0])
        worker.steering.begin_step([str(request)], [1], [0])
        hidden = torch.zeros(1, HIDDEN)
        worker.residual(hidden, None)
        assert torch.equal(hidden[0], (1.0 + request) * DIFFERENCE if request < 2 else torch.zeros(HIDDEN))
        worker.steering.finish(str(request))


def test_a_dummy_run_adds_no_vector(worker: Worker) -> None:
    worker.steering.start("a", steer(1, **VECTOR), [0])
    worker.steering.begin_step(["a"], [1], [0])
    worker.steering.begin_dummy_step()
    hidden = torch.zeros(4, HIDDEN)
    worker.residual(hidden, None)
    assert not hidden.any()


def test_a_vector_decays(worker: Worker) -> None:
    listed = {"positions": [1, 3], "decay": 0.5}
    worker.steering.start("vector", steer(5, **VECTOR, factor=2.0, tokens=listed), [0])
    worker.steering.begin_step(["vector"], [5], [0])
    hidden = torch.zeros(5, HIDDEN)
    worker.residual(hidden, None)
    torch.testing.assert_close(hidden, torch.tensor([0.0, 1.0, 0.0, 0.25, 0.0])[:, None] * 2 * DIFFERENCE)
