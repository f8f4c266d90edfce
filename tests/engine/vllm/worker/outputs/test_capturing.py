"""Activations are copied token by token, in chunks and before edits, on both backends and on any part of a model."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import EngineFailed
from engine.capture.selection import NeuronSelection
from engine.vllm.requests.request_extras import CaptureArgs, RequestExtras
from engine.vllm.worker.outputs.capturing import CapturedRow, Capturing, join_captured
from engine.vllm.worker.table import Shard
from tests.engine.vllm.worker.one_layer import FORMS, WIDTH, SiluAndMul, Worker, make_worker, steer

LAYERS, NEURONS = 5, 12
CHOSEN = NeuronSelection.of({0: np.array([0, 3, 11]), 3: np.arange(NEURONS), 4: np.array([5])})
ONE_LAYER = NeuronSelection.of({0: np.array([1, 2])})


@pytest.fixture(params=["cpu", "cuda"])
def worker(request: pytest.FixtureRequest) -> Worker:
    """Return a worker with one layer; the CUDA backend runs in Triton's interpreter."""
    return make_worker(request.param, FORMS, SiluAndMul())


def extras(neurons: NeuronSelection, key: str = "k", **more: object) -> dict[str, object]:
    args = CaptureArgs.of(key, neurons, LayerWidths(1, WIDTH))
    return {"ampsweep": {**RequestExtras(capture=args).extra_args()["ampsweep"], **more}}


def test_a_prompt_is_captured_in_chunks_beside_others_and_before_its_edit(worker: Worker) -> None:
    x = torch.randn(8, 2 * WIDTH, generator=torch.Generator().manual_seed(0))
    steered = steer(4)["ampsweep"]
    assert isinstance(steered, dict)
    worker.steering.start("c", extras(ONE_LAYER, **steered), [0, 1, 2, 3])
    worker.steering.start("other", None, [0, 1])
    worker.steering.begin_step(["other", "c"], [2, 3], [0, 0])
    changed = worker.layer(x[:6])  # the last token is padding
    worker.steering.begin_step(["c"], [1], [3])
    worker.layer(x[6:])
    expected = functional.silu(x[[2, 3, 4, 6], 1:3])
    ((row,),) = worker.steering.results("capture").take(["k"])
    np.testing.assert_allclose(row.values, expected, rtol=0, atol=1e-6)
    assert row.computed.all()
    assert torch.isclose(changed[2:5, 1], x[2:5, WIDTH + 1] * 9.0).all(), "it was steered"
    (joined,) = join_captured([[row]], ONE_LAYER, tokens=4)
    np.testing.assert_array_equal(joined, row.values)


def test_what_is_generated_after_the_prompt_is_not_captured(worker: Worker) -> None:
    worker.steering.start("c", extras(ONE_LAYER), [0, 1])
    for tokens, computed in ((2, 0), (1, 2)):
        worker.steering.begin_step(["c"], [tokens], [computed])
        worker.layer(torch.full((tokens, 2 * WIDTH), float(computed + 1)))
    ((row,),) = worker.steering.results("capture").take(["k"])
    np.testing.assert_allclose(row.values, np.full((2, 2), float(functional.silu(torch.tensor(1.0)))), rtol=1e-6)


def test_a_preempted_request_is_captured_again(worker: Worker) -> None:
    worker.steering.start("c", extras(ONE_LAYER), [0, 1])
    for value in (1.0, 2.0):
        worker.steering.begin_step(["c"], [2], [0])
        worker.layer(torch.full((2, 2 * WIDTH), value))
    ((row,),) = worker.steering.results("capture").take(["k"])
    np.testing.assert_allclose(row.values, np.full((2, 2), float(functional.silu(torch.tensor(2.0)))), rtol=1e-6)


def test_a_capture_that_is_not_collected_is_forgotten(worker: Worker) -> None:
    worker.steering.start("c", extras(ONE_LAYER), [0])
    worker.steering.finish("c")
    worker.steering.results("capture").drop("k")
    worker.steering.results("capture").drop("never started")
    with pytest.raises(KeyError):
        worker.steering.results("capture").take(["k"])


def captured(shard: Shard, values: np.ndarray) -> list[CapturedRow]:
    """Return what the worker of a shard captures of activations [layers, T, F]."""
    args = CaptureArgs.of("k", CHOSEN, LayerWidths(LAYERS, NEURONS))
    assert args.indices[1] is None, "a whole layer is not listed"
    capturing = Capturing(shard)
    rows = capturing.open(args, tokens=values.shape[1])
    for number, row in rows.items():
        part = values[shard.layers[number]][:, shard.neurons[number].start : shard.neurons[number].stop]
        row.put(0, torch.from_numpy(part)[:, row.columns])
    (taken,) = capturing.take(["k"])
    return taken


@given(stages=st.integers(1, LAYERS), ranks=st.sampled_from([1, 2, 3, 4]), order=st.randoms())
def test_parts_in_any_order_are_joined_to_the_whole(stages: int, ranks: int, order: random.Random) -> None:
    values = np.random.default_rng(0).normal(size=(LAYERS, 3, NEURONS)).astype(np.float32)
    width = NEURONS // ranks
    parts = [
        captured(
            Shard(layers=tuple(map(int, layers)), neurons=(range(rank * width, (rank + 1) * width),) * len(layers)),
            values,
        )
        for layers in np.array_split(np.arange(LAYERS), stages)
        for rank in range(ranks)
    ]
    order.shuffle(parts)
    for layer, indices, joined in zip(
        CHOSEN.layers, CHOSEN.indices, join_captured(parts, CHOSEN, tokens=3), strict=True
    ):
        np.testing.assert_array_equal(joined, values[layer][:, indices])


def test_an_mlp_beside_experts_has_a_row_of_its_own() -> None:
    shard = Shard(layers=(0, 0), neurons=(range(4), range(4, NEURONS)), experts=(1, 2))
    values = np.arange(2 * NEURONS, dtype=np.float32).reshape(1, 2, NEURONS)
    args = CaptureArgs(key="k", layers=[0], indices=[[3, 4, 9]])
    capturing = Capturing(shard)
    for number, row in capturing.open(args, tokens=2).items():
        row.put(0, torch.from_numpy(values[0][:, list(shard.neurons[number])])[:, row.columns])
    neurons = NeuronSelection.of({0: np.array([3, 4, 9])})
    (joined,) = join_captured(capturing.take(["k"]), neurons, tokens=2)
    np.testing.assert_array_equal(joined, values[0][:, [3, 4, 9]])


def test_activations_that_no_worker_computed_are_an_error() -> None:
    capturing = Capturing(Shard.of_rank(range(LAYERS), LayerWidths(LAYERS, NEURONS)))
    rows = capturing.open(CaptureArgs.of("k", CHOSEN, LayerWidths(LAYERS, NEURONS)), tokens=2)
    for row in rows.values():
        row.put(0, torch.zeros(1 if row.layer == 3 else 2, len(row.places)))
    with pytest.raises(EngineFailed, match="12 of 32 activations were not computed"):
        join_captured(capturing.take(["k"]), CHOSEN, tokens=2)
    with pytest.raises(EngineFailed, match="32 of 32"):
        join_captured([[]], CHOSEN, tokens=2)
