"""Times one layer of experts with vLLM's fused kernel beside the form that Ampsweep steers, without an intervention.

The two run in alternation on the same weights, so that other load on the machine affects both alike. On a GPU each is
timed in a CUDA graph.

Usage: python -m benchmarks.kernels.expert_cost [--rounds 9] [--threads 1] [--tokens 1 16 256]
           [--dtypes float32 bfloat16]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.kernels import timing
from benchmarks.timed_runs.rounds import Ratio, ratio, time_rounds
from engine.kernels.activation import MlpForm
from engine.vllm.worker.outputs.recording import Recording
from engine.vllm.worker.table import Shard

_LEAST_SECONDS = 0.2
"""Seconds that a timed call should take at least; short calls are repeated."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A layer of experts; by default that of Qwen3 30B-A3B."""

    experts: int = 128
    each: int = 8
    hidden_size: int = 2048
    width: int = 768


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """The inputs of the layer: its weights, hidden states, and what the router chose."""

    x: torch.Tensor
    w13: torch.Tensor
    w2: torch.Tensor
    shares: torch.Tensor
    chosen: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds of the fastest round of each form, the ratio of the times, and how far the outputs differ.

    Attributes:
        fused: Milliseconds of vLLM's kernel.
        unfused: Milliseconds of the form that is steered.
        ratio: Time of the second over that of the first.
        difference: Largest difference of the outputs, as a share of the largest output.
    """

    fused: float
    unfused: float
    ratio: Ratio
    difference: float

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures as they are printed."""
        spread = f"{self.ratio.median:.2f}, {self.ratio.least:.2f} to {self.ratio.largest:.2f}"
        return (
            f"{self.fused:.3g} ms",
            f"{self.unfused:.3g} ms",
            f"{self.ratio.fastest:.2f} ({spread})",
            f"{self.difference:.0e} of the largest",
        )


Run = Callable[[], torch.Tensor]


