"""Traces through feed, engine, service and broker, as OpenTelemetry has them. Off unless FXCAST_TRACES names a collector.

The context travels as W3C Trace Context writes it, a `traceparent`, wherever something is handed to another process.

Environment:
    FXCAST_TRACES  address of an OTLP/HTTP collector, as http://127.0.0.1:4318
    OTEL_…         OpenTelemetry's own variables: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …

Source: W3C Trace Context, Recommendation of November 2021; OpenTelemetry Protocol 1.x over HTTP.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from fxcast import __version__
from fxcast.errors import BadSetting, BadSetup

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Tracer

TRACES_VARIABLE = "FXCAST_TRACES"
TRACEPARENT = "traceparent"  # the header's name

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attribute = str | bool | int | float

_SEND_EVERY_MS = 1000  # what a killed process had not sent is lost
_OFF: AbstractContextManager[None] = nullcontext()


@dataclass(slots=True)
class _Tracing:
    tracer: Tracer | None = None
    provider: TracerProvider | None = None


_tracing = _Tracing()


def configure(service: str) -> None:
    """Begin to send this process's spans, if FXCAST_TRACES asks for it; once a process.

    A collector that is away costs nothing but the spans: they are sent from a thread of their own, and dropped beyond 2,048.

    Args:
        service: Under which name the collector shows them: fxcast-feed, fxcast-engine, …

    Raises:
        BadSetting: If FXCAST_TRACES is no address.
        BadSetup: If the exporter is not installed.
    """
    address = os.environ.get(TRACES_VARIABLE, "").strip()
    if not address or _tracing.tracer is not None:
        return
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise BadSetting(
            f"{TRACES_VARIABLE}: found {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()!r}; "
            "allowed: http:// or https://, a host and a port, without a user (credentials: OTEL_EXPORTER_OTLP_HEADERS)"
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise BadSetup(f"{TRACES_VARIABLE} is set, and {error.name} is not installed: pip install 'fxcast[traces]'") from None
    about = {
        "service.name": service,
        "service.namespace": "fxcast",
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    # Not the global provider: Ray, or a user's program around the client, may have its own.
    provider = TracerProvider(resource=Resource.create(about))
    exporter = OTLPSpanExporter(endpoint=f"{address.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_EVERY_MS))
    _tracing.provider, _tracing.tracer = provider, provider.get_tracer("fxcast", __version__)


def is_on() -> bool:
    """Whether spans are made."""
    return _tracing.tracer is not None


def span(
    name: str, kind: Kind = "internal", *, parent: str | None = None, links: Iterable[str] = (), **attributes: Attribute
) -> AbstractContextManager[None]:
    """Measure the block as a span; without tracing, do nothing.

    An error that leaves the block is told by its class alone: its text may hold what may not leave this cluster.

    Args:
        parent: The `traceparent` of what caused it; by default the span that is open here, if there is one.
        links: Those of what it belongs to besides.
        attributes: What it is about; a dot in a name is written as two underscores.
    """
    tracer = _tracing.tracer
    return _OFF if tracer is None else _recorded(tracer, name, kind, parent, links, attributes)


def traceparent() -> str | None:
    """Return the open span as W3C's header says it, None without one."""
    if _tracing.tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT)


def shut_down() -> None:
    """Send what is left, and stop; for tests, and for a process that ends without Python's own end."""
    if _tracing.provider is not None:
        _tracing.provider.shutdown()
    _tracing.provider = _tracing.tracer = None


@contextmanager
def _recorded(
    tracer: Tracer, name: str, kind: Kind, parent: str | None, links: Iterable[str], attributes: dict[str, Attribute]
) -> Generator[None]:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    opened = tracer.start_as_current_span(
        name,
        context=None if parent is None else _context(parent),
        kind=SpanKind[kind.upper()],
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
        links=[link for each in links for link in _links(each)],
        record_exception=False,
        set_status_on_exception=False,
    )
    with opened as recorded:
        try:
            yield
        except BaseException as error:
            recorded.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _context(parent: str) -> Context:
    """Return the context of a `traceparent`; one that can't be read begins a trace of its own."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({TRACEPARENT: parent}, context=Context())


def _links(parent: str) -> list[Link]:
    from opentelemetry.trace import Link, get_current_span

    context = get_current_span(_context(parent)).get_span_context()
    return [Link(context)] if context.is_valid else []
