"""Compares all GPU kernels with float64 on random inputs: steering, statistics, recording, residual stream, experts.

Then the backend that launches them is checked, see `benchmarks.kernels.backend_check`.

Outputs are filled with NaN first, so that a place that a kernel does not write is found. Every activation function and
data type is tried on a small shape; on a GPU the shapes of real models follow, with the program that handles two tokens
at once, or only a long batch of few neurons. The references use only torch's own functions, in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import torch

from ampsweep.domain.statistic import Statistic
from benchmarks.kernels.expert_check import ExpertCheck
from benchmarks.kernels.float64_activation import XIELU, activation_in_float64
from engine.kernels.activation import ActivationName
from engine.kernels.device_table import DeviceTable, SlotEntries, VectorBuffers

SHAPES = ((3, 75),)
"""Tokens and width of the shapes on every machine."""
GPU_SHAPES = ((64, 4864), (2049, 4864), (512, 11008), (2049, 18944))
"""Those that are checked on a GPU too."""
SMALL_GPU_SHAPES = ((2049, 75),)
"""Those that are checked on a GPU if only small shapes are, for a memory checker, which is slow."""
KERNELS = ("steering", "statistics", "recording", "residual stream", "experts")
CHECKS = (*KERNELS, "graph replay", "host copies", "recordings")
"""Those of the kernels and of the backend that launches them."""
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Largest relative error of a result that is rounded to the type."""
STATISTICS = ("mean", "std", "max", "median", "iqr", "mad", "p12.5", "p100")
LAYERS, SLOTS, SHARE, BLOCK = 2, 3, 0.2, 32
_LAYER = 1
_SUM_ERROR = 2e-4  # of a float32 sum over at most 400 numbers of size 1


