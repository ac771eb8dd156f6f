"""A feed of candles that can be away."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime

from fxcast.adapters.feeds.port import FeedCandles, Origin
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.market import without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Disconnected


class Publisher:
    """A feed that stores candles and publishes them, and that can be away; a new follower gets what it missed from the store."""

    def __init__(self, store: CandleStore, timeframe: Timeframe) -> None:
        self._store = store
        self._timeframe = timeframe
        self._lock = threading.Lock()
        self._follower: queue.Queue[CandleSeries | None] | None = None
        self._away = False

    @property
    def is_followed(self) -> bool:
        return self._follower is not None

    def publish(self, candle: CandleSeries) -> None:
        with self._lock:
            self._store.append(candle)
            if self._follower is not None:
                self._follower.put(candle)

    def go_away(self) -> None:
        """End what follows it, as if its process had died; candles are stored all the same, as after a download."""
        with self._lock:
            self._away = True
            if self._follower is not None:
                self._follower.put(None)
            self._follower = None

    def come_back(self) -> None:
        self._away = False

    def subscribe(self, after: Mapping[str, datetime]) -> Iterator[FeedCandles]:
        with self._lock:
            if self._away:
                raise Disconnected("no feed runs")
            news = self._follower = queue.Queue[CandleSeries | None]()
            stored = {symbol: self._store.read(symbol, self._timeframe) for symbol in after}
        for symbol, series in stored.items():
            missed = series.slice(int((series.close_times <= to_datetime64(after[symbol])).sum()), len(series))
            if len(missed):
                yield FeedCandles(data=without_details(missed), origin=Origin.BACKFILL)
        while (candle := news.get()) is not None:
            yield FeedCandles(data=without_details(candle), origin=Origin.LIVE)
