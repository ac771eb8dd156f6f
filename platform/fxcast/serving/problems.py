"""Errors as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from fxcast.errors import BadCandles, BadRequest, Conflict, Forbidden, ForecastLate, NotFound, Unauthorized, Unavailable
from fxcast.serving.request_ids import current_request_id
from fxcast.serving.schemas import FieldProblem, Problem

log = structlog.get_logger(__name__)

_CHALLENGE = 'Bearer realm="fxcast"'
_SHOWN = 120  # characters of what was found


def answer_errors(app: FastAPI) -> None:
    """Make an app answer what it refuses, and what it can't do, as problem details."""
    for kind in (
        RequestValidationError,
        BadRequest,
        BadCandles,
        Unauthorized,
        Forbidden,
        NotFound,
        Conflict,
        Unavailable,
        HTTPException,
    ):
        app.add_exception_handler(kind, _answer)


def problem_of(error: Exception) -> Problem:
    """Return an error as a problem: what was refused, forbidden, not found, or can't be answered now.

    Raises:
        Exception: The error itself, if it is none of these: a bug.
    """
    match error:
        case RequestValidationError() | ValidationError():
            return _refusal(422, "The request was refused", _field_problems(error))
        case BadRequest() | BadCandles():
            return _refusal(422, "The request was refused", [_named_field(error)])
        case Unauthorized():
            return _refusal(401, "A valid token is needed", [_named_field(error)])
        case Forbidden():
            return _refusal(403, "The token is not valid for this", [_named_field(error)])
        case NotFound():
            return _refusal(404, "There is no such thing", [_named_field(error)])
        case Conflict():
            return Problem(title="Not possible as things are", status=409, detail=str(error))
        case ForecastLate():
            return Problem(title="The forecast took too long", status=504, detail=str(error))
        case Unavailable():
            return Problem(title="The service can't answer now", status=503, detail=f"{error}; ask again")
        case HTTPException(status_code=400):  # FastAPI's answer to JSON that its parser gives up on
            return _refusal(422, "The request was refused", [FieldProblem(field="body", found="not JSON", allowed="a JSON object")])
        case HTTPException():
            return Problem(title=str(error.detail), status=error.status_code, detail=str(error.detail))
        case _:
            raise error


def problem_response(problem: Problem) -> Response:
    """Return a problem as an HTTP response."""
    named = problem.model_copy(update={"request_id": current_request_id()})
    response = Response(named.model_dump_json(), status_code=named.status, media_type="application/problem+json")
    if named.status == 503:
        response.headers["Retry-After"] = "1"
    return response


def _refusal(status: int, title: str, errors: Sequence[FieldProblem]) -> Problem:
    detail = "; ".join(f"{error.field}: found {error.found}; allowed: {error.allowed}" for error in errors)
    return Problem(title=title, status=status, detail=detail, errors=list(errors))


async def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    response = problem_response(problem)
    if problem.status >= 500:
        log.warning("request not answered", path=request.url.path, status=problem.status, problem=str(error))
    match error:
        case Unauthorized():
            # RFC 6750, section 3.1: no error code for a request that showed nothing.
            shown = ', error="invalid_token"' if "Authorization" in request.headers else ""
            response.headers["WWW-Authenticate"] = _CHALLENGE + shown
        case Forbidden():
            response.headers["WWW-Authenticate"] = f'{_CHALLENGE}, error="insufficient_scope", scope="{error.allowed}"'
        case HTTPException(headers=headers):  # of a method that a path has not: which it has
            response.headers.update(headers or {})
        case _:
            pass
    return response


def _named_field(error: BadRequest | BadCandles | Unauthorized | Forbidden | NotFound) -> FieldProblem:
    return FieldProblem(field=error.field, found=error.found, allowed=error.allowed)


def _field_problems(error: RequestValidationError | ValidationError) -> list[FieldProblem]:
    found: Sequence[Any] = error.errors()
    # pydantic leaves wrong items out of a list before it counts them, and then finds too few: what encloses another error is no
    # error of its own.
    return [_field_problem(each) for each in found if not any(_encloses(each["loc"], other["loc"]) for other in found)]


def _encloses(loc: Sequence[object], other: Sequence[object]) -> bool:
    return len(loc) < len(other) and list(other[: len(loc)]) == list(loc)


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    parts = error["loc"][1:] if error["loc"][:1] in {("body",), ("query",), ("path",)} else error["loc"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "body"
    context = error.get("ctx", {})
    if isinstance(error.get("input"), bytes):  # what FastAPI makes of a body that is not called JSON
        allowed = "a JSON object, with Content-Type: application/json"
        return FieldProblem(field=field, found="a body of another content type", allowed=allowed)
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