class KernelCheck:
    """The checks on one device; each returns the number of cases and raises AssertionError if one differs.

    Args:
        device: Where the kernels run; on a CPU Triton must interpret them.
        seed: Seed of the inputs.
        small: Check no shapes of real models.
    """

    def __init__(self, device: torch.device, *, seed: int, small: bool = False) -> None:
        self._device = device
        self._random = np.random.default_rng(seed)
        self._small = small
        on_gpu = SMALL_GPU_SHAPES if small else GPU_SHAPES
        self._shapes = SHAPES if device.type == "cpu" else (*SHAPES, *on_gpu)
        self._layer = torch.tensor(_LAYER, dtype=torch.int32, device=device)

    def checks(self) -> Mapping[str, Callable[[], int]]:
        """Return the checks by the name of what they check."""
        # It imports the kernels, for which Triton must be set up.
        from benchmarks.kernels.backend_check import BackendCheck

        experts = ExpertCheck(self._device, self._random, small=self._small)
        backend = BackendCheck(self._device, self._random)
        checks = (self.steering, self.statistics, self.recording, self.residual_stream, experts.run)
        return dict(zip(CHECKS, (*checks, backend.graphs, backend.copies, backend.recordings), strict=True))

    def steering(self) -> int:
        """Check `steer_triton.steer`, with rows that also multiply activations by 0."""
        from engine.kernels.cuda import steer_triton

        cases = 0
        for tokens, width, dtype, name, gated in self._cases():
            table, x, slots = self._table(width), self._inputs(tokens, width, dtype, gated=gated), self._slots(tokens)
            out = torch.full((tokens, width), torch.nan, dtype=dtype, device=self._device)
            strengths = self._strengths(tokens)
            options: dict[str, Any] = {"activation": name, "gated": gated, "constants": self._constants(name)}
            steer_triton.steer(out, x, slots, table.buffers, self._layer, strengths=strengths, **options)
            self._compare(out, _steered(x, slots, strengths, table, name, gated=gated), dtype)
            cases += 1
        return cases

    def statistics(self) -> int:
        """Check `statistic_triton.take`, and that the steering kernel adds its share of the result."""
        from engine.kernels.cuda import statistic_triton, steer_triton

        cases = 0
        for (tokens, width), word in itertools.product(self._shapes, STATISTICS):
            statistic = Statistic.parse(word)
            table = self._table(width, statistic=statistic)
            x, slots = self._inputs(tokens, width, torch.float32, gated=True), self._slots(tokens)
            values = torch.full((tokens,), torch.nan, device=self._device)
            arguments: Any = (x, slots, table.buffers, self._layer)
            statistic_triton.take(values, *arguments, activation="silu", gated=True)
            expected = _statistics(activation_in_float64(x[:, :width], "silu"), statistic)
            unused = torch.full_like(expected, torch.nan)
            self._compare(values, torch.where(slots > 0, expected, unused), torch.float32)
            out = torch.full((tokens, width), torch.nan, device=self._device)
            strengths = self._strengths(tokens)
            options: dict[str, Any] = {"activation": "silu", "gated": True}
            steer_triton.steer(out, *arguments, strengths=strengths, statistic=values, **options)
            steered = _steered(x, slots, strengths, table, "silu", gated=True, statistic=expected)
            self._compare(out, steered, torch.float32)
            cases += 1
        return cases

    def recording(self) -> int:
        """Check `record_triton.record`, twice into the same rows."""
        from engine.kernels.cuda import record_triton

        cases, rows = 0, 3
        for tokens, width, dtype, name, gated in self._cases():
            x, spans = self._inputs(tokens, width, dtype, gated=gated), self._spans(tokens, rows)
            counts = torch.zeros(LAYERS, rows, width, dtype=torch.int32, device=self._device)
            sums = torch.zeros(LAYERS, rows, width, device=self._device)
            options: dict[str, Any] = {"width": width, "activation": name, "constants": self._constants(name)}
            for _ in range(2):
                record_triton.record(counts, sums, x, spans, self._layer, **options)
            active = activation_in_float64(x[:, :width], name)
            for row, (first, end) in enumerate(spans.tolist()):
                assert torch.equal(counts[_LAYER, row], 2 * (active[first:end] > 0).sum(0, dtype=torch.int32))
                self._compare(sums[_LAYER, row], 2 * active[first:end].sum(0), torch.float32, atol=_SUM_ERROR)
            assert not counts[0].any() and not sums[0].any(), "another layer is left alone"  # noqa: PT018
            cases += 1
        return cases

    def residual_stream(self) -> int:
        """Check `residual_triton.add` and `residual_triton.record`, on a residual stream as wide as the layers."""
        from engine.kernels.cuda import residual_triton

        cases, rows = 0, 3
        for (tokens, width), dtype in itertools.product(self._shapes, ROUNDING):
            hidden, rest = (self._inputs(tokens, width, dtype, gated=False) for _ in range(2))
            spans, slots = self._spans(tokens, rows), self._slots(tokens)
            sums = torch.zeros(LAYERS, rows, width, device=self._device)
            residual_triton.record(sums, hidden, rest, spans, self._layer)
            output = hidden.double() + rest.double()
            for row, (first, end) in enumerate(spans.tolist()):
                self._compare(sums[_LAYER, row], output[first:end].sum(0), torch.float32, atol=_SUM_ERROR)
            values = self._normal(SLOTS + 1, LAYERS, width).to(self._device)
            adds = torch.ones(SLOTS + 1, LAYERS, dtype=torch.int32, device=self._device)
            adds[SLOTS] = 0
            strengths = self._strengths(tokens)
            added = strengths[:, None].double() * values[slots.long(), _LAYER].double()
            expected = hidden.double() + torch.where(((slots > 0) & (slots < SLOTS))[:, None], added, 0.0)
            vectors = VectorBuffers(adds=adds, values=values)
            residual_triton.add(hidden, slots, strengths, vectors, self._layer)
            self._compare(hidden, expected, dtype)
            cases += 1
        return cases

    def _cases(self) -> list[tuple[int, int, torch.dtype, ActivationName, bool]]:
        """Return tokens, width, data type, activation function and whether there is a gate.

        The small shapes have every combination; large ones have SiLU with a gate, so that not too much is compiled.
        """
        names: tuple[ActivationName, ...] = get_args(ActivationName)
        small = [
            (*shape, dtype, name, gated)
            for shape, dtype, name, gated in itertools.product(SHAPES, ROUNDING, names, (True, False))
            if not (gated and name == "xielu")
        ]
        large = itertools.product(self._shapes[len(SHAPES) :], ROUNDING)
        return [*small, *((*shape, dtype, "silu", True) for shape, dtype in large)]

    def _inputs(self, tokens: int, width: int, dtype: torch.dtype, *, gated: bool) -> torch.Tensor:
        return self._normal(tokens, width * (2 if gated else 1)).to(dtype).to(self._device)

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self._random.standard_normal(shape, dtype=np.float32))

    def _slots(self, tokens: int) -> torch.Tensor:
        """Return slots at random, with every slot among the first tokens."""
        slots = self._random.integers(0, SLOTS + 1, tokens)
        first = self._random.permutation(SLOTS + 1)[:tokens]
        slots[: len(first)] = first
        return torch.from_numpy(slots.astype(np.int32)).to(self._device)

    def _strengths(self, tokens: int) -> torch.Tensor:
        """Return the strengths of the tokens, half of them 1."""
        drawn = self._random.random(tokens)
        return torch.from_numpy(np.where(drawn < 0.5, 1.0, drawn).astype(np.float32)).to(self._device)

    def _spans(self, tokens: int, rows: int) -> torch.Tensor:
        """Return the tokens of each row: some in the first, none in the second, and the last token in the third."""
        spans = [[0, min(max(tokens - 1, 0), 200)], [0, 0], [tokens - 1, tokens]]
        assert len(spans) == rows
        return torch.tensor(spans, dtype=torch.int32, device=self._device)

    def _table(self, width: int, *, statistic: Statistic | None = None) -> DeviceTable:
        """Return a table in which each slot edits its own random neurons, some of them with factor 0."""
        count = max(1, round(width * SHARE))
        block = BLOCK if width < BLOCK * 4 else 1024
        table = DeviceTable(
            slots=SLOTS,
            layers=LAYERS,
            width=width,
            capacity=SLOTS * LAYERS * count,
            block=block,
            statistics=statistic is not None,
            device=self._device,
        )
        for slot in range(1, SLOTS + 1):
            neurons = [np.sort(self._random.choice(width, count, replace=False)) for _ in range(LAYERS)]
            factors = self._random.normal(size=LAYERS * count) * (self._random.random(LAYERS * count) < 0.8)
            entries = SlotEntries(
                offsets=np.arange(LAYERS + 1, dtype=np.int64) * count,
                indices=np.concatenate(neurons).astype(np.int32),
                mult=factors.astype(np.float32),
                add=self._random.normal(size=LAYERS * count).astype(np.float32),
                statistic=statistic,
                coef=None if statistic is None else self._random.normal(size=LAYERS * count).astype(np.float32),
            )
            table.write(slot, entries)
        return table

    def _constants(self, name: ActivationName) -> torch.Tensor | None:
        return torch.tensor(XIELU, device=self._device) if name == "xielu" else None

    @staticmethod
    def _compare(result: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, *, atol: float = 2e-5) -> None:
        torch.testing.assert_close(result.double(), expected, rtol=ROUNDING[dtype], atol=atol, equal_nan=True)


