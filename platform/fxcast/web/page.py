"""What a page of the site is, and what its parts are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, ParamSpec, TypeVar

import structlog
from dash import Dash, html
from dash.development.base_component import Component

from fxcast.errors import FxcastError
from fxcast.web.sources import Sources
from fxcast.web.times import clock_time

# Stores of the shell, as ids for `Input` and `State`.
LIVE = "live"  # data: the marks of `live.marks_of`, which differ when something is new
ZONE = "zone"  # data: the IANA name of the reader's zone, or UTC
THEME = "theme"  # data: light or dark

CellT = str | Component | None
Parameters = ParamSpec("Parameters")
Shown = TypeVar("Shown")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page.

    Attributes:
        path: Below the site's prefix, without slashes; empty for the first one.
        title: In the navigation.
        layout: Makes its parts, when somebody comes.
        register: Adds its callbacks, once.
    """

    path: str
    title: str
    layout: Callable[[], Component]
    register: Callable[[Dash, Sources], None]


def named(id: str) -> dict[str, Any]:  # noqa: A002  # as Dash names it
    """Return the id of a part as an argument of it; of one without a name, nothing."""
    return {"id": id} if id else {}


def labelled(text: str) -> dict[str, Any]:
    """Return what a part is called to those who can't see it, as an argument of it."""
    return {"aria-label": text}


def panel(title: str, *children: Any, note: str = "", id: str = "") -> Component:  # noqa: A002  # as Dash names it
    """Return a part of a page with a heading, and a line under it that says what is shown."""
    head = [html.H2(title), *([html.P(note, className="note")] if note else [])]
    return html.Section([*head, *children], className="panel", **named(id))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[CellT]], *, empty: str, numbers: Sequence[str] = (), wide: Sequence[str] = ()
) -> Component:
    """Return a table, or a sentence where there is nothing to show.

    Args:
        columns: Headings.
        rows: Cells, a row each; None is shown as a dash.
        empty: What is said instead of no rows.
        numbers: Columns that are set flush right.
        wide: Columns of sentences, which are broken into lines.
    """
    if not rows:
        return html.P(empty, className="empty")
    classes = ["number" if column in numbers else "wide" if column in wide else "" for column in columns]
    head = html.Tr([html.Th(column, scope="col", className=each) for column, each in zip(columns, classes, strict=True)])
    body = [
        html.Tr([html.Td("—" if cell is None else cell, className=each) for cell, each in zip(row, classes, strict=True)])
        for row in rows
    ]
    return html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="scrolls", tabIndex=0)


def when(moment: datetime | None, zone: tzinfo) -> CellT:
    """Return a time as a cell; the exact one is in its title."""
    return None if moment is None else html.Time(clock_time(moment, zone), dateTime=moment.isoformat(), title=moment.isoformat())


def mark(text: str, kind: str) -> Component:
    """Return a word in a box: `good`, `bad`, `warn` or `plain`; the word says it, the colour only repeats it."""
    return html.Span(text, className=f"mark {kind}")


def loading(what: str) -> Component:
    """Return what stands where something is still being read."""
    return html.P(f"Reading {what} …", className="empty")


def problem(what: str, error: FxcastError) -> Component:
    """Return what is shown in place of what can't be read."""
    return html.Div(
        [html.Strong(f"{what} can't be read now: "), html.Span(str(error)), html.P("This page asks again by itself.")],
        className="problem",
        role="alert",
    )


def or_problem(what: str, show: Callable[Parameters, Shown]) -> Callable[Parameters, Shown | Component]:
    """Wrap what makes a part of a page: if its source does not answer, the part says so instead of showing old numbers."""

    def shown(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Shown | Component:
        try:
            return show(*args, **kwargs)
        except FxcastError as error:
            log.warning("not shown", what=what, problem=str(error))
            return problem(what, error)

    return shown
