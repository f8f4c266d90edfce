"""Checks results on a GPU, then measures: one command, one JSON file, which is written again after each stage.

- `kernels`: the steering kernel agrees with float64.
- `answers`: vLLM on a tiny model, compiled and with CUDA graphs, gives the results of the transformers engine for the
  mixed load of `benchmarks.mixed_load`, with each model runner, with and without asynchronous scheduling.
- `kernel times`: the steering kernel beside an unsteered one and a copy (`benchmarks.kernel`).
- `operator times`: a layer's operators, idle, steered and recording (`benchmarks.operator_cost`).
- `rates`: tokens a second of stock vLLM, of the idle engine, and with 0 to 256 distinct interventions in a batch, on
  the model in `--model`, or on one of random weights in the shape of Qwen2.5 1.5B (`benchmarks.gpu_rates`).

A stage that fails is reported with its error, and the next one runs. The exit status is 1 if one failed, and 2 if there
is no CUDA device. `--rehearse` runs all stages but the times of kernels with tiny loads on a CPU, where Triton
interprets the kernels.

Usage: python -m benchmarks.gpu_check --out FILE.json [--model FOLDER] [--stages STAGE ...] [--rounds 3] [--rehearse]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import kernel
from benchmarks.gpu_rates import CARD_SHARE, Load, rates
from benchmarks.mixed_load import SETTINGS, assert_same, run_load
from benchmarks.random_model import QWEN2_5_1_5B, SMALL, random_model
from benchmarks.tiny_models import tiny_model
from benchmarks.workload import SEED
from engine.hf.engine import TransformersEngine
from engine.vllm.engine import VllmEngine
from engine.vllm.launch import VllmSettings

STAGES = ("kernels", "answers", "kernel times", "operator times", "rates")
_ANSWERS = replace(SETTINGS, compile=True, backend=None, kv_cache_bytes=64 * 1024**2)
_RATES = VllmSettings(max_model_len=512, kv_cache_bytes=2 * 1024**3, async_scheduling=True)
_STOCK = {
    "stock": {"gpu_memory_utilization": CARD_SHARE},
    "stock, synchronous scheduling": {"gpu_memory_utilization": CARD_SHARE, "async_scheduling": False},
}


class GpuCheck:
    """The stages; each method returns what the report says of one."""

    def __init__(self, folder: Path, *, model: Path | None, rounds: int, rehearse: bool) -> None:
        """Write models to `folder`; take `rounds` rounds of each rate; with `rehearse` run on a CPU."""
        self._folder, self._model, self._rounds, self._rehearse = folder, model, rounds, rehearse

    def stages(self) -> dict[str, Callable[[], Any]]:
        """Return the stages by name, in order; a rehearsal has no times of kernels."""
        stages: dict[str, Callable[[], Any]] = {
            "kernels": self.kernels,
            "answers": lambda: asyncio.run(self.answers()),
            "kernel times": self.kernel_times,
            "operator times": self.operator_times,
            "rates": lambda: asyncio.run(self.rates()),
        }
        if self._rehearse:
            del stages["kernel times"], stages["operator times"]
        return stages

    def kernels(self) -> dict[str, int]:
        """Compare the steering kernel with float64."""
        return {"cases that agree with float64": kernel.check(torch.device("cpu" if self._rehearse else "cuda"))}

    async def answers(self) -> dict[str, str]:
        """Compare vLLM with the transformers engine on the mixed load; return the outcome of each variant."""
        folder = tiny_model("qwen2", self._folder / "tiny")
        reference = TransformersEngine(folder)
        expected = await run_load(reference)
        await reference.close()
        outcomes = {}
        for name, settings in self._variants().items():
            engine = await VllmEngine.open(folder, settings=settings)
            results = await run_load(engine)
            await engine.close()
            gc.collect()
            torch.cuda.empty_cache()  # vLLM starts only if most of the card is free
            try:
                assert_same(results, expected)
                outcomes[name] = "as the transformers engine"
            except AssertionError as difference:
                outcomes[name] = f"differs: {str(difference).strip()[:500]}"
        if any(outcome.startswith("differs") for outcome in outcomes.values()):
            raise AssertionError(json.dumps(outcomes))
        return outcomes

    def _variants(self) -> dict[str, VllmSettings]:
        if self._rehearse:
            return {"runner v1": replace(_ANSWERS, runner="v1", backend="cuda", compile=False)}
        variants = {}
        for runner in ("v1", "v2"):
            settings = replace(_ANSWERS, runner=runner, async_scheduling=False)
            variants[f"runner {runner}, eager"] = replace(settings, compile=False)
            variants[f"runner {runner}"] = settings
            variants[f"runner {runner}, asynchronous scheduling"] = replace(settings, async_scheduling=True)
        return variants

    def kernel_times(self) -> dict[str, Any]:
        """Time the steering kernel."""
        return kernel.report("bfloat16", 1024)

    def operator_times(self) -> list[dict[str, Any]]:
        """Time a layer's operators."""
        from benchmarks import operator_cost

        return operator_cost.report()

    async def rates(self) -> dict[str, Any]:
        """Measure tokens a second."""
        model = self._model or self._folder / "random"
        if self._model is None:
            random_model(model, seed=SEED, shape={**SMALL, "num_hidden_layers": 2} if self._rehearse else QWEN2_5_1_5B)
        if self._rehearse:
            load = Load(requests=4, prompt=4, new_tokens=2, distinct=(0, 2), rounds=self._rounds)
            settings = VllmSettings(max_model_len=64, kv_cache_bytes=64 * 1024**2, compile=False)
            return await rates(model, load=load, settings=settings, dtype="float32", stock={"stock": {}})
        load = Load(rounds=self._rounds)
        return await rates(model, load=load, settings=_RATES, dtype="bfloat16", stock=_STOCK)


def run(check: GpuCheck, names: list[str], out: Path, *, device: str) -> int:
    """Run the stages, write the report after each, and return how many failed."""
    report: dict[str, Any] = {"device": device, "seed": SEED, "stages": {}}
    failed = 0
    for name, stage in check.stages().items():
        if name not in names:
            continue
        started = time.perf_counter()
        try:
            outcome = {"result": stage()}
        except Exception as error:  # noqa: BLE001  # the next stages run in any case
            traceback.print_exc()
            outcome = {"error": f"{type(error).__name__}: {error}"}
            failed += 1
        report["stages"][name] = {**outcome, "seconds": round(time.perf_counter() - started, 1)}
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(name, json.dumps(report["stages"][name])[:2000], flush=True)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run the stages, write the report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args(arguments)
    if options.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        print("the GPU check needs a CUDA device; none is available. --rehearse runs on a CPU", file=sys.stderr)
        return 2
    device = "rehearsal on a CPU" if options.rehearse else torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as folder:
        check = GpuCheck(Path(folder), model=options.model, rounds=options.rounds, rehearse=options.rehearse)
        return 1 if run(check, options.stages, options.out, device=device) else 0


if __name__ == "__main__":
    sys.exit(main())
