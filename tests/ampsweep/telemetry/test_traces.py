"""Spans as a collector receives them; without a collector there are none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ampsweep.errors import InvalidRequest
from ampsweep.telemetry.traces import collector, current_ids, span, start_traces, stop_traces, trace_headers

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
OFF = """
import sys
from ampsweep.telemetry import traces
with traces.span("a", {}) as note:
    note({"b": 1})
print([name for name in sys.modules if name.startswith("opentelemetry")], traces.trace_headers(), traces.current_ids())
"""


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    start_traces(SimpleSpanProcessor(exporter), service="ampsweep", instance="here")
    yield exporter
    stop_traces()


def test_spans_are_nested_below_the_callers_span(spans: InMemorySpanExporter) -> None:
    with span("outer", {"a": 1}, parent=HEADERS, server=True) as note:
        with span("inner", {}):
            ids = current_ids()
            headers = trace_headers()
        note({"b": "two"})
    inner, outer = spans.get_finished_spans()
    assert outer.context is not None
    assert inner.context is not None
    assert inner.parent is not None
    assert outer.parent is not None
    assert f"{outer.context.trace_id:032x}" == TRACE
    assert f"{outer.parent.span_id:016x}" == PARENT
    assert inner.parent.span_id == outer.context.span_id
    assert dict(outer.attributes or {}) == {"a": 1, "b": "two"}
    assert ids == {"trace_id": TRACE, "span_id": f"{inner.context.span_id:016x}"}
    assert headers["traceparent"] == f"00-{TRACE}-{inner.context.span_id:016x}-01"
    assert outer.resource.attributes["service.name"] == "ampsweep"


def test_failed_spans_have_the_error_type_but_not_the_message(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="xyzzy"), span("a", {}):
        raise ValueError("xyzzy")
    (finished,) = spans.get_finished_spans()
    assert not finished.status.is_ok
    assert "xyzzy" not in finished.to_json()
    assert "ValueError" in finished.to_json()


def test_a_span_of_a_generator_leaves_the_current_one_alone(spans: InMemorySpanExporter) -> None:
    with span("outer", {}):
        before = current_ids()
        with span("inner", {}, current=False):
            assert current_ids() == before


@pytest.mark.parametrize("header", ["", "00-zz-1-01", "nonsense"])
def test_an_invalid_trace_parent_is_ignored(spans: InMemorySpanExporter, header: str) -> None:
    with span("a", {}, parent={"traceparent": header}):
        pass
    (finished,) = spans.get_finished_spans()
    assert finished.parent is None


@pytest.mark.processes
def test_without_a_collector_nothing_is_imported() -> None:
    process = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)
    assert process.stdout == "[] {} {}\n"


def test_an_invalid_address_is_refused_by_field() -> None:
    with pytest.raises(InvalidRequest, match="http://collector:4318") as caught:
        collector("collector:4318", service="a", instance="b")
    assert caught.value.param == "otlp_endpoint"
