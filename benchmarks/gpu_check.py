"""Checks kernels and results on a GPU, and measures throughput with CUDA graphs.

The steering kernels are compared with float64. vLLM runs the mixed load of `benchmarks.mixed_load` on a tiny model,
with its default model runner or the one of `--runner`; the results must be those of the transformers engine on the
CPU. Throughput is measured in bfloat16 with 0, 1, 16 and 256 distinct interventions in a batch, on the model in
`--model` or on one with random weights. The exit status is 2 if there is no CUDA device.

Usage: python -m benchmarks.gpu_check --out FILE.json [--model FOLDER] [--runner v1|v2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import kernel
from benchmarks.mixed_load import SETTINGS, assert_same, run_load
from benchmarks.random_model import random_model
from benchmarks.rounds import ratio, time_rounds
from benchmarks.tiny_models import tiny_model
from benchmarks.vllm_runs import VllmRuns
from benchmarks.workload import SEED, GeneratedItem, ScoredItem, Texts, in_turn, neuron_set
from engine.hf.engine import TransformersEngine
from engine.vllm.engine import VllmEngine
from engine.vllm.launch import RunnerName, VllmSettings

DISTINCT = (0, 1, 16, 256)
REQUESTS = 512


async def check_answers(folder: Path, runner: RunnerName | None) -> None:
    """Compare vLLM, compiled and with CUDA graphs, with the transformers engine on the mixed load.

    Args:
        folder: The folder of a tiny model.
        runner: vLLM's model runner, None for the default one.

    Raises:
        AssertionError: A result differs.
    """
    settings = replace(SETTINGS, runner=runner, compile=True, backend=None, kv_cache_bytes=64 * 1024**2)
    reference = TransformersEngine(folder)
    expected = await run_load(reference)
    await reference.close()
    engine = await VllmEngine.open(folder, settings=settings)
    results = await run_load(engine)
    await engine.close()
    assert_same(results, expected)


async def throughput(folder: Path, runner: RunnerName | None, rounds: int) -> dict[str, Any]:
    """Measure generation and scoring on the model in `folder`; return seconds and ratios by variant."""
    settings = VllmSettings(slots=max(DISTINCT), max_model_len=512, max_num_seqs=256, runner=runner)
    engine = await VllmEngine.open(folder, dtype="bfloat16", settings=settings)
    engine.add_neurons(neuron_set(engine.info, max(DISTINCT)))
    runs, texts = VllmRuns(engine), Texts()

    def pairs() -> list[tuple[str, str]]:
        return list(zip(texts.texts(REQUESTS, 32), texts.texts(REQUESTS, 24), strict=True))

    async def generate(work: list[tuple[str, str]], distinct: int) -> None:
        await runs.generate(generated(work, distinct))

    async def score(work: list[tuple[str, str]], distinct: int) -> None:
        await runs.score(scored(work, distinct))

    report: dict[str, Any] = {"versions": dict(engine.info.versions), "requests": REQUESTS}
    for name, run in (("generate", generate), ("score", score)):
        variants = {f"{distinct} interventions": partial(run, distinct=distinct) for distinct in DISTINCT}
        seconds = await time_rounds(pairs, variants, rounds=rounds)
        unsteered = seconds["0 interventions"]
        report[name] = {
            variant: {"seconds": variant_seconds, "ratio": asdict(ratio(variant_seconds, unsteered))}
            for variant, variant_seconds in seconds.items()
        }
    await engine.close()
    return report


def generated(work: Sequence[tuple[str, str]], distinct: int) -> list[GeneratedItem]:
    """Return requests to continue the first text of each pair, with `distinct` interventions."""
    return [
        GeneratedItem(prompt=prompt, new_tokens=32, intervention=number)
        for (prompt, _), number in zip(work, in_turn(distinct, len(work)), strict=True)
    ]


def scored(work: Sequence[tuple[str, str]], distinct: int) -> list[ScoredItem]:
    """Return requests to score the second text of each pair after the first, with `distinct` interventions."""
    return [
        ScoredItem(context=context, option=option, intervention=number)
        for (context, option), number in zip(work, in_turn(distinct, len(work)), strict=True)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the checks, print and write the report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runner", choices=["v1", "v2"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("the GPU check needs a CUDA device; none is available", file=sys.stderr)
        return 2
    report: dict[str, Any] = {"device": torch.cuda.get_device_name(), "seed": SEED}
    report["kernel cases that agree with float64"] = kernel.check(torch.device("cuda"))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check_answers(tiny_model("qwen2", Path(folder) / "tiny"), options.runner))
        report["results are those of the transformers engine"] = True
        if options.model is None:
            random_model(Path(folder) / "random", seed=SEED)
        model = options.model or Path(folder) / "random"
        report["throughput"] = asyncio.run(throughput(model, options.runner, options.rounds))
    text = json.dumps(report, indent=2)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
