"""What the forecast service answers about a window, with pictures: asked once, however often and for whom it is drawn."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from fxcast.client import ForecastChoices, ForecastClient
from fxcast.data.store import CandleStore
from fxcast.data.windows import stored_window
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import UnexpectedAnswer
from fxcast.serving.schemas import PredictionBody
from fxcast.serving.seen import SeenBody

_FUTURES = 12
_REMEMBERED = 16
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants to look at.

    Attributes:
        model: Its version; None for whichever is in use.
        until: Close of the window's last candle.
        asked_at: When they asked; who asks again gets a new answer.
    """

    symbol: str
    timeframe: Timeframe
    model: str | None
    until: datetime
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A window, and what the service says of it.

    Attributes:
        pictures: PNG in base64 by channel.
    """

    asked: Asked
    window: CandleSeries
    forecast: PredictionBody
    pictures: dict[str, str]
    seen: SeenBody


class AskedForecasts:
    """Ask the service, and remember the last answers: theme and time zone are changed without a forecast.

    The number of samples and the seed are those of an engine's forecast, so that what is shown is what it trades on, and what
    the service stores is the same whoever asks first.
    """

    def __init__(self, client: ForecastClient, store: CandleStore) -> None:
        self._client = client
        self._store = store
        self._known: dict[Asked, Future[Look]] = {}
        self._lock = threading.Lock()
        self._close_of = lru_cache(maxsize=64)(self._read_close)

    def newest_close(self, symbol: str, timeframe: Timeframe) -> datetime | None:
        """Return when the last stored candle closed, None if there is none; reads it once for each candle that is stored."""
        part = self._store.newest_parts().get((symbol, timeframe))
        return None if part is None else self._close_of(symbol, timeframe, part)

    def look(self, asked: Asked) -> Look:
        """Return what the model sees.

        Raises:
            FxcastError: If the candles can't be read, or as `fxcast.client` lists; nothing is remembered then.
        """
        mine = Future[Look]()
        with self._lock:
            known = self._known.get(asked)
            if known is None:
                self._known[asked] = mine
                while len(self._known) > _REMEMBERED:
                    del self._known[next(iter(self._known))]
        if known is not None:
            return known.result()
        try:
            look = self._ask(asked)
        except BaseException as error:  # who waits for the same answer is told too
            with self._lock:
                self._known.pop(asked, None)
            mine.set_exception(error)
            raise
        mine.set_result(look)
        return look

    def _read_close(self, symbol: str, timeframe: Timeframe, _part: str) -> datetime | None:
        span = self._store.span(symbol, timeframe)
        return None if span is None else span[1]

    def _ask(self, asked: Asked) -> Look:
        window = stored_window(self._store, asked.symbol, asked.timeframe, asked.until)
        options = ForecastChoices(vision=True, futures=_FUTURES)
        if asked.model is not None:
            options["model_version"] = asked.model
        forecast = self._client.forecast(window, **options)
        if forecast.vision is None or forecast.seen is None:
            raise UnexpectedAnswer(_OK, "a forecast without pictures, as a service of an earlier release gives")
        return Look(asked=asked, window=window, forecast=forecast, pictures=forecast.vision, seen=forecast.seen)
