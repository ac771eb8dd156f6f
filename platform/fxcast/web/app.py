"""The site as one ASGI app: FastAPI, Dash on it, and the gate before both."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from html import escape
from pathlib import Path

import structlog
from dash import Dash
from dash.backends._fastapi import FastAPIDashServer  # Dash publishes no other name of it
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import StreamingResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from fxcast.adapters.clock import SystemClock
from fxcast.serving.access import AccessControl
from fxcast.serving.database_urls import database_url
from fxcast.serving.middleware import AnswerBugs, LimitBody
from fxcast.serving.request_ids import RequestIds
from fxcast.web.cluster_jobs import ClusterJobs
from fxcast.web.gate import Gate
from fxcast.web.live import LOOK_S, Watch, marks_of
from fxcast.web.page import Page
from fxcast.web.reports import answer_reports
from fxcast.web.sessions import Sessions
from fxcast.web.shell import register_shell, shell, tell_of_a_bug
from fxcast.web.sources import Sources
from fxcast.web.updates import CheckUpdates

KEY_VARIABLE = "FXCAST_WEB_KEY"
TOKEN_VARIABLE = "FXCAST_TOKEN"  # noqa: S105  # the name of a variable

_ASSETS = Path(__file__).parent / "assets"
_INDEX = """<!DOCTYPE html>
<html lang="en"><head>{%metas%}<title>{%title%}</title>{%favicon%}
<link rel="stylesheet" href="{prefix}/static/fxcast.css"><script src="{prefix}/static/fxcast.js"></script>{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body></html>
"""
_SIGN_IN = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in to fxcast</title><link rel="stylesheet" href="{prefix}/static/fxcast.css"></head>
<body><main class="panel sign-in"><h1>Sign in to fxcast</h1>{problem}
<form method="post" action="{prefix}/login"><input type="hidden" name="next" value="{following}">
<label for="token">Token, of <code>python -m jobs.token --action create --name NAME --scopes view</code> (or trade, admin)</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Sign in</button></form></main></body></html>
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSetup:
    """What the site works with.

    Attributes:
        prefix: Path of the site, without a slash at its end.
        database_url: Ledger, forecasts, registry.
        store: Root of the candle store.
        api_url: Base URL of the forecast service.
        tokens_database_url: Where access tokens are; None lets this machine in, and nobody else.
        session_hours: How long somebody stays signed in.
        look_s: Pause between two looks for news.
        dashboard_url: Of the cluster that runs are started on; None for none.
        home: From which relative paths of runs are meant, their FXCAST_HOME.
    """

    prefix: str
    database_url: str
    store: str
    api_url: str
    tokens_database_url: str | None
    session_hours: float
    look_s: float = LOOK_S
    dashboard_url: str | None = None
    home: str = "."


def make_app(setup: WebSetup, pages: Sequence[Page]) -> ASGIApp:
    """Make the site; nothing is read before somebody looks, but for the access tokens."""
    clock = SystemClock()
    database = database_url("web", setup.database_url) or setup.database_url
    sources = Sources(
        database_url=database,
        store=setup.store,
        api_url=setup.api_url,
        api_token=os.environ.get(TOKEN_VARIABLE),
        clock=clock.now,
        home=setup.home,
        jobs=ClusterJobs(setup.dashboard_url, home=setup.home, store=setup.store, database_url=database)
        if setup.dashboard_url
        else None,
    )
    dash = _dash(setup.prefix, pages, sources)
    server = dash.server
    watch = Watch(lambda: marks_of(sources), look_s=setup.look_s)

    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    async def events() -> StreamingResponse:
        return StreamingResponse(watch.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    server.mount(f"{setup.prefix}/static", StaticFiles(directory=_ASSETS), name="static")
    server.add_api_route(f"{setup.prefix}/healthz", healthz)
    server.add_api_route(f"{setup.prefix}/events", events)
    server.add_route(f"{setup.prefix}/reports/{{kind}}/{{run_id}}/{{name:path}}", partial(answer_reports, sources))
    server.add_middleware(CheckUpdates, dash=dash)
    server.add_middleware(LimitBody)
    server.add_middleware(AnswerBugs)
    server.add_middleware(GZipMiddleware, minimum_size=2_000)
    tokens = _tokens(setup, clock)
    gate = Gate(
        server,
        prefix=setup.prefix,
        tokens=tokens,
        sessions=Sessions(_key(), lifetime=timedelta(hours=setup.session_hours)),
        clock=clock.now,
        sign_in_page=lambda problem, following: _sign_in_page(setup.prefix, problem, following),
        policy=lambda: _policy(dash),
    )
    return RequestIds(_WholePath(gate))


class _WholePath:
    """Let routes see the whole path: under Serve the prefix is a root path, which Starlette takes off and Dash does not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": ""}, receive, send)


class _Backend(FastAPIDashServer):
    """Dash on FastAPI, without its websocket: nothing here uses it, and it would ask nobody for a session."""

    websocket_capability = False


def _dash(prefix: str, pages: Sequence[Page], sources: Sources) -> Dash:
    named = {page.path: page for page in pages}
    dash = Dash(
        "fxcast",
        backend=_Backend,
        title="fxcast",
        update_title="",
        url_base_pathname=f"{prefix}/",
        assets_folder="",  # mounted above: Dash would look for it beside the program that runs
        use_pages=False,  # Dash's own, which would add a callback to answer for
        on_error=tell_of_a_bug,
        index_string=_INDEX.replace("{prefix}", prefix),
        suppress_callback_exceptions=True,  # the parts of a page come when it is opened
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    dash.layout = lambda: shell(named, prefix)
    register_shell(dash, named, prefix)
    for page in pages:
        page.register(dash, sources)
    return dash


def _policy(dash: Dash) -> str:
    """Return a policy that loads nothing from elsewhere and runs no script but the site's own.

    Dash adds scripts of its own to the page when it is first asked for, so this is made for each answer.
    """
    scripts = " ".join(dash.csp_hashes())
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {scripts}",
            "style-src 'self' 'unsafe-inline'",  # Plotly writes rules for its charts into the page
            "img-src 'self' data: blob:",  # Plotly's pictures of a chart, and the model's channels
            "connect-src 'self'",
            "font-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _tokens(setup: WebSetup, clock: SystemClock) -> AccessControl | None:
    url = database_url("tokens", setup.tokens_database_url)
    if url is None:
        log.warning("nobody signs in: everybody on this machine may do everything on the page, and nobody else anything")
        return None
    access = AccessControl(url, clock=clock.now)
    access.start()
    return access


def _key() -> str:
    key = os.environ.get(KEY_VARIABLE)
    if key:
        return key
    log.info("sessions end when this process does: the variable is not set", variable=KEY_VARIABLE)
    return secrets.token_urlsafe(32)


def _sign_in_page(prefix: str, problem: str, following: str) -> str:
    said = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return _SIGN_IN.format(prefix=prefix, problem=said, following=escape(following, quote=True))
