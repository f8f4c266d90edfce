"""The services of compose.yaml without containers: their own commands and health checks, on this machine.

What a container would have of its own is put in its place: names of hosts become 127.0.0.1, ports free ones.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.deploy.dockerfile import lineage, read_stages
from tests.deploy.test_compose import SERVICES

WITHIN = 120.0


@dataclass(kw_only=True)
class Site:
    """Where the services are, in place of what containers would give them."""

    folder: Path
    ports: Mapping[str, int]
    environment: Mapping[str, str]
    logs: dict[str, Path] = field(default_factory=dict)

    def placed(self, words: Sequence[str]) -> list[str]:
        """Return a command with this machine in it; `tini` reaps for containers alone."""
        changes = {
            "ray-head:6379": f"127.0.0.1:{self.ports['ray']}",
            "127.0.0.1:6379": f"127.0.0.1:{self.ports['ray']}",
            "--port=6379": f"--port={self.ports['ray']}",
            "ray start": "ray start --node-ip-address=127.0.0.1 --disable-usage-stats",
            "/etc/prometheus": str(self.folder / "prometheus"),
            "--storage.tsdb.path=/prometheus": f"--storage.tsdb.path={self.folder / 'tsdb'}",
            "http://127.0.0.1:9090": f"http://127.0.0.1:{self.ports.get('prometheus', 9090)}",
        }
        words = list(words[2:] if words[0] == "tini" else words)
        if words[:2] == ["ray", "start"]:
            words[2:2] = ["--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        for old, new in changes.items():
            words = [word.replace(old, new) for word in words]
        return words

    @contextmanager
    def running(self, service: str, *more: str, program: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service's command until the block ends; `program` is what an image of others begins with."""
        words = [*([program] if program else SERVICES[service]["entrypoint"]), *SERVICES[service]["command"]]
        self.logs[service] = self.folder / f"{service}.log"
        with self.logs[service].open("wb") as log:
            process = subprocess.Popen(
                [*self.placed(words), *more],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def healthy(self, service: str) -> bool:
        """Run a service's health check, or that of its image."""
        check: list[str] = SERVICES[service].get("healthcheck", {}).get("test", [])
        words = check[1:] if check else image_check()
        return (
            subprocess.run(self.placed(words), env=self.environment, capture_output=True, check=False).returncode == 0
        )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + WITHIN
        while not condition():
            if time.monotonic() > end:
                said = "\n".join(f"--- {name}\n{path.read_text()[-2000:]}" for name, path in self.logs.items())
                raise AssertionError(f"{what} did not come to be\n{said}")
            time.sleep(0.5)


def image_check() -> list[str]:
    """Return the health check of the server's image."""
    (check,) = [
        rest for stage in lineage(read_stages(), "gpu") for word, rest in stage.instructions if word == "HEALTHCHECK"
    ]
    words: list[str] = yaml.safe_load(check.partition("CMD ")[2])
    return words


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
