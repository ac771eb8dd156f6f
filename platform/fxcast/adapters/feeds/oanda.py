"""OANDA's v20 interface: a stream of prices, and candles with bid and ask.

Source: developer.oanda.com, v20 REST API, pages Pricing and Instrument.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import numpy as np

from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN, Credential
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
from fxcast.domain.market import MarketCandles
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Disconnected

_GRANULARITIES = {"1m": "M1", "5m": "M5", "15m": "M15", "1h": "H1", "4h": "H4", "1d": "D"}
_OK = 200
_PAGE = 4999  # candles; one request may ask for 5,000, and the vendor may count the one that opens at its end


class OandaFeed:
    """Implements `port.QuoteFeed` on OANDA's v20 interface.

    Args:
        token: Of a personal access.
        account: Its number; prices may differ by account.
    """

    name = "oanda"

    def __init__(self, token: Credential, account: Credential, settings: VendorSettings) -> None:
        self._account = account
        self._settings = settings
        self._token = token
        self._messages = MalformedMessages(self.name, settings.max_malformed)
        self._refusal = Refusal(
            self.name, (OANDA_TOKEN, OANDA_ACCOUNT), naming=("instrument",), pause_s=settings.rate_limit_pause_s
        )

    @property
    def malformed(self) -> int:
        """Messages that could not be read so far."""
        return self._messages.count

    async def quotes(self, symbols: Sequence[str]) -> AsyncGenerator[Tick | Heartbeat]:
        """See `QuoteFeed.quotes`. A price that can't be traded at is a sign of life, not a quote."""
        url = f"{self._settings.oanda_stream_url}/v3/accounts/{self._account.reveal()}/pricing/stream"
        parameters = {"instruments": ",".join(map(_instrument, symbols))}
        self._messages.end()
        try:
            async with (
                open_client(self._settings, self._headers(), endless=True) as client,
                client.stream("GET", url, params=parameters) as response,
            ):
                if response.status_code != _OK:
                    text = (await response.aread()).decode(errors="replace")
                    raise self._refusal.of(response.status_code, response.headers, text, symbols)
                async for line in response.aiter_lines():
                    if not line.strip():
                        continue
                    try:
                        message = _read(line)
                    except NOT_UNDERSTOOD as error:
                        self._messages.add(error)
                        continue
                    self._messages.end()
                    yield message
        except httpx.HTTPError as error:
            raise lost(self.name, error) from None
        raise Disconnected("oanda closed the stream")

    async def history(self, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> MarketCandles:
        """See `QuoteFeed.history`; asked for in pages of 4,999 candles."""
        url = f"{self._settings.oanda_rest_url}/v3/instruments/{_instrument(symbol)}/candles"
        past = _Past([], [], [])
        async with open_client(self._settings, self._headers()) as client:
            while start < stop:
                page_stop = min(start + _PAGE * timeframe.duration, stop)
                parameters = {
                    "granularity": _GRANULARITIES[timeframe.name],
                    "price": "BAM",
                    "from": _rfc3339(start),
                    "to": _rfc3339(page_stop),
                    "dailyAlignment": "17",
                    "alignmentTimezone": "America/New_York",
                }
                answer = await ask(client, url, parameters, self._refusal, symbol)
                try:
                    _add_complete(past, answer, start, page_stop)
                except NOT_UNDERSTOOD as error:
                    raise lost(self.name, error) from None
                start = page_stop
        return past_candles(symbol, timeframe, past.open_times, np.array(past.values), np.array(past.details))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.reveal()}", "Accept-Datetime-Format": "RFC3339"}


class _Past(NamedTuple):
    """Rows of candles, as `past_candles` takes them."""

    open_times: list[datetime]
    values: list[tuple[float, ...]]
    details: list[tuple[float, ...]]


def _instrument(symbol: str) -> str:
    return f"{symbol[:3]}_{symbol[3:]}"


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")


def _read(line: str) -> Tick | Heartbeat:
    """Read a line of the stream; raises one of NOT_UNDERSTOOD if it is no message."""
    message = json.loads(line)
    time = vendor_time(message["time"])
    match message["type"]:
        case "HEARTBEAT":
            return Heartbeat(time=time)
        case "PRICE":
            bids, asks = message["bids"], message["asks"]
            if not message.get("tradeable", True) or not bids or not asks:
                return Heartbeat(time=time)
            return Tick(message["instrument"].replace("_", ""), time, float(bids[0]["price"]), float(asks[0]["price"]))
        case other:
            raise ValueError(f"a message of type {other}")


def _add_complete(past: _Past, answer: Any, start: datetime, stop: datetime) -> None:  # noqa: ANN401 - JSON
    for candle in answer["candles"]:
        open_time = vendor_time(candle["time"])
        if not candle["complete"] or not start <= open_time < stop:
            continue
        bid, ask_, mid = (tuple(float(candle[side][price]) for price in "ohlc") for side in ("bid", "ask", "mid"))
        past.open_times.append(open_time)
        past.values.append((*mid, float(candle["volume"])))
        past.details.append((*bid, *ask_, ask_[3] - bid[3], float(candle["volume"]), float("nan")))
