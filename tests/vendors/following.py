"""A live feed that is followed in a test: what it hands out, and where it paused, in simulated time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pytest

from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN, TIINGO_TOKEN
from fxcast.adapters.feeds.live import LiveFeed, LiveSettings
from fxcast.adapters.feeds.port import FeedCandles, Origin, QuoteFeed
from fxcast.domain.candle import to_datetime
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Refused
from tests.vendors import oanda, tiingo
from tests.vendors.script import Script
from tests.vendors.server import VendorServer

_PATIENCE_S = 60.0  # a busy machine is no failure


def know_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the credentials of the servers into the environment."""
    monkeypatch.setenv(OANDA_TOKEN, oanda.TOKEN)
    monkeypatch.setenv(OANDA_ACCOUNT, oanda.ACCOUNT)
    monkeypatch.setenv(TIINGO_TOKEN, tiingo.TOKEN)


class SimulatedClock:
    """A clock that only `advance` moves, and sleeping where it `moves`."""

    def __init__(self, now: datetime, *, moves: bool = False) -> None:
        self._now = now
        self._moves = moves
        self.slept_s: list[float] = []

    def now(self) -> datetime:
        return self._now

    def advance(self, time: timedelta) -> None:
        self._now += time

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        if self._moves:
            self.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)


@dataclass(kw_only=True)
class Followed:
    """What a feed handed out."""

    feed: LiveFeed
    clock: SimulatedClock
    parts: list[FeedCandles] = field(default_factory=list[FeedCandles])
    refusal: Refused | None = None  # that ended it

    def parts_of(self, symbol: str) -> list[FeedCandles]:
        return [part for part in self.parts if part.data.symbol == symbol]

    def open_times(self, symbol: str) -> list[datetime]:
        return [to_datetime(time) for part in self.parts_of(symbol) for time in part.data.open_times]

    def values(self, symbol: str) -> np.ndarray:
        return np.concatenate([part.data.candles.values for part in self.parts_of(symbol)])

    def details(self, symbol: str) -> np.ndarray:
        return np.concatenate([part.data.details for part in self.parts_of(symbol)])

    def count(self, origin: Origin) -> int:
        return sum(len(part.data) for part in self.parts if part.origin is origin)


def follow(
    vendor: QuoteFeed,
    script: Script,
    *,
    stop: datetime,
    clock: SimulatedClock,
    server: VendorServer | None = None,
    settings: LiveSettings | None = None,
    last_closes: dict[str, datetime | None] | None = None,
) -> Followed:
    """Run a feed until it has handed out, of every symbol, the last candle of the script that closes by `stop`, or is refused."""
    symbols = script.symbols
    wanted = {symbol: max(c.close_time for c in script.candles(symbol, stop) if c.close_time <= stop) for symbol in symbols}
    feed = LiveFeed(vendor, symbols, Timeframe("1m"), last_closes or {}, clock=clock, settings=settings, sleep=clock.sleep)
    followed = Followed(feed=feed, clock=clock)

    async def run() -> None:
        is_through = asyncio.Event()
        missing = set(wanted)

        async def emit(candles: FeedCandles) -> None:
            followed.parts.append(candles)
            close = to_datetime(candles.data.candles.close_times[-1])
            if server is not None:
                server.acknowledge(close)
            if close >= wanted[candles.data.symbol]:
                missing.discard(candles.data.symbol)
            if not missing:
                is_through.set()

        running = asyncio.create_task(feed.run(emit))
        waiting = asyncio.create_task(is_through.wait())
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if running.done():
            try:
                running.result()
            except Refused as error:
                followed.refusal = error
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    return followed