def _statistics(active: torch.Tensor, statistic: Statistic) -> torch.Tensor:
    """Return the statistic of each token's activations, float64 [T]."""

    def percentile(percent: float) -> torch.Tensor:
        return torch.stack([row.quantile(percent / 100.0) for row in active])  # torch limits the size of its input

    median = active.median(dim=1).values
    match statistic.name:
        case "mean":
            return active.mean(dim=1)
        case "std":
            return active.std(dim=1)
        case "max":
            return active.amax(dim=1)
        case "median":
            return median
        case "iqr":
            return percentile(75.0) - percentile(25.0)
        case "mad":
            return (active - median[:, None]).abs().median(dim=1).values
        case "percentile":
            return percentile(statistic.percent)


def _steered(
    x: torch.Tensor,
    slots: torch.Tensor,
    strengths: torch.Tensor,
    table: DeviceTable,
    name: ActivationName,
    *,
    gated: bool,
    statistic: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the steered activations, multiplied by up if there is a gate, float64 [T, F]."""
    buffers, width = table.buffers, x.shape[1] // (2 if gated else 1)
    active = activation_in_float64(x[:, :width], name)
    changed = active.clone()
    first_block, last_block = _LAYER * buffers.blocks, (_LAYER + 1) * buffers.blocks
    for slot in range(1, SLOTS + 1):
        first, last = buffers.offsets[slot, [first_block, last_block]].tolist()
        tokens = (slots == slot).nonzero()[:, 0]
        neurons = buffers.neurons[first:last].long()
        shift = buffers.add[first:last].double().expand(len(tokens), -1)
        if statistic is not None:
            assert buffers.statistics is not None
            shift = shift + buffers.statistics.coef[first:last].double() * statistic[tokens][:, None]
        before = active[tokens][:, neurons]
        changed[tokens[:, None], neurons] = buffers.mult[first:last].double() * before + shift
    changed = active + strengths[:, None].double() * (changed - active)
    return changed * x[:, width:].double() if gated else changed
