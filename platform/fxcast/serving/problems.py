"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fxcast.errors import BadCandles, BadRequest, Unavailable
from fxcast.serving.schemas import FieldProblem, Problem

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1_000_000
_SHOWN = 120  # characters of what was found


def answer_errors(app: FastAPI) -> None:
    """Make an app answer every error, its own bugs included, as problem details."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(LimitBody)
    app.add_middleware(AnswerBugs)


def problem_response(problem: Problem) -> Response:
    """Return a problem as an HTTP response."""
    return Response(problem.model_dump_json(), status_code=problem.status, media_type="application/problem+json")


def refused(status: int, title: str, errors: Sequence[FieldProblem]) -> Response:
    """Return a refusal that names each field, what was found and what is allowed."""
    detail = "; ".join(f"{error.field}: found {error.found}; allowed: {error.allowed}" for error in errors)
    return problem_response(Problem(title=title, status=status, detail=detail, errors=list(errors)))


async def _on_invalid(_: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    # pydantic leaves wrong items out of a list before it counts them, and then finds too few: what encloses another error is no
    # error of its own.
    inner = [each for each in found if not any(_encloses(each["loc"], other["loc"]) for other in found)]
    return refused(422, "The request was refused", [_field_problem(each) for each in inner])


def _encloses(loc: Sequence[object], other: Sequence[object]) -> bool:
    return len(loc) < len(other) and list(other[: len(loc)]) == list(loc)


async def _on_refused(_: Request, error: BadRequest | BadCandles) -> Response:
    return refused(422, "The request was refused", [FieldProblem(field=error.field, found=error.found, allowed=error.allowed)])


async def _on_http_error(_: Request, error: HTTPException) -> Response:
    if error.status_code == 400:  # FastAPI's answer to JSON that its parser gives up on
        return refused(422, "The request was refused", [FieldProblem(field="body", found="not JSON", allowed="a JSON object")])
    return problem_response(Problem(title=str(error.detail), status=error.status_code, detail=str(error.detail)))


async def _on_unavailable(_: Request, error: Unavailable) -> Response:
    response = problem_response(Problem(title="The service can't answer now", status=503, detail=f"{error}; ask again"))
    response.headers["Retry-After"] = "1"
    return response


_HANDLERS: Mapping[type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    RequestValidationError: _on_invalid,
    BadRequest: _on_refused,
    BadCandles: _on_refused,
    HTTPException: _on_http_error,
    Unavailable: _on_unavailable,
}


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    parts = error["loc"][1:] if error["loc"][0] == "body" else error["loc"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "body"
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return FieldProblem(field=field, found="an unknown field", allowed="the fields of the API's schema")
        case "missing":
            return FieldProblem(field=field, found="nothing", allowed="a value")
        case "too_short":
            return FieldProblem(field=field, found=f"{context['actual_length']}", allowed=f"at least {context['min_length']}")
        case "too_long":
            return FieldProblem(field=field, found=f"{context['actual_length']}", allowed=f"at most {context['max_length']}")
        case "json_invalid":
            return FieldProblem(field="body", found=f"not JSON: {context.get('error', '')}", allowed="a JSON object")
        case _:
            return FieldProblem(field=field, found=repr(error.get("input"))[:_SHOWN], allowed=str(error["msg"]))


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
                error = FieldProblem(
                    field="body", found=f"more than {MAX_BODY_BYTES:,} bytes", allowed=f"at most {MAX_BODY_BYTES:,} bytes"
                )
                await refused(413, "The body is too large", [error])(scope, receive, send)
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
        except Exception as error:  # the outermost handler: logged with its traceback, answered as a 500
            if scope["type"] != "http" or started:
                raise
            # As text: structlog's own rendering prints the local variables of every frame.
            log.error("request failed", path=scope["path"], exception="".join(traceback.format_exception(error)))
            detail = "The service failed on this request; its log says why"
            await problem_response(Problem(title="Internal error", status=500, detail=detail))(scope, receive, send)
