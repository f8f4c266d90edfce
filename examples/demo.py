"""The demo (`make demo`): starts a server, submits a sweep over REST, and shows results as numbers, text and a plot.

The server is stopped at the end, also on Ctrl-C and after an error; `--keep` leaves it running. With `--chaos` the
engine is killed in the middle of the sweep, and the results are compared with those of an undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampsweep import Client
from ampsweep.cli.options.client import follow
from ampsweep.client.models import Sweep
from ampsweep.errors import AmpsweepError
from examples.chaos import compare, follow_and_kill
from jobs.report.sources.neurons_file import write_neurons_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "demo"
SPEC, CHAOS_SPEC = ROOT / "examples" / "demo.yaml", ROOT / "examples" / "atlas.yaml"
START_SECONDS = 600
STOP_SECONDS = 30
PROMPT = "In Egypt, the currency is"
SHOWN = ("ja", "ru", "tr")
STRENGTH = 3.0
METRICS = {"lss": "LSS", "in_target_language": "text"}
"""The metrics that are shown, and what they are called in the table."""
LINEAR = 0.5
"""Value up to which the axis of the factors is linear; above, it is logarithmic, so that the bend stays visible."""
REACHED = 0.95
"""Share from which on a metric counts as saturated."""
REAL_MODEL = (
    "A real model is less obliging: Gemma 3 270M prefers the French word in 0.95 of the facts at half of the largest\n"
    "recorded activation, where no text is French; at twice that activation 0.96 is (docs/results-real-models.md)."
)
"""What the study of real models found; the figures are those of its tables."""
NEXT = """
next:
  .venv/bin/ampsweep report out/demo --out out/demo/report.html   # what was found, with figures and tables
  make serve                                                      # a server with a web page, to steer prompts"""
