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
from typing import Any

from ampsweep import Client
from ampsweep.cli.options.client import follow
from ampsweep.client.models import Sweep
from ampsweep.errors import AmpsweepError
from examples.chaos import compare, follow_and_kill

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "demo"
SPEC = ROOT / "examples" / "atlas.yaml"
START_SECONDS = 240
STOP_SECONDS = 30
PROMPT = "In Egypt, the currency is"
SHOWN = ("ja", "ru", "tr")
STRENGTH = 3.0

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
                sweep = completed(follow(client, client.submit(SPEC)))
                compare(rows, steered_rows(client, sweep.id))
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
        submitted = client.submit(SPEC)
        sweep = completed(follow_and_kill(client, submitted, server.pid) if chaos else follow(client, submitted))
        seconds = time.monotonic() - began
        samples = client.download(sweep.id, OUT / "samples.parquet")
        rows = client.results(sweep.id).num_rows
        print(f"\n{sweep.request_counts.total} cells, {rows} samples in {seconds:.0f} s")
        steered = steered_rows(client, sweep.id)
        neurons = client.neuron_sets()[-1]["languages"]
        best = show_factors(steered, neurons)
        show_texts(client)
        picture = draw(steered, best)
    print(f"\nsamples:  {samples.relative_to(ROOT)}\nheat map: {picture.relative_to(ROOT)}")
    return steered


def completed(sweep: Sweep) -> Sweep:
    """Return the sweep; raise RuntimeError unless all of its cells are completed."""
    if sweep.status != "completed" or sweep.request_counts.failed:
        raise RuntimeError(f"the sweep is {sweep.status}: {sweep.error or sweep.request_counts}")
    return sweep


def steered_rows(client: Client, sweep_id: str) -> list[Row]:
    """Return the rows of a sweep's summary that belong to interventions."""
    return [row for row in client.summary(sweep_id)["rows"] if row["factor"] is not None]


def show_factors(rows: list[Row], neurons: dict[str, int]) -> dict[str, float]:
    """Print the mean LSS of each target language by factor, and return the best factor of each.

    Languages without neurons are reported and left out, because nothing is edited for them.
    """
    targets = sorted({row["target_language"] for row in rows})
    factors = sorted({row["factor"] for row in rows})
    print("\nLSS: how often an edit makes the object in the target language likelier (mean over base languages)")
    print("set to".ljust(24) + "".join(f"{factor:<8g}" for factor in factors) + "best")
    best: dict[str, float] = {}
    for target in targets:
        if not neurons[target]:
            print(f"{target}  has no neurons, so nothing is edited")
            continue
        shifts = [mean_lss(rows, target, factor, None) for factor in factors]
        best[target] = factors[shifts.index(max(shifts))]
        count = f"LAPE ({neurons[target]})"
        print(f"{target}  {count:<20}" + "".join(f"{value:<8.2f}" for value in shifts) + f"{best[target]:g}")
        control = [mean_lss(rows, target, factor, "random") for factor in factors]
        print(f"{'':4}{'random, as many':<20}" + "".join(f"{value:<8.2f}" for value in control))
    if not best:
        raise RuntimeError("no target language has neurons")
    lape = sum(mean_lss(rows, target, factor, None) for target, factor in best.items()) / len(best)
    random = sum(mean_lss(rows, target, factor, "random") for target, factor in best.items()) / len(best)
    print(f"at the best factor of each: LAPE {lape:.2f}, random {random:.2f}")
    return best


def mean_lss(rows: list[Row], target: str, factor: float, selection: str | None) -> float:
    """Return the LSS for a target language, a factor and a selection of neurons, averaged over the base languages."""
    wanted = (target, factor, selection)
    values = [row["value"] for row in rows if (row["target_language"], row["factor"], row["selection"]) == wanted]
    return float(sum(values) / len(values))


def show_texts(client: Client) -> None:
    """Print one prompt's continuation, unsteered and steered to some languages."""
    print(f"\ncontinuations of {PROMPT!r}")
    for language in (None, *SHOWN):
        intervention = {"languages": [language], "op": "set", "factor": STRENGTH} if language else None
        answer = client.complete("atlas", PROMPT, intervention=intervention, max_tokens=24, temperature=0.0)
        print(f"  {f'steered to {language}' if language else 'unsteered':<14} {answer.text.strip()!r}")


def draw(rows: list[Row], best: dict[str, float]) -> Path:
    """Draw LSS by base and target language at the best factor of each target, for LAPE's and for random neurons."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    bases = sorted({row["data_language"] for row in rows})
    targets = sorted(best)
    size = (4 + 1.3 * len(targets), 1.8 + 0.5 * len(bases))
    figure, panels = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    colours = mpl.colormaps["cividis"].with_extremes(bad="#dddddd")
    for axes, selection, title in zip(panels, (None, "random"), ("LAPE neurons", "as many random ones"), strict=True):
        values = {
            (row["data_language"], row["target_language"]): row["value"]
            for row in rows
            if row["selection"] == selection and row["factor"] == best.get(row["target_language"])
        }
        grid = [[values.get((base, target), float("nan")) for target in targets] for base in bases]
        image = axes.imshow(grid, cmap=colours, vmin=0, vmax=1, aspect="auto")
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                text, is_light = ("–", True) if value != value else (f"{value:.2f}", value > 0.5)
                axes.text(x, y, text, ha="center", va="center", color="black" if is_light else "white")
        axes.set_xticks(range(len(targets)), [f"{target}\n{best[target]:g}" for target in targets])
        axes.set_title(title)
    panels[0].set_yticks(range(len(bases)), bases)
    panels[0].set_ylabel("base language (of the prompt)")
    figure.supxlabel("target language, with its best factor")
    figure.colorbar(image, ax=panels, label="LSS")
    path = OUT / "lss.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


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
