"""What stands around the API: a limit for bodies, and an answer to bugs."""

from __future__ import annotations

import traceback

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fxcast.serving.problems import answer_errors, problem_response
from fxcast.serving.request_ids import RequestIds, RequestSpans
from fxcast.serving.schemas import FieldProblem, Problem

MAX_BODY_BYTES = 1_000_000

_TOO_MUCH = FieldProblem(field="body", found=f"more than {MAX_BODY_BYTES:,} bytes", allowed=f"at most {MAX_BODY_BYTES:,} bytes")
TOO_LARGE = Problem(
    title="The body is too large",
    status=413,
    detail=f"body: found {_TOO_MUCH.found}; allowed: {_TOO_MUCH.allowed}",
    errors=[_TOO_MUCH],
)
FAILED = Problem(title="Internal error", status=500, detail="The service failed on this request; its log says why")

log = structlog.get_logger(__name__)


def surround(app: FastAPI) -> None:
    """Make an app answer everything as problem details, with an id, and read no body that is too large."""
    answer_errors(app)
    app.add_middleware(LimitBody)
    app.add_middleware(AnswerBugs)
    app.add_middleware(RequestSpans)
    app.add_middleware(RequestIds)  # the outermost: every answer has an id


class LimitBody:
    """ASGI middleware that answers 413 to a body over `MAX_BODY_BYTES`, whatever its headers claim."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client went away
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                await problem_response(TOO_LARGE)(scope, receive, send)
                return
        handed_over = False

        async def replay() -> Message:
            nonlocal handed_over
            if handed_over:
                return await receive()
            handed_over = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, replay, send)


class AnswerBugs:
    """ASGI middleware that logs an error nobody expected and answers 500, without the error's own words.

    Not a handler of `Exception`: Starlette raises again after such a handler, and Serve would log the error a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # a bug may raise anything: logged with its traceback, answered as a 500
            if scope["type"] != "http" or started:
                raise
            await problem_response(logged_bug(error, scope["path"]))(scope, receive, send)


def logged_bug(error: Exception, path: str) -> Problem:
    """Log an error nobody expected with its traceback; return what its caller is told."""
    # As text: structlog's own rendering prints the local variables of every frame.
    log.error("request failed", path=path, exception="".join(traceback.format_exception(error)))
    return FAILED
