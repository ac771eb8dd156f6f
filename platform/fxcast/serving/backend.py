"""What the API works with beside the models: registry, tokens, candle store and the forecasts that are kept."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.database import Database, answering, open_database
from fxcast.adapters.storage.predictions import list_inference_minutes, list_predictions
from fxcast.adapters.storage.registry import activate
from fxcast.data.store import CandleStore
from fxcast.data.windows import stored_window
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import NotFound
from fxcast.models.config import Preset
from fxcast.serving.access import Access, AccessControl, LoopbackAccess
from fxcast.serving.database_urls import database_url
from fxcast.serving.directory import ModelDirectory, ModelKey
from fxcast.serving.logs import log_to_serve
from fxcast.serving.online_widths import OnlineWidths
from fxcast.serving.prediction_log import PredictionLog
from fxcast.serving.prometheus import Gauges
from fxcast.serving.schemas import InferenceMinuteBody, MinutesQuery, PredictionsQuery, StoredPredictionBody

_FLUSH_TIMEOUT_S = 10.0  # inside graceful_shutdown_timeout_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSetup:
    """What an ingress works with; see `fxcast.serving.app.ServiceArgs`."""

    model_folder: Path | None
    database_url: str
    default_symbol: str
    default_timeframe: str | None
    preset: Preset | None
    timeout_s: float
    store: str
    tokens_database_url: str | None
    predictions_database_url: str | None
    metrics_database_url: str | None
    online_calibration: bool


class Backend:
    """Everything that an ingress reads and writes; opened in its replica."""

    def __init__(self, setup: ApiSetup) -> None:
        log_to_serve()
        self._setup = setup
        self._clock = SystemClock()
        self._store = CandleStore(setup.store)
        self._predictions_url = database_url("predictions", setup.predictions_database_url)
        self._metrics_url = database_url("metrics", setup.metrics_database_url)
        self._databases: dict[str, Database] = {}
        self._log: PredictionLog | None = None
        self._widths: OnlineWidths | None = None
        if self._predictions_url is not None:
            self._log = PredictionLog(self._predictions_url)
            self._log.start()
            if setup.online_calibration:
                self._widths = OnlineWidths(self._predictions_url, clock=self._clock.now)
                self._widths.start()
        self.directory = ModelDirectory(
            setup.model_folder,
            database_url=setup.database_url,
            default_symbol=setup.default_symbol,
            default_timeframe=setup.default_timeframe,
            preset=setup.preset,
            clock=self._clock.now,
        )
        self.directory.start()
        self._tokens: AccessControl | None = None
        tokens_url = database_url("tokens", setup.tokens_database_url)
        if tokens_url is not None:
            self._tokens = AccessControl(tokens_url, clock=self._clock.now)
            self._tokens.start()
        self.access: Access = self._tokens or LoopbackAccess()
        self._gauges = Gauges({} if self._log is None else {"predictions": self._log.counts}, self._read_at())
        self._gauges.start()

    def close(self) -> None:
        """Write what is left, and stop every thread."""
        self.directory.close(timeout_s=1.0)
        if self._widths is not None:
            self._widths.close(timeout_s=1.0)
        if self._tokens is not None:
            self._tokens.close(timeout_s=1.0)
        if self._log is not None:
            self._log.close(timeout_s=_FLUSH_TIMEOUT_S)
        self._gauges.close()

    def width_factors(self, key: ModelKey, window: CandleSeries) -> Mapping[int, float]:
        """Return what the online calibration says of a model's widths, by horizon."""
        if self._widths is None:
            return {}
        version = self.directory.version_of(key)
        return self._widths.factors(version, window.symbol, key.timeframe, to_datetime(window.close_times[-1]))

    def keep(self, prediction: LDM4TSPrediction) -> None:
        """Let a forecast be stored; returns at once."""
        if self._log is not None:
            self._log.add(prediction)

    def latest_window(self, symbol: str, timeframe: Timeframe) -> CandleSeries:
        """Return the last 100 candles of the store that have closed.

        Raises:
            BadCandles: If it has fewer.
        """
        return stored_window(self._store, symbol, timeframe, self._clock.now())

    def activate(self, version: str) -> None:
        """Put a model of the registry to use; raises DatabaseUnavailable if that does not answer."""
        with answering(self._setup.database_url):
            database = open_database(self._setup.database_url)
            try:
                activate(database, version)
            finally:
                database.dispose()
        self.directory.refresh()

    def predictions(self, wanted: PredictionsQuery) -> list[StoredPredictionBody]:
        """Return stored forecasts.

        Raises:
            NotFound: If the service keeps none.
            DatabaseUnavailable: If the database does not answer.
        """
        with self._kept(self._predictions_url, "predictions_database_url") as database:
            rows = list_predictions(database, **wanted.model_dump())
        return [StoredPredictionBody.model_validate(row) for row in rows]

    def inference_minutes(self, wanted: MinutesQuery) -> list[InferenceMinuteBody]:
        """Return minutes of inference; raises as `predictions`."""
        with self._kept(self._metrics_url, "metrics_database_url") as database:
            rows = list_inference_minutes(database, **wanted.model_dump())
        return [InferenceMinuteBody.model_validate(row) for row in rows]

    def _read_at(self) -> dict[str, Callable[[], datetime | None]]:
        read: dict[str, Callable[[], datetime | None]] = {}
        if self._setup.model_folder is None:
            read["model registry"] = self.directory.read_at
        if self._tokens is not None:
            read["access tokens"] = self._tokens.read_at
        if self._widths is not None:
            read["online widths"] = self._widths.read_at
        return read

    @contextmanager
    def _kept(self, url: str | None, arg: str) -> Generator[Database]:
        if url is None:
            raise NotFound(arg, "nothing in the args of the service", "a database where it keeps them")
        with answering(url):
            if url not in self._databases:
                self._databases[url] = open_database(url)
            yield self._databases[url]
