"""Compares the GPU kernels of a layer of experts with float64: products, steering and recording of the pairs.

As in `benchmarks.kernels.checks`, outputs are filled with NaN first. Each pair is checked by itself, with torch's own
functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.kernels.float64_activation import activation_in_float64
from engine.kernels.cuda.expert_pairs import ExpertPairs
from engine.kernels.device_table import DeviceTable, SlotEntries

SHAPES = ((9, 5, 2, 40, 36),)
"""Tokens, experts, experts of a token, size of the residual stream and neurons of an expert, on every machine."""
GPU_SHAPES = ((1, 128, 8, 2048, 768), (600, 128, 8, 2048, 768), (1100, 8, 2, 4096, 1792))
"""Those that are checked on a GPU too: few and many pairs of an expert."""
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
_FACTOR, _SUM_ERROR = -2.5, 2e-3


class ExpertCheck:
    """The checks of experts on one device.

    Args:
        device: Where the kernels run; on a CPU Triton must interpret them.
        random: Draws the inputs.
        small: Check no shapes of real models.
    """

    def __init__(self, device: torch.device, random: np.random.Generator, *, small: bool = False) -> None:
        self._device, self._random, self._small = device, random, small

    def run(self) -> int:
        """Return the number of cases; raise AssertionError if one differs."""
        cases = 0
        for shape, dtype in self._cases():
            tokens, experts, each, hidden_size, width = shape
            chosen = np.argsort(self._random.random((tokens, experts)), axis=1)[:, :each].astype(np.int32)
            pairs = ExpertPairs.of(torch.from_numpy(chosen).to(self._device), experts=experts)
            self._product(pairs, tokens, hidden_size, 2 * width, dtype)
            self._steering(pairs, tokens, width, dtype)
            self._recording(pairs, tokens, width, dtype)
            cases += 1
        return cases

    def _cases(self) -> Iterator[tuple[tuple[int, ...], torch.dtype]]:
        on_cpu = self._device.type == "cpu"
        for shape in SHAPES if on_cpu or self._small else (*SHAPES, *GPU_SHAPES):
            for dtype in ROUNDING:
                if not (on_cpu and dtype == torch.bfloat16):  # the interpreter cannot multiply matrices of it
                    yield shape, dtype

    def _product(self, pairs: ExpertPairs, tokens: int, inputs: int, outputs: int, dtype: torch.dtype) -> None:
        from engine.kernels.cuda import grouped_product_triton

        x, weights = self._normal(tokens, inputs).to(dtype), self._normal(pairs.experts, outputs, inputs).to(dtype)
        biases, shares = self._normal(pairs.experts, outputs).to(dtype), self._normal(len(pairs.chosen))
        out = self._unwritten(len(pairs.chosen), outputs, dtype)
        options: Any = {"each": pairs.each, "biases": biases, "shares": shares}
        grouped_product_triton.multiply(out, x, weights, pairs, **options)
        for expert in range(pairs.experts):
            rows = (pairs.chosen == expert).nonzero()[:, 0]
            expected = x[rows // pairs.each].double() @ weights[expert].double().T + biases[expert].double()
            self._compare(out[rows], expected * shares[rows, None].double(), dtype, inputs)

    def _steering(self, pairs: ExpertPairs, tokens: int, width: int, dtype: torch.dtype) -> None:
        """Check slot 1, which scales every third neuron of every expert but the first, at half of the tokens."""
        from engine.kernels.cuda import steer_triton

        neurons = np.arange(0, width, 3, dtype=np.int32)
        lengths = [0, *[len(neurons)] * (pairs.experts - 1)]
        count = sum(lengths)
        table = DeviceTable(
            slots=1,
            layers=1,
            width=pairs.each * width,
            capacity=count,
            device=self._device,
            sections=[width] * pairs.experts,
        )
        entries = SlotEntries(
            offsets=np.cumsum([0, *lengths], dtype=np.int64),
            indices=np.tile(neurons, pairs.experts - 1),
            mult=np.full(count, _FACTOR, dtype=np.float32),
            add=np.zeros(count, dtype=np.float32),
        )
        table.write(1, entries)
        slots = torch.arange(tokens, dtype=torch.int32, device=self._device) % 2
        x = self._normal(len(pairs.chosen), 2 * width).to(dtype)
        out = self._unwritten(len(pairs.chosen), width, dtype)
        first, strengths = torch.zeros((), dtype=torch.int32, device=self._device), torch.ones_like(slots).float()
        options: Any = {"activation": "silu", "gated": True, "strengths": strengths, "pairs": pairs}
        steer_triton.steer(out, x, slots, table.buffers, first, **options)
        expected = activation_in_float64(x[:, :width], "silu")
        steered = (slots.repeat_interleave(pairs.each) == 1) & (pairs.chosen > 0)
        expected[:, ::3] *= torch.where(steered, _FACTOR, 1.0).double()[:, None]
        self._compare(out, expected * x[:, width:].double(), dtype, 1)

    def _recording(self, pairs: ExpertPairs, tokens: int, width: int, dtype: torch.dtype) -> None:
        """Check a sentence of all tokens but the last, and one of no tokens."""
        from engine.kernels.cuda import record_triton

        x = self._normal(len(pairs.chosen), 2 * width).to(dtype)
        spans = torch.tensor([[0, tokens - 1], [0, 0]], dtype=torch.int32, device=self._device)
        shape, layer = (1, 2, pairs.experts * width), torch.zeros((), dtype=torch.int32, device=self._device)
        counts, sums = (torch.zeros(shape, dtype=dtype, device=self._device) for dtype in (torch.int32, torch.float32))
        options: Any = {"width": width, "activation": "silu", "pairs": pairs}
        record_triton.record(counts, sums, x, pairs.spans(spans), layer, **options)
        active = activation_in_float64(x[:, :width], "silu")
        inside = torch.arange(len(x), device=self._device) < (tokens - 1) * pairs.each
        for expert in range(pairs.experts):
            rows, neurons = active[inside & (pairs.chosen == expert)], slice(expert * width, (expert + 1) * width)
            assert torch.equal(counts[0, 0, neurons], (rows > 0).sum(0, dtype=torch.int32))
            torch.testing.assert_close(sums[0, 0, neurons].double(), rows.sum(0), rtol=1e-5, atol=_SUM_ERROR)
        assert not counts[0, 1].any() and not sums[0, 1].any(), "a sentence without tokens is left alone"  # noqa: PT018

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._random.standard_normal(shape, dtype=np.float32)).to(self._device)

    def _unwritten(self, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.full((rows, columns), torch.nan, dtype=dtype, device=self._device)

    @staticmethod
    def _compare(result: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, terms: int) -> None:
        """Compare sums of `terms` products of numbers of size 1."""
        atol = ROUNDING[dtype] * max(terms, 4) ** 0.5
        torch.testing.assert_close(result.double(), expected, rtol=ROUNDING[dtype], atol=atol)
