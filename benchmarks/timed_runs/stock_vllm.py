"""vLLM without the patch, in a separate process that is idle while others are timed, and requests as vLLM gets them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm import LLMEngine


class StockVllm:
    """A child process with an unpatched LLMEngine, configured by vLLM's EngineArgs."""

    def __init__(self, folder: Path, arguments: dict[str, Any]) -> None:
        """Start the process and wait until the model is loaded."""
        context = multiprocessing.get_context("spawn")
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_pipe, folder, arguments), daemon=True)
        self._process.start()
        child_pipe.close()
        self._pipe.recv()

    def run(self, prompts: Sequence[dict[str, Any]], sampling: dict[str, Any]) -> float:
        """Run the requests (see `run_plain`) and return the seconds that they took."""
        self._pipe.send((prompts, sampling))
        seconds: float = self._pipe.recv()
        return seconds

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def run_plain(engine: LLMEngine, prompts: Sequence[dict[str, Any]], sampling: dict[str, Any]) -> None:
    """Run requests without interventions on an LLMEngine, as vLLM's offline interface does.

    Args:
        engine: The engine, which is stepped until all requests are answered.
        prompts: vLLM's dictionaries of token ids.
        sampling: Arguments of vLLM's SamplingParams; answers are greedy.
    """
    from vllm import SamplingParams

    for number, prompt in enumerate(prompts):
        engine.add_request(f"plain-{number}", prompt, SamplingParams(temperature=0.0, **sampling))
    while engine.has_unfinished_requests():
        engine.step()


def _serve(pipe: Connection, folder: Path, arguments: dict[str, Any]) -> None:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    from vllm import EngineArgs, LLMEngine
    from vllm.usage.usage_lib import UsageContext

    engine = LLMEngine.from_engine_args(
        EngineArgs(model=str(folder), disable_log_stats=True, **arguments),
        usage_context=UsageContext.OPENAI_API_SERVER,  # as `engine.vllm.launch`
    )
    pipe.send("ready")
    while (work := pipe.recv()) is not None:
        prompts, sampling = work
        started = time.perf_counter()
        run_plain(engine, prompts, sampling)
        pipe.send(time.perf_counter() - started)
