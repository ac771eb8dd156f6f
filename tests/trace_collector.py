"""A collector of traces on loopback: what OTLP/HTTP sends, decoded and kept."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSpan:
    """A span as a collector gets it; `process` names who sent it, `parent_id` is empty at the root of a trace."""

    name: str
    service: str
    process: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    links: tuple[str, ...]
    failed: str | None
    attributes: dict[str, str]


class TraceCollector:
    """Serves POST /v1/traces from a thread of its own; a context manager."""

    def __init__(self) -> None:
        self._seen: list[SeenSpan] = []
        seen = self._seen

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces", self.path
                content = self.rfile.read(int(self.headers["Content-Length"]))
                seen.extend(_decoded(ExportTraceServiceRequest.FromString(content)))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:  # pyright: ignore[reportImplicitOverride, reportIncompatibleMethodOverride]
                """Say nothing of each request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="TraceCollector")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> list[SeenSpan]:
        """What has come so far."""
        return list(self._seen)


def _decoded(request: ExportTraceServiceRequest) -> list[SeenSpan]:
    found: list[SeenSpan] = []
    for resource in request.resource_spans:
        about = _values(resource.resource.attributes)
        found += [_seen(span, about) for scope in resource.scope_spans for span in scope.spans]
    return found


def _seen(span: Span, about: dict[str, str]) -> SeenSpan:
    return SeenSpan(
        name=span.name,
        service=about["service.name"],
        process=about["service.instance.id"],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        links=tuple(link.span_id.hex() for link in span.links),
        failed=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
        attributes=_values(span.attributes),
    )


def _values(pairs: Iterable[KeyValue]) -> dict[str, str]:
    found = {pair.key: (pair.value.WhichOneof("value"), pair.value) for pair in pairs}
    return {key: str(getattr(value, kind)) for key, (kind, value) in found.items() if kind is not None}
