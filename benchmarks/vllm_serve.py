"""Measures what steering costs `vllm serve`: bursts of requests to servers with the plug-in and to one without.

Each server runs the same model of random weights (`benchmarks.models.qwen2`). A burst is 256 completions sent at once;
in the steered one, every request has an intervention of its own on 1 % of the neurons of each layer. The variants
alternate. A ratio is the median of the ratios within each round: of the rate of requests, and of the CPU time of the
server and its processes, which other load on the machine disturbs less. A second server without the plug-in shows how
much two equal servers differ; what is nearer to the goal than that decides nothing.

Usage: python -m benchmarks.vllm_serve [--rounds 5] [--requests 256] [--tokens 16] [--out FILE.json] [-- OPTION ...]

Options after `--` go to `vllm serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
import psutil

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.folders.model import read_model_folder
from benchmarks.models.qwen2 import random_model
from benchmarks.timed_runs.rounds import Variants, ratio, time_rounds
from benchmarks.timed_runs.workload import FACTOR, SEED, Texts, neurons_of

GOAL = 0.97
"""The least rate of a burst of distinct interventions, relative to vLLM without the plug-in."""
PROMPT = 16
START_SECONDS = 600.0
STOCK, STOCK_AGAIN, IDLE, NOT_CONFIGURED = "stock", "stock again", "unsteered", "without neurons"
DISTINCT = "distinct"
ROWS = (
    (STOCK_AGAIN, STOCK, "stock vLLM a second time, over stock vLLM"),
    (NOT_CONFIGURED, STOCK, "the plug-in without neurons, over stock vLLM"),
    (IDLE, STOCK, "the plug-in, unsteered requests, over stock vLLM"),
    (DISTINCT, STOCK, "the plug-in, each request with an intervention of its own, over stock vLLM"),
    (DISTINCT, IDLE, "the same, over unsteered requests to the same server"),
)
"""The rows of the table: a variant, what it is compared with, and a description."""
OPTIONS = (
    *("--dtype", "float32", "--max-model-len", "256", "--kv-cache-memory-bytes", str(1024**3)),
    "--disable-uvicorn-access-log",
)


class Server:
    """A process of `vllm serve`."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], model: Path) -> None:
        self._url, self._process, self._model = url, process, str(model)

    async def burst(self, prompts: Sequence[str], *, tokens: int, steered: bool) -> None:
        """Send all prompts at once, each with an intervention of its own if `steered`.

        Raises:
            RuntimeError: A request was refused.
        """
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, timeout=START_SECONDS, limits=limits) as client:
            requests = (
                client.post("/v1/completions", json=self._body(number, prompt, tokens=tokens, steered=steered))
                for number, prompt in enumerate(prompts)
            )
            for response in await asyncio.gather(*requests):
                if response.status_code != httpx.codes.OK:
                    raise RuntimeError(f"{response.status_code}: {response.text[:1000]}")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server and its processes have taken so far."""
        server = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))

    def wait(self) -> None:
        """Return when the server is ready; raise RuntimeError if it ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self._url}/health", timeout=5).is_success:
                    return
            time.sleep(0.5)
        raise RuntimeError("vllm serve did not start; its output is above")

    def _body(self, number: int, prompt: str, *, tokens: int, steered: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        if steered:
            intervention = {"languages": [f"l{number}"], "op": "scale", "factor": FACTOR}
            body["vllm_xargs"] = {"ampsweep": json.dumps(intervention)}
        return body


@contextmanager
def serving(model: Path, variables: Mapping[str, str], options: Sequence[str]) -> Iterator[Server]:
    """Run `vllm serve` with these environment variables during the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), *OPTIONS, *options]
    environment = {
        **os.environ,
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        **variables,
    }
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    server = Server(f"http://127.0.0.1:{port}", process, model)
    try:
        server.wait()
        yield server
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)
        process.wait()


def write_neurons(widths: LayerWidths, path: Path, *, languages: int) -> None:
    """Write a neuron file with a random 1 % of each layer's neurons for each of so many languages."""
    neurons = {
        f"l{number}": {str(layer): indices.tolist() for layer, indices in enumerate(neurons_of(widths, number))}
        for number in range(languages)
    }
    path.write_text(json.dumps(neurons), encoding="utf-8")


async def measure(
    servers: Mapping[str, Server], *, rounds: int, requests: int, tokens: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds and the seconds of CPU time of each variant's bursts, by round."""
    texts = Texts()
    cpu: dict[str, list[float]] = {variant: [] for variant in servers}

    async def burst(variant: str, prompts: list[str]) -> None:
        before = servers[variant].cpu_seconds()
        await servers[variant].burst(prompts, tokens=tokens, steered=variant == DISTINCT)
        cpu[variant].append(servers[variant].cpu_seconds() - before)

    variants: Variants[list[str]] = {variant: partial(burst, variant) for variant in servers}
    seconds = await time_rounds(lambda: texts.texts(requests, PROMPT), variants, rounds=rounds)
    return seconds, {variant: taken[1:] for variant, taken in cpu.items()}  # without the round that warms up


def report(seconds: Mapping[str, Sequence[float]], cpu: Mapping[str, Sequence[float]]) -> str:
    """Return a Markdown table of the ratios, and whether the goal is met."""
    lines = ["| | rate, median of the rounds | least and largest | CPU time, median |", "|---|---|---|---|"]
    for variant, base, description in ROWS:
        rate, work = ratio(seconds[variant], seconds[base]), ratio(cpu[variant], cpu[base])
        span = f"{rate.least:.3f} to {rate.largest:.3f} of {len(seconds[base])}"
        lines.append(f"| {description} | {rate.median:.3f} | {span} | {1 / work.median:.3f} |")
    return "\n".join([*lines, "", _verdict(seconds)])


def _verdict(seconds: Mapping[str, Sequence[float]]) -> str:
    goal = f"The goal of at least {GOAL} for distinct interventions"
    rate, again = (ratio(seconds[variant], seconds[STOCK]).median for variant in (DISTINCT, STOCK_AGAIN))
    if abs(rate - GOAL) < abs(again - 1):
        return f"{goal} is neither met nor missed: two servers without the plug-in differ by {abs(again - 1):.3f}."
    return f"{goal} is {'met' if rate >= GOAL else 'missed'}."


def main() -> None:
    """Start the servers, run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--out", type=Path)
    parser.add_argument("options", nargs="*", help="options of `vllm serve`, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        model, neurons = Path(name) / "model", Path(name) / "neurons.json"
        random_model(model, seed=SEED)
        write_neurons(read_model_folder(model).widths, neurons, languages=options.requests)
        configured = {"AMPSWEEP_NEURONS": str(neurons), "AMPSWEEP_SLOTS": str(options.requests)}
        stock = {"VLLM_PLUGINS": "none"}
        settings = {STOCK: stock, NOT_CONFIGURED: {}, IDLE: configured, STOCK_AGAIN: stock}
        servers = {
            variant: stack.enter_context(serving(model, variables, options.options))
            for variant, variables in settings.items()
        }
        servers[DISTINCT] = servers[IDLE]
        seconds, cpu = asyncio.run(
            measure(servers, rounds=options.rounds, requests=options.requests, tokens=options.tokens)
        )
    print(report(seconds, cpu))
    if options.out is not None:
        options.out.write_text(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "goal": GOAL}), encoding="utf-8")


if __name__ == "__main__":
    main()
