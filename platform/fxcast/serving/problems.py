"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fxcast.serving.schemas import FieldProblem, Problem

MAX_BODY_BYTES = 1_000_000
_SHOWN = 120  # characters of what was found


def problem_response(problem: Problem) -> Response:
    """Return a problem as an HTTP response."""
    return Response(problem.model_dump_json(), status_code=problem.status, media_type="application/problem+json")


def refused(status: int, title: str, errors: Sequence[FieldProblem]) -> Response:
    """Return a refusal that names each field, what was found and what is allowed."""
    detail = "; ".join(f"{error.field}: found {error.found}; allowed: {error.allowed}" for error in errors)
    return problem_response(Problem(title=title, status=status, detail=detail, errors=list(errors)))


def validation_problem(error: RequestValidationError) -> Response:
    """Return pydantic's findings as a refusal."""
    return refused(422, "The request was refused", [_field_problem(found) for found in error.errors()])


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
