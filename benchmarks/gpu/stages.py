"""The stages of the GPU check. `benchmarks.gpu_check` runs each in a process of its own.

Usage: python -m benchmarks.gpu.stages STAGE --parts FILE.json [--resume] [--only TEXT ...] [--model FOLDER]
           [--rounds 3] [--rehearse]
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.parts import Parts

if TYPE_CHECKING:
    from benchmarks.models.families import Family
    from engine.vllm.settings import VllmSettings

STAGES = (
    "kernels",
    "sanitizer",
    "answers",
    "expert answers",
    "kernel times",
    "operator times",
    "expert times",
    "rates",
)
DEVICE_LOST = 75
"""The exit status of a stage after an error that leaves CUDA unusable in its process, such as an invalid access."""
TRACEBACK_SIGNAL = signal.SIGUSR1
"""Makes a stage print where each of its threads is."""
SANITIZER = "compute-sanitizer"
MIXTURE: Family = "qwen2_moe"
"""The tiny mixture of experts whose answers are compared, which has an MLP beside its experts."""
SMALL_SHAPE = {"width": 40, "tokens": 3}
"""The shape whose times a rehearsal takes."""
REHEARSED_TOKENS = 3
"""Tokens of an answer in a rehearsal: the interpreter is slow."""
_ROOT = Path(__file__).parents[2]
_FAILURE = 3
"""The exit status that the sanitizer gives to a program with errors."""
_KERNEL_CHECK = (sys.executable, "-m", "benchmarks.kernel", "--check")


class GpuStages:
    """The stages; each method runs the parts of one.

    Args:
        parts: Where the results go.
        folder: A folder for models.
        model: The model whose rates are measured; None for one of random weights.
        rounds: Timed rounds of each rate.
        rehearse: Run tiny loads on a CPU.
    """

    def __init__(self, parts: Parts, folder: Path, *, model: Path | None, rounds: int, rehearse: bool) -> None:
        self._parts, self._folder, self._model = parts, folder, model
        self._rounds, self._rehearse = rounds, rehearse

    def stages(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return the stages by name."""
        times = (self.kernel_times, self.operator_times, self.expert_times)
        methods = (self.kernels, self.sanitizer, self.answers, self.expert_answers, *times, self.rates)
        return dict(zip(STAGES, methods, strict=True))

    async def kernels(self) -> None:
        """Compare all kernels with float64, on inputs that are different in each run.

        Each check has a process of its own. On a GPU they run at once, as most of their time they compile kernels.
        """
        from benchmarks.kernels.checks import CHECKS

        seed = int.from_bytes(os.urandom(4))
        self._parts.add("seed", seed)
        at_once = asyncio.Semaphore(1 if self._rehearse else len(CHECKS))

        async def check(name: str) -> str:
            async with at_once:
                return await _output(*_KERNEL_CHECK, "--only", name, "--seed", str(seed))

        running = {name: asyncio.create_task(check(name)) for name in CHECKS if self._parts.wants(name)}
        for name, task in running.items():
            await self._parts.run(name, partial(asyncio.wait_for, task, None))

    async def sanitizer(self) -> None:
        """Run the comparison of the kernels on small shapes under the memory checker of CUDA.

        The checks of the backend are left out: without PyTorch's allocator no graph can be captured, and the host waits
        for the device whenever memory is freed.
        """
        await self._parts.run("memcheck", self._memcheck)

    async def _memcheck(self) -> str:
        from benchmarks.kernels.checks import KERNELS

        if self._rehearse:
            return f"not run: {SANITIZER} needs a GPU"
        sanitizer = shutil.which(SANITIZER) or shutil.which(SANITIZER, path="/usr/local/cuda/bin")
        if sanitizer is None:
            return f"not run: {SANITIZER} is not installed"
        options = ["--tool", "memcheck", "--error-exitcode", str(_FAILURE)]
        # Without its own allocator, PyTorch allocates each tensor separately, so that what lies outside one is found.
        environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        check = (*_KERNEL_CHECK, "--small", "--only", *KERNELS)
        await _output(sanitizer, *options, *check, environment=environment)
        return "no errors"

    async def answers(self) -> None:
        """Compare vLLM with the transformers engine on the mixed load, once for each variant.

        Then check that overflows in float16 change no later answer.
        """
        from benchmarks.comparisons.mixed_load import SETTINGS
        from benchmarks.comparisons.overflow_load import assert_no_trace
        from benchmarks.models.families import tiny_model
        from engine.vllm.engine import VllmEngine

        async def overflow(settings: VllmSettings) -> str:
            folder = tiny_model("qwen2", self._folder / "qwen2")
            engine = await VllmEngine.open(folder, dtype="float16", settings=settings)
            try:
                await assert_no_trace(engine, requests=8 if self._rehearse else 40)
            finally:
                await engine.close()
            return "no trace"

        await self._compare_answers("qwen2", self._variants())
        for name, settings in self._variants().items():
            if "cache" in name or self._rehearse:
                small = replace(settings, kv_cache_bytes=SETTINGS.kv_cache_bytes)
                await self._parts.run(f"overflow, {name}", partial(overflow, small))
                self._free_memory()

    async def expert_answers(self) -> None:
        """Compare vLLM with the transformers engine on a mixture of experts."""
        await self._compare_answers(MIXTURE, self._mixture_variants())

    async def _compare_answers(self, family: Family, variants: dict[str, VllmSettings]) -> None:
        """Run the mixed load on a tiny model, once for each variant."""
        from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
        from benchmarks.comparisons.mixed_load import NEW_TOKENS, assert_same, run_load
        from benchmarks.models.families import tiny_model
        from engine.hf.engine import TransformersEngine
        from engine.vllm.engine import VllmEngine

        if not self._parts.wants_any(variants):
            return
        new_tokens = REHEARSED_TOKENS if self._rehearse else NEW_TOKENS
        folder = tiny_model(family, self._folder / family)
        reference = TransformersEngine(folder, open_identifier=ChecksumIdentifier)
        expected = await run_load(reference, new_tokens=new_tokens)
        await reference.close()

        async def compare(settings: VllmSettings) -> str:
            engine = await VllmEngine.open(folder, settings=settings, open_identifier=ChecksumIdentifier)
            try:
                assert_same(await run_load(engine, new_tokens=new_tokens), expected)
            finally:
                await engine.close()
            return "as the transformers engine"

        for name, settings in variants.items():
            await self._parts.run(name, partial(compare, settings))
            self._free_memory()

    def _variants(self) -> dict[str, VllmSettings]:
        """Return the settings to compare, by name; with the small cache requests preempt each other."""
        from benchmarks.comparisons.mixed_load import SETTINGS

        if self._rehearse:
            return {"runner v1": replace(SETTINGS, runner="v1", backend="cuda", kv_cache_bytes=64 * 1024**2)}
        large = replace(SETTINGS, compile=True, backend=None, kv_cache_bytes=64 * 1024**2, async_scheduling=False)
        variants = {}
        for runner in ("v2", "v1"):  # what vLLM chooses comes first
            settings = replace(large, runner=runner)
            ahead = replace(settings, async_scheduling=True)
            variants[f"runner {runner}, eager"] = replace(settings, compile=False)
            variants[f"runner {runner}, asynchronous scheduling"] = ahead
            variants[f"runner {runner}, small cache"] = replace(ahead, kv_cache_bytes=SETTINGS.kv_cache_bytes)
            variants[f"runner {runner}"] = settings
        return variants

    def _mixture_variants(self) -> dict[str, VllmSettings]:
        """Return the settings to compare on a mixture of experts: eager and in CUDA graphs, with both runners."""
        kept = {name: settings for name, settings in self._variants().items() if "cache" not in name}
        return {f"experts, {name}": replace(settings, unfused_experts=True) for name, settings in kept.items()}

    async def kernel_times(self) -> None:
        """Time the steering kernel beside unsteered ones and a copy, at each width."""
        from benchmarks.kernels import steering_cost

        times = partial(steering_cost.times, device=self._device(), dtype="bfloat16", block=1024)
        if self._rehearse:
            width, tokens = SMALL_SHAPE["width"], (SMALL_SHAPE["tokens"],)
            await self._parts.run(f"width {width}", partial(times, width, tokens=tokens))
            return
        for width in steering_cost.WIDTHS:
            await self._parts.run(f"width {width}", partial(times, width))

    async def operator_times(self) -> None:
        """Time a layer's operators, at each width."""
        from benchmarks.kernels import operator_cost

        def at_width(width: int, hidden_size: int, tokens: tuple[int, ...], slots: int) -> list[dict[str, Any]]:
            times = partial(operator_cost.times, width, hidden_size, device=self._device(), slots=slots)
            return [{"tokens": count, "width": width, **times(count)} for count in tokens]

        shapes: list[tuple[int, int, tuple[int, ...], int]] = [
            (*shape, operator_cost.TOKENS, operator_cost.SLOTS) for shape in operator_cost.WIDTHS.items()
        ]
        if self._rehearse:
            shapes = [(SMALL_SHAPE["width"], 16, (SMALL_SHAPE["tokens"],), 3)]
        for shape in shapes:
            await self._parts.run(f"width {shape[0]}", partial(at_width, *shape))

    async def expert_times(self) -> None:
        """Time a layer of experts with vLLM's kernel and with that of the steering backend."""
        import torch

        from benchmarks.kernels import expert_cost

        small = expert_cost.Shape(experts=4, each=2, hidden_size=64, width=32)
        shape = small if self._rehearse else expert_cost.Shape()

        async def at(tokens: int) -> str:
            inputs = expert_cost.drawn(shape, tokens, dtype=torch.bfloat16, device=self._device())
            fused, unfused, ratio, difference = (await expert_cost.cost(inputs, rounds=self._rounds)).figures
            return f"fused {fused}, unfused {unfused}, ratio of times {ratio}, outputs differ by {difference}"

        for tokens in (3,) if self._rehearse else (1, 16, 64, 256, 2048):
            await self._parts.run(f"{tokens} tokens", partial(at, tokens))

    async def rates(self) -> None:
        """Measure tokens a second, on a model in the shape of Qwen2.5 1.5B if none is given."""
        from benchmarks.gpu.rates import CARD_SHARE, PARTS, Load, rates
        from benchmarks.models.qwen2 import QWEN2_5_1_5B, SMALL, random_model
        from benchmarks.timed_runs.workload import SEED
        from engine.vllm.settings import VllmSettings

        if not self._parts.wants_any(PARTS):
            return
        model = self._model or self._folder / "random"
        if self._model is None:
            random_model(model, seed=SEED, shape={**SMALL, "num_hidden_layers": 2} if self._rehearse else QWEN2_5_1_5B)
        if self._rehearse:
            load = Load(requests=4, prompt=4, new_tokens=2, distinct=(0, 2), rounds=self._rounds)
            settings = VllmSettings(max_model_len=64, kv_cache_bytes=64 * 1024**2, compile=False)
            await rates(
                model,
                self._parts,
                load=load,
                settings=settings,
                dtype="float32",
                stock={"stock": {"enforce_eager": True}},
            )
            return
        stock = {"gpu_memory_utilization": CARD_SHARE}
        await rates(
            model,
            self._parts,
            load=Load(rounds=self._rounds),
            settings=VllmSettings(max_model_len=512, kv_cache_bytes=2 * 1024**3, async_scheduling=True),
            dtype="bfloat16",
            stock={"stock": stock, "stock, synchronous scheduling": {**stock, "async_scheduling": False}},
        )

    def _device(self) -> Any:
        import torch

        return torch.device("cpu" if self._rehearse else "cuda")

    @staticmethod
    def _free_memory() -> None:
        """Give the memory of a closed engine back: vLLM starts only if most of the card is free."""
        import torch

        gc.collect()
        torch.cuda.empty_cache()


