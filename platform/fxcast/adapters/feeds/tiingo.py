"""Tiingo's interface: a websocket of the best bid and ask, and candles of the middle.

Source: www.tiingo.com/documentation, pages Websockets/Forex and REST/Forex.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, time, timedelta

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from fxcast.adapters.feeds.credentials import TIINGO_TOKEN, Credential
from fxcast.adapters.feeds.port import Heartbeat
from fxcast.adapters.feeds.rest import (
    NOT_UNDERSTOOD,
    MalformedMessages,
    Refusal,
    VendorSettings,
    ask,
    lost,
    open_client,
    past_candles,
    vendor_time,
)
from fxcast.domain.candle import FloatArray, to_datetime, to_datetime64
from fxcast.domain.market import MarketCandles, no_details
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Disconnected
from fxcast.trading.ports import Clock

# Its candles of 4h and 1d do not begin at 17:00 New York: they are put together from hours.
_SOURCES = {"1m": "1m", "5m": "5m", "15m": "15m", "1h": "1h", "4h": "1h", "1d": "1h"}
_FREQUENCIES = {"1m": "1min", "5m": "5min", "15m": "15min", "1h": "1hour"}
_OK = 200
_PAGE_DAYS = 5  # 7,200 candles of a minute; an answer holds at most 10,000
_ALL_QUOTES = 5  # the threshold at which every change of the best bid or ask comes
_CLOSE_TIMEOUT_S = 0.5  # a server that went silent does not answer a good-bye either


class TiingoFeed:
    """Implements `port.QuoteFeed` on Tiingo's FX interface.

    Args:
        clock: Tells which candle of the past is still open: the vendor does not say.
    """

    name = "tiingo"

    def __init__(self, token: Credential, settings: VendorSettings, clock: Clock) -> None:
        self._token = token
        self._settings = settings
        self._clock = clock
        self._messages = MalformedMessages(self.name, settings.max_malformed)
        self._refusal = Refusal(self.name, (TIINGO_TOKEN,), naming=("ticker",), pause_s=settings.rate_limit_pause_s)

    @property
    def malformed(self) -> int:
        """Messages that could not be read so far."""
        return self._messages.count

    async def quotes(self, symbols: Sequence[str]) -> AsyncGenerator[Tick | Heartbeat]:
        """See `QuoteFeed.quotes`; heartbeats have no time."""
        subscription = {
            "eventName": "subscribe",
            "authorization": self._token.reveal(),
            "eventData": {"thresholdLevel": _ALL_QUOTES, "tickers": [symbol.lower() for symbol in symbols]},
        }
        self._messages.end()
        try:
            async with connect(
                self._settings.tiingo_stream_url,
                proxy=None,
                open_timeout=self._settings.connect_timeout_s,
                close_timeout=_CLOSE_TIMEOUT_S,
                logger=_silent_log(),
            ) as connection:
                await connection.send(json.dumps(subscription))
                async for text in connection:
                    try:
                        message = self._read(text, symbols)
                    except NOT_UNDERSTOOD as error:
                        self._messages.add(error)
                        continue
                    self._messages.end()
                    yield message
        except InvalidStatus as error:
            response = error.response
            raise self._refusal.of(response.status_code, response.headers, "", symbols) from None
        except (WebSocketException, OSError, TimeoutError) as error:
            raise lost(self.name, error) from None
        raise Disconnected("tiingo closed the connection")

    async def history(self, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> MarketCandles:
        """See `QuoteFeed.history`: prices of the middle only, without volume; asked for in pages of five days."""
        url = f"{self._settings.tiingo_rest_url}/tiingo/fx/{symbol.lower()}/prices"
        now = self._clock.now()
        last_close = min(stop + timeframe.duration, now)
        open_times: list[datetime] = []
        rows: list[tuple[float, ...]] = []
        page_start = datetime.combine(start.astimezone(UTC).date(), time(0), tzinfo=UTC)
        async with open_client(self._settings, {"Authorization": f"Token {self._token.reveal()}"}) as client:
            while page_start < last_close:
                page_stop = page_start + timedelta(days=_PAGE_DAYS)
                parameters = {
                    "startDate": page_start.date().isoformat(),
                    "endDate": page_stop.date().isoformat(),
                    "resampleFreq": _FREQUENCIES[_SOURCES[timeframe.name]],
                }
                answer = await ask(client, url, parameters, self._refusal, symbol)
                try:
                    for candle in answer:
                        open_time = vendor_time(candle["date"])
                        if page_start <= open_time < page_stop:
                            open_times.append(open_time)
                            rows.append((*(float(candle[name]) for name in ("open", "high", "low", "close")), 0.0))
                except NOT_UNDERSTOOD as error:
                    raise lost(self.name, error) from None
                page_start = page_stop
        candles = past_candles(symbol, Timeframe(_SOURCES[timeframe.name]), open_times, np.array(rows), no_details(len(rows)))
        return _within(_joined(candles, timeframe), start, stop, now)

    def _read(self, text: str | bytes, symbols: Sequence[str]) -> Tick | Heartbeat:
        """Read a message; raises one of NOT_UNDERSTOOD if it is none, and what an error of the vendor's means."""
        message = json.loads(text)
        kind = message["messageType"]
        if kind == "A":
            what, ticker, moment, _, bid, _, _, ask_ = message["data"]
            if what != "Q":
                raise ValueError(f"an update of type {what}")
            return Tick(ticker.upper(), vendor_time(moment), float(bid), float(ask_))
        if kind not in {"I", "H", "E"}:
            raise ValueError(f"a message of type {kind}")
        code = int(message["response"]["code"])
        if code != _OK:
            raise self._refusal.of(code, {}, str(message["response"].get("message")), symbols)
        if kind == "E":
            raise Disconnected("tiingo reported an error without a code")
        return Heartbeat(time=None)


def _silent_log() -> logging.Logger:
    """Return a log that never says what was sent, not even at DEBUG: the subscription holds the token."""
    silent = logging.getLogger(f"{__name__}.websocket")
    silent.setLevel(logging.WARNING)
    return silent


def _joined(candles: MarketCandles, timeframe: Timeframe) -> MarketCandles:
    """Put candles of an hour together to longer ones."""
    if candles.timeframe == timeframe:
        return candles
    if not len(candles):
        return past_candles(candles.symbol, timeframe, [], candles.candles.values, candles.details)
    opens, first = np.unique(timeframe.opening(candles.open_times), return_index=True)
    values = candles.candles.values
    last = np.append(first[1:], len(values)) - 1
    joined: FloatArray = np.column_stack(
        [
            values[first, 0],
            np.maximum.reduceat(values[:, 1], first),
            np.minimum.reduceat(values[:, 2], first),
            values[last, 3],
            np.add.reduceat(values[:, 4], first),
        ]
    )
    return past_candles(candles.symbol, timeframe, [to_datetime(moment) for moment in opens], joined, no_details(len(joined)))


def _within(candles: MarketCandles, start: datetime, stop: datetime, now: datetime) -> MarketCandles:
    """Return the candles that open in [start, stop) and are closed."""
    first, last = np.searchsorted(candles.open_times, [to_datetime64(start), to_datetime64(stop)])
    closed = np.searchsorted(candles.candles.close_times, to_datetime64(now), side="right")
    return candles.slice(int(first), max(int(first), min(int(last), int(closed))))
