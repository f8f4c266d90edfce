"""Checks results on a GPU, then measures: one command, one JSON file, which is written again after each stage.

- `kernels`: all kernels agree with float64 on random inputs (`benchmarks.kernel_check`).
- `sanitizer`: the same under compute-sanitizer, where it is installed.
- `answers`: vLLM on a tiny model, compiled and with CUDA graphs, gives the results of the transformers engine for the
  mixed load of `benchmarks.mixed_load`, with each model runner, with and without asynchronous scheduling, and with a
  cache so small that requests preempt each other; then on a tiny mixture of experts (`--unfused-experts`). Overflows in
  float16 must change no later answer.
- `kernel times`: the steering kernel beside an unsteered one and a copy (`benchmarks.kernel`).
- `operator times`: a layer's operators, idle, steered and recording (`benchmarks.operator_cost`).
- `expert times`: a layer of experts beside vLLM's fused kernel (`benchmarks.expert_cost`).
- `rates`: tokens a second of stock vLLM, of the idle engine, and with 0 to 256 distinct interventions in a batch, then
  scoring and recording, on the model in `--model`, or on one of random weights in the shape of Qwen2.5 1.5B
  (`benchmarks.gpu_rates`).

Each stage runs in a process of its own, for at most `--limit` seconds. One that fails, hangs or is killed is reported
with what it found before, and the next one runs. If the file already has stages of the same card, they are kept unless
they are run again. So the stages may be divided among several calls. `answers`, `expert times` and `rates` need vLLM.

At the end the tables of `benchmarks.gpu_report` are printed. The exit status is 1 if a stage failed, and 2 if there is
no CUDA device. `--rehearse` runs all stages with tiny loads on a CPU, where Triton interprets the kernels, without a
limit.

Usage: python -m benchmarks.gpu_check --out FILE.json [--model FOLDER] [--stages STAGE ...] [--rounds 3] [--limit 540]
           [--docs PAGE.md] [--rehearse]
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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ampsweep.files import atomic_write
from benchmarks.gpu_report import REHEARSAL, tables, write_page
from benchmarks.gpu_stages import STAGES

_LIMIT = 540.0
Command = Callable[[str, Path], Sequence[str]]
"""Takes a stage and the file of its parts, and returns the command that runs it."""


def run(names: Sequence[str], out: Path, *, device: str, command: Command, limit: float | None) -> int:
    """Run stages, write the report after each, and return how many failed.

    Args:
        names: The stages.
        out: The report, to which the stages are added.
        device: The card's name, for the report.
        command: Gives the command of a stage.
        limit: Seconds after which a stage is killed, None for no limit.
    """
    report = _report_of(out, device)
    failed = 0
    for name in names:
        print(f"== {name}", flush=True)
        outcome = run_stage(partial(command, name), limit=limit)
        failed += "error" in outcome
        report["stages"][name] = outcome
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(f"== {name}: {outcome.get('error', 'passed')}, {outcome['seconds']} s", flush=True)
    return failed


def run_stage(command: Callable[[Path], Sequence[str]], *, limit: float | None) -> dict[str, Any]:
    """Run a stage in a process of its own, and return its parts, its seconds, and its error if it failed."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parts.json"
        process = subprocess.Popen(command(path), start_new_session=True)
        try:
            status = process.wait(limit)
            error = None if status == 0 else _exit_error(status)
        except subprocess.TimeoutExpired as expired:
            error = (
                f"killed after {expired.timeout:g} s; use a larger --limit, or divide the stages among several calls"
            )
        finally:
            _kill_group(process)  # vLLM's processes too
        parts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    outcome = {"parts": parts, "seconds": round(time.perf_counter() - started, 1)}
    failed = [name for name, part in parts.items() if "error" in part]
    if failed and error is not None:
        error = f"{error}; failed: {', '.join(failed)}"
    return outcome if error is None else {**outcome, "error": error}


def _exit_error(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the processes that a stage has started, and the stage itself if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
    parser.add_argument("--docs", type=Path, help="a page in which to replace the tables between the markers")
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("the GPU check needs a CUDA device; none is available. --rehearse runs on a CPU", file=sys.stderr)
        return 2
    more = ["--rounds", str(options.rounds)]
    more += ["--rehearse"] if options.rehearse else []
    more += ["--model", str(options.model)] if options.model else []

    def command(stage: str, parts: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.gpu_stages", stage, "--parts", str(parts), *more]

    device = REHEARSAL if options.rehearse else _device_name()
    limit = _LIMIT if options.limit is None and not options.rehearse else options.limit
    failed = run(options.stages, options.out, device=device, command=command, limit=limit)
    report = json.loads(options.out.read_text(encoding="utf-8"))
    print(tables(report))
    if options.docs is not None:
        write_page(options.docs, report)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