async def _output(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a program and return the last line that it prints; raise AssertionError if it fails."""
    program = await asyncio.create_subprocess_exec(
        *command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await program.communicate()
    text = output.decode(errors="replace")
    print(text, flush=True)
    if program.returncode:
        raise AssertionError(f"exit status {program.returncode}: {text[-900:]}")
    return text.strip().rpartition("\n")[2]


def end_if_device_is_lost() -> None:
    """End this process at once if CUDA cannot be used in it any more; a new process can run the other parts."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        print(f"this process has lost the device: {str(error).partition(chr(10))[0]}", flush=True)
        os._exit(DEVICE_LOST)  # threads and destructors would wait for the device


def main(arguments: list[str] | None = None) -> int:
    """Run a stage and return 1 if one of its parts failed, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="run only parts without a result")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="run parts whose name has such a text")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args(arguments)
    if options.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
    faulthandler.register(TRACEBACK_SIGNAL, all_threads=True)
    parts = Parts(options.parts, resume=options.resume, only=options.only, after_failure=end_if_device_is_lost)
    with tempfile.TemporaryDirectory() as folder:
        stages = GpuStages(parts, Path(folder), model=options.model, rounds=options.rounds, rehearse=options.rehearse)
        try:
            asyncio.run(stages.stages()[options.stage]())
        except Exception as error:  # noqa: BLE001  # the report names it
            parts.fail("before or between the others", error)
    return 1 if parts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
