"""What serve_configs/web.yaml names: `import_path: fxcast.web.deployment:build`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from pydantic import Field, ValidationError
from ray import serve
from ray.serve import Application

from fxcast.adapters.storage.database import absolute_database_url, make_database_url
from fxcast.config import Settings, explain
from fxcast.data.store import absolute_location
from fxcast.errors import BadSetting
from fxcast.web.app import WebSetup, make_app
from fxcast.web.live import LOOK_S
from fxcast.web.pages import PAGES


class WebArgs(Settings):
    """`args` of the application; Serve's dashboard shows them, so a URL with a password goes into the environment (README)."""

    prefix: str = Field(default="/web", pattern="^/[a-z0-9-]+$", description="path of the site; the config's route_prefix")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="ledger, forecasts and registry")
    store: str = Field(default="runs/store", description="root of the candle store")
    api_url: str = Field(default="http://127.0.0.1:8000", description="base URL of the forecast service")
    tokens_database_url: str | None = Field(
        default=None, description="where the access tokens are; without it everybody on this machine may do everything"
    )
    session_hours: float = Field(default=12.0, gt=0, le=720, description="how long somebody stays signed in")
    look_s: float = Field(
        default=LOOK_S,
        gt=0,
        le=60,
        description="pause between two looks for news, while a page is open; an object store charges for each: 5 is enough there",
    )
    dashboard_url: str | None = Field(
        default="http://127.0.0.1:8265", description="Ray's dashboard of the cluster that runs are started on; null: none are"
    )


def build(args: dict[str, Any]) -> Application:
    """Bind the site.

    Args:
        args: The `args` of the config; see `WebArgs`.

    Raises:
        BadSetting: If an arg is unknown or out of range.
        BadSetup: If a database URL can't be read.
    """
    try:
        settings = WebArgs.model_validate(args)
    except ValidationError as error:
        raise BadSetting(f"args of the Serve config: {explain(error, WebArgs)}") from None
    setup = WebSetup(
        prefix=settings.prefix,
        database_url=_database(settings.database_url),
        store=absolute_location(settings.store),
        api_url=settings.api_url,
        tokens_database_url=None if settings.tokens_database_url is None else _database(settings.tokens_database_url),
        session_hours=settings.session_hours,
        look_s=settings.look_s,
        dashboard_url=settings.dashboard_url or None,
        home=os.environ.get("FXCAST_HOME") or str(Path.cwd()),
    )
    page: Any = serve.ingress(lambda: make_app(setup, PAGES))()  # Ray publishes no type for it
    deployment: Any = serve.deployment(page, name="WebPage")
    return cast("Application", deployment.bind())


def _database(url: str) -> str:
    make_database_url(url)
    return absolute_database_url(url)
