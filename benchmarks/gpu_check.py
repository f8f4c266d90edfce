"""Checks results on a GPU, then measures: one command, one JSON file, which is written again after each stage.

- `kernels`: all kernels agree with float64 on random inputs (`benchmarks.kernels.checks`); steps replayed from a CUDA
  graph, and copies between host and device, are as expected (`benchmarks.kernels.backend_check`).
- `sanitizer`: the kernels on small shapes under compute-sanitizer, where it is installed.
- `answers`: vLLM on a tiny model, compiled and with CUDA graphs, gives the results of the transformers engine for the
  mixed load of `benchmarks.comparisons.mixed_load`, with each model runner, with and without asynchronous scheduling,
  and with a cache so small that requests preempt each other. Overflows in float16 must change no later answer.
- `expert answers`: the same on a tiny mixture of experts (`--unfused-experts`).
- `kernel times`: the steering kernel beside an unsteered one and a copy (`benchmarks.kernels.steering_cost`).
- `operator times`: a layer's operators, idle, steered and recording (`benchmarks.kernels.operator_cost`).
- `expert times`: a layer of experts beside vLLM's fused kernel (`benchmarks.kernels.expert_cost`).
- `rates`: tokens a second of stock vLLM, of the idle engine, and with 0 to 256 distinct interventions in a batch, then
  scoring and recording, on the model in `--model`, or on one of random weights in the shape of Qwen2.5 1.5B
  (`benchmarks.gpu.rates`).

Each stage runs in a process of its own, for at most `--limit` seconds. If a part kills the process, or leaves CUDA
unusable in it, the parts that were not begun run in a new one. A stage that fails, hangs or is killed is reported with
what it found before, and the next one runs; one that hangs prints first where each of its threads is. `--budget`
ends the whole command in time: a stage gets what is left of it, and none begins when little is left.

The report is written again whenever a part has ended, so that killing the command loses only the part that runs. If the
file already has stages of the same card, they are kept unless they are run again. With `--resume` their parts are kept
too, and only those without a result are run; `--only` runs parts by their names. So the stages, and their parts, may be
divided among several calls. `answers`, `expert answers`, `expert times` and `rates` need vLLM.

At the end the tables of `benchmarks.gpu_report` are printed. The exit status is 1 if a stage failed, and 2 if there is
no CUDA device. `--rehearse` runs all stages with tiny loads on a CPU, where Triton interprets the kernels, without a
limit.

Usage: python -m benchmarks.gpu_check --out FILE.json [--model FOLDER] [--stages STAGE ...] [--rounds 3] [--limit 540]
           [--budget SECONDS] [--resume] [--only TEXT ...] [--docs PAGE.md] [--rehearse]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ampsweep.files import atomic_write
from benchmarks.gpu.parts import UNFINISHED, begun_path, read_begun
from benchmarks.gpu.stages import DEVICE_LOST, STAGES, TRACEBACK_SIGNAL
from benchmarks.gpu_report import REHEARSAL, tables, write_page

_LIMIT = 540.0
_LEAST_SECONDS = 30.0
"""What is left of the budget, in seconds, when no further stage begins."""
_POLL_SECONDS = 1.0
_TRACEBACK_SECONDS = 2.0
"""How long a stage that hangs has to print where its threads are."""
_ENVIRONMENT = {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"}
_WITHOUT_FLASHINFER = {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
"""Of a stage's environment on a machine without FlashInfer, which vLLM 0.25 imports on Hopper cards to sample."""
Command = Callable[[str, Path], Sequence[str]]
"""Takes a stage and the file of its parts, and returns the command that runs it."""


def run(
    names: Sequence[str],
    out: Path,
    *,
    device: str,
    command: Command,
    limit: float | None,
    budget: float | None = None,
    keep_parts: bool = False,
) -> int:
    """Run stages, write the report after each part, and return how many failed.

    Args:
        names: The stages.
        out: The report, to which the stages are added.
        device: The card's name, for the report.
        command: Gives the command of a stage.
        limit: Seconds after which a stage is killed, None for no limit.
        budget: Seconds after which the last stage is killed, None for no limit. Stages that do not begin in time are
            left out.
        keep_parts: Whether the report's parts of a stage are kept, and are in the file that the command gets.
    """
    report = _report_of(out, device)
    ends = None if budget is None else time.monotonic() + budget
    failed = 0
    _write(report, out)
    for name in names:
        left = None if ends is None else ends - time.monotonic()
        if left is not None and left < _LEAST_SECONDS:
            print(f"== {name}: not run, as the budget is used up", flush=True)
            continue
        print(f"== {name}", flush=True)
        earlier = report["stages"].get(name, {}).get("parts", {}) if keep_parts else {}
        limits = [each for each in (limit, left) if each is not None]
        outcome: dict[str, Any] = {}
        for outcome in stage_outcomes(partial(command, name), limit=min(limits, default=None), earlier=earlier):
            report["stages"][name] = outcome
            _write(report, out)
        failed += "error" in outcome
        print(f"== {name}: {outcome.get('error', 'passed')}, {outcome['seconds']} s", flush=True)
    return failed


