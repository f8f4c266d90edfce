"""OpenTelemetry spans, sent to a collector if one is configured; otherwise nothing is imported or recorded.

Spans hold names and ids, never prompts or API keys.
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
"""Timeout of an export, in seconds, also at the end of a process."""

_provider: TracerProvider | None = None


def collector(endpoint: str, *, service: str, instance: str) -> None:
    """Send spans to an OTLP collector over HTTP.

    The variables that the SDK reads (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_RESOURCE_ATTRIBUTES) apply.

    Args:
        endpoint: The base URL of the collector, such as http://collector:4318.
        service: The name of the service, in the resource of the spans.
        instance: The id of the process, in the resource of the spans.

    Raises:
        InvalidRequest: The endpoint is not an HTTP URL.
    """
    if not endpoint.startswith(("http://", "https://")):
        message = f"otlp_endpoint must be the base URL of a collector, such as http://collector:4318; got {endpoint!r}"
        raise InvalidRequest(message, param="otlp_endpoint")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
    start_traces(BatchSpanProcessor(exporter), service=service, instance=instance)


def start_traces(processor: SpanProcessor, *, service: str, instance: str) -> None:
    """Start tracing: give every span of this process to a processor."""
    global _provider  # one tracer provider per process
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    stop_traces()
    names = Resource.create({"service.name": service, "service.instance.id": instance})
    _provider = TracerProvider(resource=names, shutdown_on_exit=False)
    _provider.add_span_processor(processor)


def stop_traces() -> None:
    """Export the remaining spans and stop tracing."""
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
    """Record a block as a span; yield a function that adds attributes to it.

    Args:
        name: The name of the span.
        attributes: Its first attributes.
        parent: Headers with a `traceparent`, which identify the parent; by default the current span is the parent.
        server: Whether the span is the server side of a request.
        current: Whether the span is the current one during the block. Generators set this to False, because their
            blocks may end in another context.
    """
    if _provider is None:
        yield _ignored
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    new_span = _provider.get_tracer("ampsweep").start_span(
        name,
        context=None if parent is None else TraceContextTextMapPropagator().extract(parent),
        kind=trace.SpanKind.SERVER if server else trace.SpanKind.INTERNAL,
        attributes=attributes,
    )
    try:
        if current:
            with trace.use_span(new_span, record_exception=False, set_status_on_exception=False):
                yield new_span.set_attributes
        else:
            yield new_span.set_attributes
    except Exception as error:
        new_span.set_status(trace.StatusCode.ERROR, type(error).__qualname__)
        raise
    finally:
        new_span.end()


def trace_headers() -> dict[str, str]:
    """Return the headers that identify the current span to another process; empty without tracing."""
    if _provider is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def current_ids() -> dict[str, str]:
    """Return `trace_id` and `span_id` of the current span, in hexadecimal; empty without tracing."""
    if _provider is None:
        return {}
    from opentelemetry import trace

    now = trace.get_current_span().get_span_context()
    if not now.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(now.trace_id), "span_id": trace.format_span_id(now.span_id)}


def _ignored(_attributes: Attributes) -> None:
    """Ignore attributes: tracing is off."""
