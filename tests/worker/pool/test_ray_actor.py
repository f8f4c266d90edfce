"""An engine's process in Ray: it logs with the server's ids, its spans stand below the server's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.telemetry.context import Telemetry
from ampsweep.telemetry.logs import LogSettings
from ampsweep.telemetry.traces import collector, stop_traces
from jobs.execution import CompletionCall
from jobs.store.transitions import SWEEP_ENDED
from tests.worker.installation import Installation, drain
from worker.pool.ray_pool import RayPool

pytestmark = [
    pytest.mark.processes,
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves sockets and processes to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECRET = "xyzzy"


class Collector(ThreadingHTTPServer):
    """Keeps the spans that are sent to it, with the service that sent each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for batch in sent.resource_spans:
            names = {one.key: one.value.string_value for one in batch.resource.attributes}
            self.server.spans += [(names["service.name"], span) for scope in batch.scope_spans for span in scope.spans]
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with Collector() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_logs_and_traces_of_an_engines_process_belong_to_the_server(
    installation: Installation, collecting: Collector
) -> None:
    endpoint = f"http://127.0.0.1:{collecting.server_port}"
    telemetry = Telemetry(logs=LogSettings(format="json", level="debug"), otlp_endpoint=endpoint)
    collector(endpoint, service="ampsweep", instance="here")
    pool = RayPool([installation.engine()], installation.worker_config, telemetry=telemetry)
    await pool.start()
    try:
        await pool.ready()
        sweep = installation.submit()
        dispatcher = installation.dispatcher(pool)
        await drain(installation, dispatcher, until=lambda: installation.store.get_sweep(sweep.id).state in SWEEP_ENDED)
        with structlog.contextvars.bound_contextvars(request_id="mine"):
            async for _ in pool.stream(call(SECRET)):
                pass
        (metrics,) = await pool.metrics()
        logs = Path(pool._ray._private.worker._global_node.get_logs_dir_path())
    finally:
        await pool.stop()
        await asyncio.to_thread(stop_traces)
        logging.captureWarnings(False)

    assert metrics.stats is not None
    assert (metrics.starts, metrics.deaths) == (1, 0)
    assert metrics.stats["generated_tokens"] >= 3
    assert metrics.stats["prompt_tokens"] > 0

    text = written(logs)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    published = [line for line in lines if line["event"] == "the cell is published"]
    cells = {record.id for record in installation.store.list_cells(sweep.id).data}
    assert {line["cell_id"] for line in published} == cells
    assert all(line["sweep_ids"] == [sweep.id] and line["trace_id"] for line in published)
    assert SECRET not in text

    ours = {span.span_id: span for service, span in collecting.spans if service == "ampsweep"}
    theirs = [span for service, span in collecting.spans if service == "ampsweep-engine"]
    runs = [span for span in theirs if span.name == "engine.cell"]
    assert len(runs) == len(cells)
    assert {ours[span.parent_span_id].name for span in runs} == {"cell"}
    assert {span.name for span in theirs} >= {"engine.cell", "cell.run", "cell.publish", "engine.completion"}


def written(logs: Path) -> str:
    """Return what Ray's processes have written to their standard error."""
    return "".join(path.read_text(errors="replace") for path in logs.glob("worker-*.err"))


def call(prompt: str) -> CompletionCall:
    return CompletionCall(
        model="tiny",
        prompt=prompt,
        intervention=None,
        neurons=None,
        sampling=SamplingParams(max_tokens=3),
    )
