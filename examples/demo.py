"""What `make demo` shows: a server, a sweep sent to it over REST, what came out in numbers, words and a picture.

Everything that is started here is stopped here, also on Ctrl-C and when something fails; `--keep` leaves the server up.
With `--chaos` the engine is killed in the midst of the sweep, and the figures are compared with those of a quiet run.
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
    """A server that runs, as a process of its own."""

    url: str
    pid: int


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the server up, and print its URL")
    parser.add_argument("--engine", default="vllm", help="vllm (default) or transformers")
    parser.add_argument("--chaos", action="store_true", help="kill the engine in the midst of the sweep")
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
    """Run `ampsweep serve` with the atlas on a free port of the loopback interface, in a folder of its own."""
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
            print(f"\nthe server stays up at {url}, also for a browser; stop it with: kill {server.pid}")
        else:
            _stop(server)


def show(server: Server, *, chaos: bool) -> list[Row]:
    """Send the sweep, watch it, kill its engine if `chaos` will have it, show what came out and return its rows."""
    with Client(server.url) as client:
        began = time.monotonic()
        sent = client.submit(SPEC)
        sweep = completed(follow_and_kill(client, sent, server.pid) if chaos else follow(client, sent))
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
    """Return a sweep of which every cell was computed; RuntimeError for any other."""
    if sweep.status != "completed" or sweep.request_counts.failed:
        raise RuntimeError(f"the sweep is {sweep.status}: {sweep.error or sweep.request_counts}")
    return sweep


def steered_rows(client: Client, sweep_id: str) -> list[Row]:
    """Return the rows of a sweep's summary in which something was edited."""
    return [row for row in client.summary(sweep_id)["rows"] if row["factor"] is not None]


def show_factors(rows: list[Row], neurons: dict[str, int]) -> dict[str, float]:
    """Print the mean LSS of each target language by factor, and return the best factor of each.

    A language without neurons has no LSS to speak of: nothing is edited. It is said so, and left out.
    """
    targets = sorted({row["target_language"] for row in rows})
    factors = sorted({row["factor"] for row in rows})
    print("\nLSS: how often an edit makes the target's word for a fact likelier (mean over base languages)")
    print("set to".ljust(24) + "".join(f"{factor:<8g}" for factor in factors) + "best")
    best: dict[str, float] = {}
    for target in targets:
        if not neurons[target]:
            print(f"{target}  no neurons were found: nothing is edited, nothing is measured")
            continue
        found = [mean_lss(rows, target, factor, None) for factor in factors]
        best[target] = factors[found.index(max(found))]
        count = f"LAPE ({neurons[target]})"
        print(f"{target}  {count:<20}" + "".join(f"{value:<8.2f}" for value in found) + f"{best[target]:g}")
        control = [mean_lss(rows, target, factor, "random") for factor in factors]
        print(f"{'':4}{'random, as many':<20}" + "".join(f"{value:<8.2f}" for value in control))
    if not best:
        raise RuntimeError("no target language has neurons")
    lape = sum(mean_lss(rows, target, factor, None) for target, factor in best.items()) / len(best)
    random = sum(mean_lss(rows, target, factor, "random") for target, factor in best.items()) / len(best)
    print(f"at the best factor of each: LAPE {lape:.2f}, random {random:.2f}")
    return best


def mean_lss(rows: list[Row], target: str, factor: float, selection: str | None) -> float:
    """Return the LSS of a target language, a factor and a choice of neurons, averaged over the base languages."""
    wanted = (target, factor, selection)
    values = [row["value"] for row in rows if (row["target_language"], row["factor"], row["selection"]) == wanted]
    return float(sum(values) / len(values))


def show_texts(client: Client) -> None:
    """Print one prompt's continuation, unsteered and steered to some languages."""
    print(f"\n{PROMPT!r} goes on")
    for language in (None, *SHOWN):
        intervention = {"languages": [language], "op": "set", "factor": STRENGTH} if language else None
        answer = client.complete("atlas", PROMPT, intervention=intervention, max_tokens=24, temperature=0.0)
        print(f"  {f'steered to {language}' if language else 'unsteered':<14} {answer.text.strip()!r}")


def draw(rows: list[Row], best: dict[str, float]) -> Path:
    """Draw LSS by base and target language at the best factor of each target, beside that of random neurons."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    bases = sorted({row["data_language"] for row in rows})
    targets = sorted(best)
    size = (4 + 1.3 * len(targets), 1.8 + 0.5 * len(bases))
    figure, panels = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    colours = mpl.colormaps["cividis"].with_extremes(bad="#dddddd")
    for axes, selection, title in zip(panels, (None, "random"), ("LAPE neurons", "as many random ones"), strict=True):
        found = {
            (row["data_language"], row["target_language"]): row["value"]
            for row in rows
            if row["selection"] == selection and row["factor"] == best.get(row["target_language"])
        }
        grid = [[found.get((base, target), float("nan")) for target in targets] for base in bases]
        image = axes.imshow(grid, cmap=colours, vmin=0, vmax=1, aspect="auto")
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                text, light = ("–", True) if value != value else (f"{value:.2f}", value > 0.5)
                axes.text(x, y, text, ha="center", va="center", color="black" if light else "white")
        axes.set_xticks(range(len(targets)), [f"{target}\n{best[target]:g}" for target in targets])
        axes.set_title(title)
    panels[0].set_yticks(range(len(bases)), bases)
    panels[0].set_ylabel("base language: the prompt's")
    figure.supxlabel("target language, and what its neurons are set to: its best factor")
    figure.colorbar(image, ax=panels, label="LSS")
    path = OUT / "lss.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    with Client(url, timeout=5) as client:
        while not client.ready():
            if server.poll() is not None or time.monotonic() > end:
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