def drawn(shape: Shape, tokens: int, *, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Draw a layer, and experts for each token, all of them equally likely."""
    torch.manual_seed(0)
    options: Any = {"dtype": dtype, "device": device}
    scores = torch.rand(tokens, shape.experts, device=device)
    shares, chosen = scores.topk(shape.each, dim=1)
    return Inputs(
        x=torch.randn(tokens, shape.hidden_size, **options),
        w13=torch.randn(shape.experts, 2 * shape.width, shape.hidden_size, **options) * shape.hidden_size**-0.5,
        w2=torch.randn(shape.experts, shape.hidden_size, shape.width, **options) * shape.width**-0.5,
        shares=shares.softmax(dim=1),
        chosen=chosen.int(),
    )


def fused(inputs: Inputs) -> Run:
    """Return vLLM's computation of the layer."""
    if inputs.x.is_cuda:
        experts: Any = importlib.import_module("vllm.model_executor.layers.fused_moe").fused_experts
        return partial(experts, inputs.x, inputs.w13, inputs.w2, inputs.shares, inputs.chosen)
    operators: Any = importlib.import_module("vllm._custom_ops")
    torch.cpu._init_amx()  # noqa: SLF001  # asks the system for the permission that the kernel for AMX needs
    isa = "amx" if torch.cpu._is_amx_tile_supported() and inputs.x.dtype == torch.bfloat16 else "vec"  # noqa: SLF001
    w13, w2 = (operators.cpu_prepack_moe_weight(weights, isa) for weights in (inputs.w13, inputs.w2))

    def run() -> torch.Tensor:
        out = torch.empty_like(inputs.x)
        operators.cpu_fused_moe(out, inputs.x, w13, w2, None, None, inputs.shares, inputs.chosen, "silu", isa)
        return out

    return run


def unfused(inputs: Inputs) -> Run:
    """Return the computation of the layer that the steering backend of the device makes."""
    experts, hidden_size, width = inputs.w2.shape
    each, device = inputs.chosen.shape[1], inputs.x.device
    shard = Shard(layers=(0,), neurons=(range(experts * width),), experts=(experts,))
    new_recording = partial(Recording, shard, rows=2, hidden_size=hidden_size, device=device)
    form = MlpForm(activation="silu", gated=True)
    backend: Any
    if inputs.x.is_cuda:
        from engine.vllm.backends.base import NOTHING
        from engine.vllm.backends.cuda import CudaBackend

        backend = CudaBackend(
            [form],
            width=experts * width,
            hidden_size=hidden_size,
            slots=256,
            entries=experts * width,
            tokens=len(inputs.x),
            recording=new_recording(),
            statistics=True,
            device=device,
            experts=(experts,),
            reached=each * width,
        )
        compute = partial(_with_weights, backend.experts(0), inputs)
        # A graph launches every kernel, also those that an idle step leaves out, and none is compiled at its capture.
        backend.warm_up_experts(compute, experts=experts, each=each, dtype=inputs.x.dtype)
        backend.begin_step(NOTHING)
    else:
        from engine.vllm.backends.cpu import CpuBackend

        backend = CpuBackend(
            [form],
            width=each * width,
            experts=(experts,),
            slots=256,
            new_recording=new_recording,
            gather=lambda part: part,
        )
    return partial(backend.experts(0), inputs.x, inputs.w13, inputs.w2, inputs.shares, inputs.chosen)


def _with_weights(
    module: Any, inputs: Inputs, x: torch.Tensor, shares: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Compute the layer with the weights of `inputs` and other tokens."""
    output: torch.Tensor = module(x, inputs.w13, inputs.w2, shares, chosen)
    return output


async def cost(inputs: Inputs, *, rounds: int) -> Cost:
    """Time both forms in alternation."""
    forms = {"fused": fused(inputs), "unfused": unfused(inputs)}
    outputs = {name: run().float() for name, run in forms.items()}
    largest = (outputs["fused"] - outputs["unfused"]).abs().max() / outputs["fused"].abs().max()
    variants = {name: partial(_seconds, run, _calls(run)) for name, run in forms.items()}
    seconds = await time_rounds(lambda: None, variants, rounds=rounds)
    return Cost(
        fused=min(seconds["fused"]) * 1e3,
        unfused=min(seconds["unfused"]) * 1e3,
        ratio=ratio(seconds["fused"], seconds["unfused"]),
        difference=float(largest),
    )


async def _seconds(run: Run, calls: int, _work: None) -> float:
    """Return the seconds of a call."""
    if torch.cuda.is_available():
        return timing.microseconds(lambda _index: _discard(run()), calls) / 1e6
    started_at = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started_at) / calls


def _discard(_output: torch.Tensor) -> None:
    """Take the result of a call that is only timed."""


def _calls(run: Run) -> int:
    """Return how many calls take long enough to be timed."""
    if torch.cuda.is_available():
        return timing.LEAST_LAUNCHES
    started_at = time.perf_counter()
    run()
    return max(1, round(_LEAST_SECONDS / (time.perf_counter() - started_at)))


def table(shape: Shape, tokens: Sequence[int], dtypes: Sequence[str], *, rounds: int, device: torch.device) -> str:
    """Measure every number of tokens in every dtype, and return the costs as a table in Markdown."""
    ratios = "ratio of times (median of the rounds, least to largest)"
    heads = ("dtype", "tokens", "fused", "unfused", ratios, "outputs differ by")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for dtype in dtypes:
        for count in tokens:
            inputs = drawn(shape, count, dtype=getattr(torch, dtype), device=device)
            measured = asyncio.run(cost(inputs, rounds=rounds))
            cells = (dtype, str(count), *measured.figures)
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 16, 256])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU")
    for name, default in vars(Shape()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    shape = Shape(**{name: getattr(options, name) for name in vars(Shape())})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(table(shape, options.tokens, options.dtypes, rounds=options.rounds, device=device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
