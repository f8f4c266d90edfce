"""Spans of OpenTelemetry, sent to a collector where one is named. Without one nothing is imported, made or kept.

Names and ids go into spans, prompts and keys never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]
Note = Callable[[Attributes], None]
"""Adds attributes to a span."""

EXPORT_SECONDS = 5.0
"""How long the collector may take to answer, at the end of a process too."""

_provider: TracerProvider | None = None


def collector(endpoint: str, *, service: str, instance: str) -> None:
    """Send spans to an OTLP collector over HTTP: `endpoint` is its base, as http://collector:4318.

    `service` and `instance` say whose they are. InvalidRequest for what is no such address. What the SDK reads from the
    environment (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES) holds.
    """
    if not endpoint.startswith(("http://", "https://")):
        message = f"otlp_endpoint must be the base of a collector, as http://collector:4318; got {endpoint!r}"
        raise InvalidRequest(message, param="otlp_endpoint")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    start_traces(BatchSpanProcessor(exporter), service=service, instance=instance)


def start_traces(processor: SpanProcessor, *, service: str, instance: str) -> None:
    """Give every span of this process to a processor, from now on."""
    global _provider  # one log, one tracer a process
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    stop_traces()
    names = Resource.create({"service.name": service, "service.instance.id": instance})
    _provider = TracerProvider(resource=names, shutdown_on_exit=False)
    _provider.add_span_processor(processor)


def stop_traces() -> None:
    """Send what is left, and make no more spans."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        provider.shutdown()


@contextmanager
def span(
    name: str,
    attributes: Attributes,
    *,
    parent: Mapping[str, str] | None = None,
    server: bool = False,
    current: bool = True,
) -> Iterator[Note]:
    """Make a span of a block; its attributes are those given and those noted.

    It goes below the span that `parent` (headers, a `traceparent` among them) names, else below the current one.
    `current` False leaves the current span as it is: for generators, whose blocks end wherever they are closed.
    """
    if _provider is None:
        yield _ignored
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    made = _provider.get_tracer("ampsweep").start_span(
        name,
        context=None if parent is None else TraceContextTextMapPropagator().extract(parent),
        kind=trace.SpanKind.SERVER if server else trace.SpanKind.INTERNAL,
        attributes=attributes,
    )
    try:
        if current:
            with trace.use_span(made, record_exception=False, set_status_on_exception=False):
                yield made.set_attributes
        else:
            yield made.set_attributes
    except Exception as error:
        made.set_status(trace.StatusCode.ERROR, type(error).__qualname__)
        raise
    finally:
        made.end()


def trace_headers() -> dict[str, str]:
    """Return the headers that name the current span to another process; none where no traces are made."""
    if _provider is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def current_ids() -> dict[str, str]:
    """Return `trace_id` and `span_id` of the current span, in hexadecimal; none where no traces are made."""
    if _provider is None:
        return {}
    from opentelemetry import trace

    now = trace.get_current_span().get_span_context()
    if not now.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(now.trace_id), "span_id": trace.format_span_id(now.span_id)}


def _ignored(_attributes: Attributes) -> None:
    """Note nothing."""
