"""Where the page reads: the candle store, the database and the forecast service's API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from fxcast.adapters.storage.database import Database, open_database, sqlite_file_identity
from fxcast.client import ForecastClient
from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe
from fxcast.web.cluster_jobs import ClusterJobs

_READY_TIMEOUT_S = 3.0
_FORECAST_TIMEOUT_S = 25.0  # the service gives a forecast up after 20 s, and Serve's proxy this site's own request after 30 s
_ACTIVATE_TIMEOUT_S = 120.0  # the service answers once a replica has loaded the model


class Sources:
    """What all pages read from; nothing of it is asked before somebody looks.

    Args:
        database_url: Ledger, forecasts, registry.
        store: Root of the candle store.
        api_url: Base URL of the forecast service.
        api_token: Secret of a token of scope forecast, if the service asks for one.
        clock: Tells the time, in UTC.
        home: From which relative paths of jobs are meant.
        jobs: Those of the cluster; None where no dashboard is named.
    """

    def __init__(
        self,
        *,
        database_url: str,
        store: str,
        api_url: str,
        api_token: str | None,
        clock: Callable[[], datetime],
        home: str = ".",
        jobs: ClusterJobs | None = None,
    ) -> None:
        self._database_url = database_url
        self._database: Database | None = None
        self._file: tuple[int, int] | None = None
        self._opening = threading.Lock()
        self.candles = CandleStore(store)
        headers = {} if api_token is None else {"Authorization": f"Bearer {api_token}"}
        self._api = httpx.Client(base_url=api_url, headers=headers, timeout=_READY_TIMEOUT_S, trust_env=False)
        self.forecasts = ForecastClient(
            api_url, api_token or "", timeout_s=_FORECAST_TIMEOUT_S, attempt_timeout_s=_FORECAST_TIMEOUT_S, retries=0
        )
        self.now = clock
        self.home = home
        self.jobs = jobs

    @property
    def database(self) -> Database:
        """The database, opened at the first look, and again after one that failed or once its file is another one.

        Raises:
            BadSetup: If it can't be reached, or is of another revision.
        """
        with self._opening:
            file = sqlite_file_identity(self._database_url)
            if self._database is not None and file != self._file:
                self._database.dispose()
                self._database = None
            if self._database is None:
                self._database, self._file = open_database(self._database_url), file
            return self._database

    def series(self) -> tuple[tuple[str, Timeframe], ...]:
        """Return the symbols and timeframes that have candles."""
        return tuple(sorted(self.candles.newest_parts(), key=lambda each: (each[0], each[1].minutes)))

    def service_problem(self) -> str:
        """Ask the forecast service whether a model is ready; say what is wrong, empty if nothing is."""
        try:
            answer = self._api.get("/readyz")
        except httpx.HTTPError as error:
            return f"no answer ({type(error).__name__})"
        return "" if answer.is_success else f"not ready ({answer.status_code})"

    def activate_model(self, version: str) -> str:
        """Ask the forecast service to put a registered model to use; say in its words what went wrong, empty if nothing did."""
        try:
            answer = self._api.post(f"/v1/models/{quote(version, safe='')}/activate", timeout=_ACTIVATE_TIMEOUT_S)
        except httpx.ConnectError as error:
            return f"the forecast service can't be reached ({error})"
        except httpx.HTTPError as error:
            return f"no answer ({type(error).__name__}): the registry shows whether it was done"
        return "" if answer.is_success else _refusal(answer)

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()
        self.forecasts.close()
        if self._database is not None:
            self._database.dispose()


def _refusal(answer: httpx.Response) -> str:
    """Return the words of a problem (RFC 9457), or of whatever else was answered."""
    try:
        said: Any = answer.json()
    except ValueError:
        said = None
    if isinstance(said, dict) and (words := [str(said[name]) for name in ("title", "detail") if said.get(name)]):
        return ": ".join(words)
    return f"{answer.status_code} {answer.reason_phrase}: {answer.text[:200]}"
