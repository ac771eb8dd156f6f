"""What a page asks of its callbacks, looked at before Dash takes it.

Whoever makes requests by hand may send anything. Dash would answer nonsense as if it had a bug; here it is refused, and told what
is wrong with it. A callback's own annotations say what it takes, so that nothing else reaches it.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_type_hints

from dash import Dash
from dash._grouping import map_grouping  # Dash publishes no other name of it
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fxcast.errors import BadRequest
from fxcast.serving.problems import problem_of, problem_response

_SHOWN = 80  # characters of what was found
_ZERO = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # which PostgreSQL takes in no text


class CheckUpdates:
    """ASGI middleware that answers 400 to what is no request of a page. It reads the whole body: `LimitBody` stands before it."""

    def __init__(self, app: ASGIApp, *, dash: Dash) -> None:
        self._app = app
        self._dash = dash
        self._path = f"{str(dash.config.routes_pathname_prefix).rstrip('/')}/_dash-update-component"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        message = await receive()
        try:
            check_update(self._dash.callback_map, Headers(scope=scope).get("content-type", ""), message.get("body", b""))
        except BadRequest as error:
            problem = problem_of(error).model_copy(update={"status": 400})
            await problem_response(problem)(scope, receive, send)
            return
        handed_over = False

        async def replay() -> Message:
            nonlocal handed_over
            if handed_over:
                return await receive()
            handed_over = True
            return message

        await self._app(scope, replay, send)


def check_update(callbacks: Mapping[str, Any], content_type: str, body: bytes) -> None:
    """Do nothing if a body is what a page sends.

    Args:
        callbacks: Dash's, by output.

    Raises:
        BadRequest: If it is not; says what is wrong.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("Content-Type", _found(content_type), "application/json")
    try:
        asked = json.loads(body, parse_constant=_no_number)
        json.dumps(asked, ensure_ascii=False).encode()  # half a surrogate can't be written into a database
    except (ValueError, RecursionError) as error:
        raise BadRequest("body", f"not JSON ({type(error).__name__})", "a JSON object") from error
    if not isinstance(asked, dict):
        raise BadRequest("body", _found(asked), "a JSON object")
    if _ZERO.search(body):
        raise BadRequest("body", "a character 0 in a text", "texts without it")
    output = asked.get("output")
    callback = callbacks.get(output) if isinstance(output, str) else None
    if callback is None or "callback" not in callback:
        raise BadRequest("output", _found(output), "one that the page has")
    _check_outputs(asked.get("outputs"), callback["output"])
    values = [
        _value(asked, kind, place, declared)
        for kind in ("inputs", "state")
        for place, declared in _declared(asked, kind, callback[kind])
    ]
    _check_changed(asked.get("changedPropIds", []))
    _check_values(callback, values)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _found(value: object) -> str:
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"


def _declared(asked: Mapping[str, Any], kind: str, declared: list[dict[str, str]]) -> list[tuple[int, dict[str, str]]]:
    given = asked.get(kind, [])
    if not isinstance(given, list) or len(given) != len(declared):
        raise BadRequest(kind, _found(given), f"a list of {len(declared)}")
    return list(enumerate(declared))


def _value(asked: Mapping[str, Any], kind: str, place: int, declared: Mapping[str, str]) -> Any:  # noqa: ANN401  # what a browser sends
    """Return what is given for an input: of one that stands for all parts of a kind, the list of their values."""
    given = asked[kind][place]
    _check_part(f"{kind}[{place}]", given, declared["id"], declared["property"])
    return [each.get("value") for each in given] if isinstance(given, list) else given.get("value")


def _check_part(field: str, given: object, id_: str, of: str) -> None:
    """Look whether what is given names a part of the page, or all parts of a kind, as a list."""
    wanted: Any = json.loads(id_) if id_.startswith("{") else id_
    is_one = isinstance(wanted, str) or not any(isinstance(each, list) for each in wanted.values())
    parts = [given] if is_one else given
    if not isinstance(parts, list):
        raise BadRequest(field, _found(given), "a list of parts")
    for part in parts:
        if not isinstance(part, dict) or part.get("property") != of or not _fits(part.get("id"), wanted):
            raise BadRequest(field, _found(part), f"{id_}.{of}")


def _fits(found: object, wanted: Any) -> bool:  # noqa: ANN401  # an id: a text, or texts by name, of which a list stands for any
    if not isinstance(wanted, dict):
        return found == wanted
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        return False
    return all(
        isinstance(found[name], str | int) if isinstance(each, list) else found[name] == each for name, each in wanted.items()
    )


def _check_outputs(outputs: object, declared: Any) -> None:  # noqa: ANN401  # Dash's Output, or a list of them
    """Look whether the answer is to go where the callback writes."""
    wanted = declared if isinstance(declared, list | tuple) else [declared]
    given = outputs if isinstance(declared, list | tuple) else [outputs]
    if not isinstance(given, list) or len(given) != len(wanted):
        raise BadRequest("outputs", _found(outputs), f"{len(wanted)} of them")
    for one, output in zip(given, wanted, strict=True):
        named = [
            {**each, "property": str(each.get("property")).partition("@")[0]} if isinstance(each, dict) else each
            for each in (one if isinstance(one, list) else [one])
        ]
        of = output.to_dict()
        _check_part("outputs", named if isinstance(one, list) else named[0], of["id"], of["property"].partition("@")[0])


def _check_changed(changed: object) -> None:
    """Look at the names of what has changed: Dash reads them when a callback asks what made it run."""
    for each in changed if isinstance(changed, list) else [changed]:
        id_ = each.rpartition(".")[0] if isinstance(each, str) else ""
        try:
            is_name = bool(id_) and (not id_.startswith("{") or isinstance(json.loads(id_), dict))
        except (ValueError, RecursionError):
            is_name = False
        if not is_name:
            raise BadRequest("changedPropIds", _found(each), "an id, a dot and a property")


def _check_values(callback: Mapping[str, Any], values: list[Any]) -> None:
    """Look whether a callback takes its values; one that the browser does not have (yet) is None, and nobody's fault."""
    places = callback["inputs_state_indices"]
    named, rest = _adapters(inspect.unwrap(callback["callback"]))
    if isinstance(places, dict):
        given = {name: map_grouping(values.__getitem__, inner) for name, inner in places.items()}
    else:
        inner = list(places) if isinstance(places, list | tuple) else [places]
        names = [*named, *(f"value {place}" for place in range(len(named), len(inner)))]
        given = {name: map_grouping(values.__getitem__, each) for name, each in zip(names, inner, strict=False)}
    for name, value in given.items():
        adapter = named.get(name, rest)
        try:
            if adapter is not None and value is not None:
                adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise BadRequest(name, _found(value), str(error.errors()[0]["msg"])) from error


@lru_cache(maxsize=256)
def _adapters(function: Any) -> tuple[dict[str, TypeAdapter[Any] | None], TypeAdapter[Any] | None]:  # noqa: ANN401  # any function
    """Return what checks each parameter, and those that have no name of their own; None of one that takes anything."""
    hints = get_type_hints(function)
    named: dict[str, TypeAdapter[Any] | None] = {}
    rest = None
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name, Any)
        adapter = None if hint in (Any, object) else TypeAdapter[Any](hint)
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = adapter
        else:
            named[name] = adapter
    return named, rest
