"""The page on real sockets without Ray: uvicorn in a thread, and what it reads in a folder of the test's."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from sqlalchemy import text

from fxcast.adapters.storage.database import Database, migrate, open_database
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore
from fxcast.trading.engine import EngineConfig
from fxcast.web.app import WebSetup, make_app
from fxcast.web.pages import PAGES
from tests.integration.filled_database import fill_database
from tests.ports import free_port
from tests.waiting import wait_for

PREFIX = "/web"


@dataclass(kw_only=True)
class Site:
    """A site that a test can kill and start again at the same address.

    Args:
        folder: Its database and candles are below.
        tokens: Whether one has to sign in.
        api_url: Where a forecast service is; by default nothing listens there.
        dashboard_url: Of the cluster that runs are started on.
    """

    folder: Path
    tokens: bool = False
    port: int = field(default_factory=free_port)
    api_url: str = field(default_factory=lambda: f"http://127.0.0.1:{free_port()}")
    dashboard_url: str | None = None

    def __post_init__(self) -> None:
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.folder / 'fxcast.db'}"

    @property
    def candles(self) -> CandleStore:
        return CandleStore(self.folder / "store")

    def fill(self, *, until: int = 0) -> Database:
        """Make a database with rows in every table, and a store with the last weeks of the packaged candles.

        Args:
            until: Of the candles, counted from their end: −2 leaves the last two to be stored later.
        """
        migrate(self.database_url)
        database = open_database(self.database_url)
        fill_database(database, models=self.folder / "models")
        with database.begin() as connection:  # settings as an engine keeps them, in place of those that stand for any text
            connection.execute(text("UPDATE engine_settings SET content = :content"), {"content": EngineConfig().content})
        series = read_packaged_sample().series
        self.candles.append(series.slice(len(series) - 1000, len(series) + until))
        return database

    def start(self) -> None:
        """Start to serve."""
        setup = WebSetup(
            prefix=PREFIX,
            database_url=self.database_url,
            store=str(self.folder / "store"),
            api_url=self.api_url,
            tokens_database_url=self.database_url if self.tokens else None,
            session_hours=1.0,
            dashboard_url=self.dashboard_url,
            home=str(self.folder),
        )
        server = uvicorn.Server(uvicorn.Config(make_app(setup, PAGES), port=self.port, log_level="critical"))
        self._server, self._thread = server, threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: server.started)

    def stop(self) -> None:
        """End it as when its process is killed: open connections are cut."""
        assert self._server is not None
        assert self._thread is not None
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
