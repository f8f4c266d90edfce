"""The spans of a request and of a sweep, as a collector receives them; the trace of a client is continued."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ampsweep.telemetry.traces import start_traces, stop_traces
from tests.api.running_server import running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    start_traces(SimpleSpanProcessor(exporter), service="ampsweep", instance="here")
    yield exporter
    stop_traces()


def parent(span: ReadableSpan, among: tuple[ReadableSpan, ...]) -> str | None:
    """Return the name of a span's parent."""
    above = span.parent
    if above is None:
        return None
    return next((one.name for one in among if one.context and one.context.span_id == above.span_id), "elsewhere")


async def test_a_request_continues_its_callers_trace(installation: Installation, spans: InMemorySpanExporter) -> None:
    async with running_server(installation, working=False) as server:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        await server.http.get("/v1/sweeps/sweep_xyzzy", headers=headers)
        await server.http.get("/healthz")
    first, second = spans.get_finished_spans()
    assert first.context is not None
    assert f"{first.context.trace_id:032x}" == TRACE
    assert dict(first.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v1/sweeps/{sweep_id}",
        "http.response.status_code": 404,
    }
    assert (first.kind.name, second.parent) == ("SERVER", None)
    assert "xyzzy" not in first.to_json()


async def test_a_cells_span_lasts_from_its_lease_to_its_file(
    installation: Installation, spans: InMemorySpanExporter
) -> None:
    async with running_server(installation) as server:
        sweep_id = await server.done()
    span_list = spans.get_finished_spans()
    cells = [span for span in span_list if span.name == "cell"]
    assert {dict(span.attributes or {})["cell.id"] for span in cells} == {
        cell.id for cell in installation.store.list_cells(sweep_id).data
    }
    assert all(dict(span.attributes or {})["sweep.ids"] == (sweep_id,) for span in cells)
    assert {parent(span, span_list) for span in span_list if span.name == "cell.run"} == {"cell"}
    assert {parent(span, span_list) for span in span_list if span.name == "cell.publish"} == {"cell.run"}
    (finalized,) = [span for span in span_list if span.name == "sweep.finalize"]
    assert dict(finalized.attributes or {})["sweep.ids"] == (sweep_id,)
    assert all(span.end_time and span.start_time and span.end_time >= span.start_time for span in span_list)


async def test_the_span_of_a_failed_cell_has_an_error(installation: Installation, spans: InMemorySpanExporter) -> None:
    async with running_server(installation, fail_on="e") as server:
        one = {"languages": ["fr"], "op": "scale", "factors": [2.0]}
        await server.done(interventions=one, tasks=[{"name": "lss", "languages": ["en"], "limit": 2}])
    failed = [span for span in spans.get_finished_spans() if span.name == "cell" and not span.status.is_ok]
    assert failed
    assert all(span.status.description == "EngineFailed" for span in failed)
