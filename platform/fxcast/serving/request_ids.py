"""One id for a request: in its answer's header, in a problem's body, and in every line of the log that is about it."""

from __future__ import annotations

import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from fxcast import tracing
from fxcast.serving.names import REQUEST_ID_HEADER

_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


def current_request_id() -> str | None:
    """Return the id of the request that is being answered."""
    return _ID.get()


class RequestSpans:
    """ASGI middleware that measures each request as a span, below that of its header `traceparent` if there is one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not tracing.is_on():
            await self._app(scope, receive, send)
            return
        parent = Headers(scope=scope).get(tracing.TRACEPARENT)
        about = {"http__request__method": scope["method"], "url__path": scope["path"], "request_id": current_request_id() or ""}
        with tracing.span("request", "server", parent=parent, **about):
            await self._app(scope, receive, send)


class RequestIds:
    """ASGI middleware that knows each request by the id of its header, the caller's own or that of Serve's proxy.

    The proxy puts it into the answer too; a request that came without one, and so without a proxy, gets one here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER)
        request_id = given or uuid.uuid4().hex

        async def with_id(message: Message) -> None:
            if given is None and message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        token = _ID.set(request_id)
        try:
            with bound_contextvars(request_id=request_id):
                await self._app(scope, receive, with_id)
        finally:
            _ID.reset(token)