def stage_outcomes(
    command: Callable[[Path], Sequence[str]], *, limit: float | None, earlier: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Run a stage in a process of its own, and yield its outcome whenever a part has ended; the last one is final.

    An outcome has its parts, `earlier` ones included, its seconds, and its error if it failed or still runs. If a part
    ends the process, those that were not begun run in a new one.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parts.json"
        path.write_text(json.dumps(earlier), encoding="utf-8")
        begun_path(path).write_text("[]", encoding="utf-8")

        def outcome(error: str | None) -> dict[str, Any]:
            parts = json.loads(path.read_text(encoding="utf-8"))
            found = {"parts": parts, "seconds": round(time.perf_counter() - started, 1)}
            failed = [name for name, part in parts.items() if "error" in part]
            if failed and error is not None:
                error = f"{error}; failed: {', '.join(failed)}"
            return found if error is None else {**found, "error": error}

        error: str | None = None
        ended = False
        while not ended:
            begun = read_begun(path)
            # In the session of this command, so that what ends all of the session ends the stage too.
            process = subprocess.Popen(command(path), process_group=0, env=_environment())
            try:
                yield outcome(UNFINISHED)
                changed = path.stat().st_mtime_ns
                while (status := _wait(process, _POLL_SECONDS)) is None:
                    if limit is not None and time.perf_counter() - started > limit:
                        break
                    if changed != (changed := path.stat().st_mtime_ns):
                        yield outcome(UNFINISHED)
                if status is None:
                    process.send_signal(TRACEBACK_SIGNAL)
                    _wait(process, _TRACEBACK_SECONDS)
            finally:
                _kill_group(process)  # vLLM's processes too
            if status is None:
                error = f"killed after {limit:g} s; use a larger --limit, or divide the stages among several calls"
            elif status != 0:
                error = error or _exit_error(status)
            ended = status is None or not (status < 0 or status == DEVICE_LOST) or read_begun(path) == begun
        yield outcome(error)


def _environment() -> dict[str, str]:
    missing = {} if find_spec("flashinfer") else _WITHOUT_FLASHINFER
    return {**missing, **os.environ, **_ENVIRONMENT}


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Return the exit status of a process that ends within the time, otherwise None."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def _exit_error(status: int) -> str:
    if status == DEVICE_LOST:
        return "lost the device"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the processes that a stage has started, and the stage itself if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write(report: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _report_of(out: Path, device: str) -> dict[str, Any]:
    """Return the report in the file if it is of the same card, otherwise an empty one."""
    if out.exists():
        report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if report.get("device") == device:
            return report
    return {"device": device, "stages": {}}


def _device_name() -> str:
    """Return the name of the card, asked for in another process, because this one must not take memory of it."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.get_device_name())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """Run the stages, write the report, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, help=f"seconds of a stage, {_LIMIT:g} by default; a rehearsal has none")
    parser.add_argument("--budget", type=float, help="seconds of the whole command; without it there is no limit")
    parser.add_argument("--resume", action="store_true", help="keep the parts that the file has a result of")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="run parts whose name has such a text")
    parser.add_argument("--docs", type=Path, help="a page in which to replace the tables between the markers")
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("the GPU check needs a CUDA device; none is available. --rehearse runs on a CPU", file=sys.stderr)
        return 2
    more = ["--rounds", str(options.rounds)]
    more += ["--rehearse"] if options.rehearse else []
    more += ["--model", str(options.model)] if options.model else []
    more += ["--resume"] if options.resume else []
    more += ["--only", *options.only] if options.only else []

    def command(stage: str, parts: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.gpu.stages", stage, "--parts", str(parts), *more]

    device = REHEARSAL if options.rehearse else _device_name()
    limit = _LIMIT if options.limit is None and not options.rehearse else options.limit
    failed = run(
        options.stages,
        options.out,
        device=device,
        command=command,
        limit=limit,
        budget=options.budget,
        keep_parts=options.resume or bool(options.only),
    )
    report = json.loads(options.out.read_text(encoding="utf-8"))
    print(tables(report))
    if options.docs is not None:
        write_page(options.docs, report)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