"""What to run after the demo."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server with its URL and process id."""

    url: str
    pid: int


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the server running, and print its URL")
    parser.add_argument("--engine", default="vllm", help="vllm (default) or transformers")
    parser.add_argument("--chaos", action="store_true", help="kill the engine in the middle of the sweep")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    try:
        with served(options.engine, keep=options.keep) as server:
            rows = show(server, chaos=options.chaos)
        if options.chaos:
            print()
            with served(options.engine, home="home-without-a-kill") as server, Client(server.url) as client:
                sweep = completed(follow(client, client.submit(CHAOS_SPEC)))
                compare(rows, steered_rows(client, sweep.id))
        print(NEXT)
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    except (AmpsweepError, RuntimeError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def served(engine: str, *, home: str = "home", keep: bool = False) -> Iterator[Server]:
    """Run `ampsweep serve` with the atlas on a free port of the loopback interface, with its own home folder."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = OUT / f"{home.replace('home', 'server')}.log"
    command = [sys.executable, "-m", "ampsweep.cli", "serve", "--port", str(port), "--home", str(OUT / home)]
    if engine == "vllm":
        command.append("--no-compile")  # the model is so small that compiling it takes longer than it saves
    print(f"starting a server with the atlas on the {engine} engine (its log: {log.relative_to(ROOT)}) ...", flush=True)
    with log.open("w") as sink:
        server = subprocess.Popen(
            [*command, "--engine", engine], stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    done = False
    try:
        _wait_until_ready(server, url, log)
        yield Server(url=url, pid=server.pid)
        done = True
    finally:
        if keep and done:
            print(f"\nthe server keeps running at {url}, which has a web page; stop it with: kill {server.pid}")
        else:
            _stop(server)


def show(server: Server, *, chaos: bool) -> list[Row]:
    """Submit the sweep and follow it, with `chaos` kill its engine; show the results and return its steered rows."""
    with Client(server.url) as client:
        began = time.monotonic()
        submitted = client.submit(CHAOS_SPEC if chaos else SPEC)
        sweep = completed(follow_and_kill(client, submitted, server.pid) if chaos else follow(client, submitted))
        seconds = time.monotonic() - began
        download(client, sweep.id, OUT)
        rows = client.results(sweep.id).num_rows
        print(f"\n{sweep.request_counts.total} cells, {rows} samples in {seconds:.0f} s")
        steered = steered_rows(client, sweep.id)
        neurons = client.neuron_sets()[-1]["languages"]
        if not chaos:
            show_factors(steered, neurons)
            show_texts(client)
            picture = draw(
                steered, sorted({row["target_language"] for row in steered if neurons[row["target_language"]]})
            )
            print(f"\nfigure:  {picture.relative_to(ROOT)}")
    print(f"results: {OUT.relative_to(ROOT)}")
    return steered


def download(client: Client, sweep_id: str, folder: Path) -> None:
    """Write the files of a sweep to a folder, as `ampsweep run` does, so that `ampsweep report` accepts it."""
    client.download(sweep_id, folder / "results.parquet")
    client.download_summary(sweep_id, folder / "summary.parquet")
    write_neurons_of(folder, lambda neuron_set: client.neuron_set(neuron_set, neurons=True)["neurons"])


def completed(sweep: Sweep) -> Sweep:
    """Return the sweep; raise RuntimeError unless all of its cells are completed."""
    if sweep.status != "completed" or sweep.request_counts.failed:
        raise RuntimeError(f"the sweep is {sweep.status}: {sweep.error or sweep.request_counts}")
    return sweep


def steered_rows(client: Client, sweep_id: str) -> list[Row]:
    """Return the rows of a sweep's summary that belong to interventions."""
    return [row for row in client.summary(sweep_id)["rows"] if row["factor"] is not None]


def show_factors(rows: list[Row], neurons: dict[str, int]) -> None:
    """Print LSS and language control of each target language by factor, with the range of the random draws.

    Languages without neurons are reported and left out, because nothing is edited for them.
    """
    targets = sorted({row["target_language"] for row in rows})
    factors = sorted({row["factor"] for row in rows})
    print("\nLSS: how often an edit makes the object in the target language likelier (mean over base languages)")
    print("text: the share of English prompts that are continued in the target language")
    print("random: as many random neurons in the same layers, from the lowest to the highest of the draws")
    print("set to".ljust(22) + "".join(f"{factor:<12g}" for factor in factors))
    shown = [target for target in targets if neurons[target]]
    for target in targets:
        if target not in shown:
            print(f"{target}  has no neurons, so nothing is edited")
            continue
        for metric, label in METRICS.items():
            values = [mean(rows, metric, target, factor) for factor in factors]
            draws = [random_draws(rows, metric, target, factor) for factor in factors]
            name = target if metric == "lss" else ""
            print(
                f"{name:<4}{f'{label}, LAPE ({neurons[target]})':<18}" + "".join(f"{value:<12.2f}" for value in values)
            )
            print(f"{'':4}{f'{label}, random':<18}" + "".join(f"{_range(values):<12}" for values in draws))
    if not shown:
        raise RuntimeError("no target language has neurons")
    print("\n" + conclusion(rows, shown, factors))
    print(REAL_MODEL)


def conclusion(rows: list[Row], targets: list[str], factors: list[float]) -> str:
    """Return what the table shows: the factor at which LSS is saturated, and that at which the text follows."""
    first = {
        metric: [
            next((factor for factor in factors if mean(rows, metric, target, factor) >= REACHED), None)
            for target in targets
        ]
        for metric in METRICS
    }

    def reached(metric: str) -> str:
        values = [value for value in first[metric] if value is not None]
        where = f"at {_span(values)}" if values else "nowhere"
        return where if len(values) == len(targets) else f"{where} ({len(values)} of {len(targets)} languages)"

    return f"LSS reaches {REACHED} {reached('lss')}, the text {reached('in_target_language')}."


def mean(rows: list[Row], metric: str, target: str, factor: float, seed: int | None = None) -> float:
    """Return a metric for a target language and a factor, averaged over the data languages.

    Args:
        rows: The rows of the summary that belong to interventions.
        metric: The metric.
        target: The target language.
        factor: The factor.
        seed: The seed of a random draw; None for the language's own neurons.
    """
    wanted = (metric, target, factor, seed)
    names = ("metric", "target_language", "factor", "random_seed")
    values = [row["value"] for row in rows if tuple(row[name] for name in names) == wanted]
    return float(sum(values) / len(values))


def random_draws(rows: list[Row], metric: str, target: str, factor: float) -> list[float]:
    """Return a metric for each draw of random neurons, averaged over the data languages."""
    seeds = sorted({row["random_seed"] for row in rows if row["random_seed"] is not None})
    return [mean(rows, metric, target, factor, seed) for seed in seeds]


def _range(values: list[float]) -> str:
    return f"{min(values):.2f}-{max(values):.2f}"


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def show_texts(client: Client) -> None:
    """Print one prompt's continuation, unsteered and steered to some languages."""
    print(f"\ncontinuations of {PROMPT!r}")
    for language in (None, *SHOWN):
        intervention = {"languages": [language], "op": "set", "factor": STRENGTH} if language else None
        answer = client.complete("atlas", PROMPT, intervention=intervention, max_tokens=24, temperature=0.0)
        print(f"  {f'steered to {language}' if language else 'unsteered':<14} {answer.text.strip()!r}")


def draw(rows: list[Row], targets: list[str]) -> Path:
    """Draw LSS and language control by factor, and return the path of the picture."""
    path = OUT / "factors.png"
    figure_of(rows, targets).savefig(path, dpi=150)
    return path


def figure_of(rows: list[Row], targets: list[str]) -> Figure:
    """Return LSS and language control by factor: a line for each target, a band from lowest to highest random draw."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    factors = sorted({row["factor"] for row in rows})
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("LSS", "continuations of English prompts in the target language")
    colours = mpl.colormaps["viridis"]
    for axes, metric, title in zip(panels, METRICS, titles, strict=True):
        drawn = [[random_draws(rows, metric, target, factor) for factor in factors] for target in targets]
        low = [min(min(draws) for draws in at_factor) for at_factor in zip(*drawn, strict=True)]
        high = [max(max(draws) for draws in at_factor) for at_factor in zip(*drawn, strict=True)]
        axes.fill_between(factors, low, high, color="#cccccc", label="random neurons, all languages and draws")
        for number, target in enumerate(targets):
            values = [mean(rows, metric, target, factor) for factor in factors]
            colour = colours(number / max(1, len(targets)))
            axes.plot(factors, values, marker="osD^v"[number % 5], color=colour, label=f"neurons of {target}")
        axes.set_xscale("symlog", linthresh=LINEAR)
        axes.set_xticks(factors, [f"{factor:g}" for factor in factors])
        axes.set_xticks([], minor=True)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(f"neurons set to (linear up to {LINEAR:g}, logarithmic above)")
        axes.set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("share")
    panels[0].legend(fontsize=8, loc="lower right")
    return figure


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Client(url, timeout=5) as client:
        while not client.ready():
            if server.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(log.read_text().splitlines()[-15:])
                raise RuntimeError(f"the server did not start; the end of its log:\n{last}")
            time.sleep(0.3)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
