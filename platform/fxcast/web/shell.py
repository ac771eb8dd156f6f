"""What surrounds every page: navigation, theme, time zone, who is signed in, and whether what is shown is fresh."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import structlog
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update, set_props
from dash.development.base_component import Component

from fxcast.serving.request_ids import current_request_id
from fxcast.web.page import LIVE, THEME, ZONE, Page, labelled
from fxcast.web.roles import EVERYBODY, caller

_PAGE, _FAILURE = "page", "failure"
_UNKNOWN = "There is no such page. "

log = structlog.get_logger(__name__)


def shell(pages: Mapping[str, Page], prefix: str) -> Component:
    """Return the frame; made anew at each load, for whoever loads it."""
    who = caller.get()
    links = [
        dcc.Link(page.title, href=f"{prefix}/{page.path}", className="page-tab", id={"type": "tab", "path": page.path})
        for page in pages.values()
    ]
    signed = (
        [html.Span("this machine, no sign-in", className="who")]
        if who is EVERYBODY
        else [html.Span(f"{who.name} ({who.role.word})", className="who"), html.Button("Sign out", id="sign-out")]
    )
    return html.Div(
        [
            dcc.Location(id="url"),
            dcc.Store(id=LIVE, data={}),
            dcc.Store(id=ZONE, storage_type="local", data="UTC"),
            dcc.Store(id=THEME, storage_type="local"),
            dcc.Store(id="connection", data="connecting"),
            html.A("Skip to the page", href="#page", className="skip"),
            html.Header(
                [
                    html.Span("fxcast", className="brand"),
                    html.Nav(links, **labelled("pages")),
                    html.Div(
                        [
                            html.Span("connecting", id="freshness", role="status"),
                            html.Button("UTC", id="zone-switch", title="Show times in UTC or in this browser's zone"),
                            html.Button("Dark", id="theme-switch", title="Light or dark"),
                            *signed,
                        ],
                        className="tools",
                    ),
                ]
            ),
            html.Div(id=_FAILURE, role="alert"),
            html.Main(id=_PAGE, tabIndex=-1),
        ]
    )


def tell_of_a_bug(error: Exception) -> Any:  # noqa: ANN401  # Dash's own value
    """Log an error nobody expected, and say on the page that what it shows is not up to date."""
    # As text: structlog's own rendering prints the local variables of every frame.
    log.error("page failed", exception="".join(traceback.format_exception(error)))
    said = f"Something on this page failed, and is not up to date (request {current_request_id() or 'unknown'}; the log says why)."
    set_props(_FAILURE, {"children": html.Div(said, className="problem")})
    return no_update


def register_shell(app: Dash, pages: Mapping[str, Page], prefix: str) -> None:
    """Add the callbacks of the frame; what concerns the browser alone runs there, in assets/fxcast.js."""

    def show(path: str) -> tuple[Any, ...]:
        found = pages.get((path or "").removeprefix(prefix).strip("/"))
        here = ["page-tab here" if page is found else "page-tab" for page in pages.values()]
        if found is None:
            content = html.Section([html.P([_UNKNOWN, dcc.Link("To the first one", href=f"{prefix}/")])], className="panel")
        else:
            content = html.Div([html.H1(found.title), found.layout()])
        return None, content, *here

    tabs = [Output({"type": "tab", "path": page.path}, "className") for page in pages.values()]
    app.callback(Output(_FAILURE, "children"), Output(_PAGE, "children"), *tabs, Input("url", "pathname"))(show)
    for name, output, inputs, states in (
        ("theme", Output(THEME, "data"), Input("theme-switch", "n_clicks"), State(THEME, "data")),
        ("zone", Output(ZONE, "data"), Input("zone-switch", "n_clicks"), State(ZONE, "data")),
        ("paint", Output("theme-switch", "children"), Input(THEME, "data"), State("theme-switch", "children")),
        ("nameZone", Output("zone-switch", "children"), Input(ZONE, "data"), State("zone-switch", "children")),
        ("freshness", Output("freshness", "children"), Input("connection", "data"), State("freshness", "children")),
    ):
        app.clientside_callback(ClientsideFunction("fxcast", name), output, inputs, states)
