"""Slots are reused while the device still computes the steps before: each step reads what was written for it.

The device of these tests runs nothing before it is synchronized. The host meanwhile schedules several steps ahead, as
vLLM's asynchronous scheduling does, and writes for each of them the token slots and the rows of new interventions into
slots that the step before still uses.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.kernels.device_table import DeviceTable, SlotEntries
from engine.kernels.token_slots import TokenSlots
from tests.engine.kernels.lagging_stream import LaggingStream

LAYERS, WIDTH, SLOTS, TOKENS = 2, 8, 3, 6


def row(value: float, neurons: int) -> SlotEntries:
    """Return an intervention that sets the first neurons of each layer to `value`."""
    return SlotEntries(
        offsets=np.arange(LAYERS + 1, dtype=np.int64) * neurons,
        indices=np.tile(np.arange(neurons, dtype=np.int32), LAYERS),
        mult=np.zeros(LAYERS * neurons, dtype=np.float32),
        add=np.full(LAYERS * neurons, value, dtype=np.float32),
        vectors=np.full((LAYERS, 4), value, dtype=np.float32),
    )


class Device:
    """The table and the token slots of a device, and steps that read them as the kernels do."""

    def __init__(self, stream: LaggingStream, *, entries: int) -> None:
        cpu = torch.device("cpu")
        self.table = DeviceTable(
            slots=SLOTS, layers=LAYERS, width=WIDTH, capacity=entries, device=cpu, statistics=False, hidden_size=4
        )
        self.tokens = TokenSlots(capacity=TOKENS, device=cpu)
        self.stream = stream
        buffers, vectors = self.table.buffers, self.table.vectors
        stream.own(buffers.offsets, buffers.neurons, buffers.mult, buffers.add, vectors.adds, vectors.values)
        stream.own(self.tokens.buffer, self.tokens.strengths)
        self.results: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    def step(self) -> None:
        """Queue a step: the sum of what each token's slot adds to neurons, and to the residual, times its strength."""

        def kernel() -> None:
            buffers, vectors = self.table.buffers, self.table.vectors
            neurons, residual = np.zeros(TOKENS, dtype=np.float32), np.zeros(TOKENS, dtype=np.float32)
            strengths = self.tokens.strengths.tolist()
            for token, (slot, strength) in enumerate(zip(self.tokens.buffer.tolist(), strengths, strict=True)):
                starts = buffers.offsets[slot]
                neurons[token] = strength * float(buffers.add[int(starts[0]) : int(starts[-1])].sum())
                residual[token] = strength * float((vectors.values[slot] * vectors.adds[slot][:, None]).sum())
            self.results.append((neurons, residual))

        self.stream.launch(kernel)


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_a_step_reads_what_was_written_for_it_however_far_the_device_lags(ahead: int) -> None:
    random = np.random.default_rng(3)
    expected: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    with LaggingStream() as stream:
        device = Device(stream, entries=2 * LAYERS * WIDTH)  # so few that rows are moved together
        held: dict[int, tuple[float, int]] = {}
        for number in range(40):
            for slot in random.permutation(np.arange(1, SLOTS + 1))[:2].tolist():  # new interventions in used slots
                if slot in held:
                    device.table.clear(slot)
                value, neurons = float(100 * number + slot), int(random.integers(1, 5))
                device.table.write(slot, row(value, neurons))
                held[slot] = (value, neurons)
            slots = random.choice([0, *held], size=int(random.integers(1, TOKENS + 1))).astype(np.int32)
            strength = (1.0, 0.5)[number // 3 % 2]
            strengths = None if strength == 1.0 else np.full(len(slots), strength, dtype=np.float32)
            device.tokens.write(slots, strengths)
            device.step()
            padded = [*slots.tolist(), *[0] * (TOKENS - len(slots))]
            steered = [held.get(slot, (0.0, 0)) for slot in padded]
            expected.append(
                (
                    np.array([strength * value * neurons * LAYERS for value, neurons in steered], dtype=np.float32),
                    np.array([strength * value * LAYERS * 4 for value, _ in steered], dtype=np.float32),
                )
            )
            slots[:] = -1  # the host uses its memory again
            if strengths is not None:
                strengths[:] = -1.0
            if number % ahead == ahead - 1:
                assert stream.queued > 0
                stream.synchronize()
        stream.synchronize()
    assert len(device.results) == len(expected)
    for ours, theirs in zip(device.results, expected, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_the_device_of_these_tests_would_show_a_write_that_overtakes_a_step() -> None:
    """Memory of the host that is written before the device has read it is what the test must be able to see."""
    with LaggingStream() as stream:
        target, source = torch.zeros(2), torch.ones(2)
        stream.own(target)
        target.copy_(source, non_blocking=True)
        source[:] = 5.0
        stream.synchronize()
        assert target.tolist() == [5.0, 5.0]
