"""A vendor without sockets: what each connection brings, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

import numpy as np

from fxcast.adapters.feeds.port import CandleFeed, FeedCandles, Heartbeat
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.market import MarketCandles, PriceSide, without_details
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Disconnected

PAST_PRICE = 1.0  # of all candles of the past, so that a test sees where a candle came from

Step = Tick | Heartbeat | Exception | Callable[[], None]


class QuotingVendor:
    """Implements `QuoteFeed`: each connection takes its steps and ends; the last one stays, silent.

    Args:
        connections: Steps; an error is raised, a function is called.
        past: Open times of the minutes that history has, by symbol.
        refusals: Errors that requests of history of a symbol raise, one each.
    """

    name = "quoting"
    malformed = 0

    def __init__(
        self,
        connections: Sequence[Sequence[Step]],
        past: dict[str, list[datetime]] | None = None,
        refusals: dict[str, list[Exception]] | None = None,
    ) -> None:
        self._connections = list(connections)
        self._past = past or {}
        self._refusals = refusals or {}
        self.connects = 0
        self.asked: list[tuple[str, datetime, datetime]] = []

    async def quotes(self, symbols: Sequence[str]) -> AsyncGenerator[Tick | Heartbeat]:
        del symbols
        self.connects += 1
        for step in self._connections[self.connects - 1]:
            await turns(20)  # whatever the step before set going is done
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Tick | Heartbeat):
                yield step
            else:
                step()
        if self.connects == len(self._connections):
            await asyncio.Event().wait()
        await turns(20)
        raise Disconnected("the connection ended")

    async def history(self, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> MarketCandles:
        self.asked.append((symbol, start, stop))
        if self._refusals.get(symbol):
            raise self._refusals[symbol].pop(0)
        open_times = [time for time in self._past.get(symbol, []) if start <= time < stop]
        candles = CandleSeries(
            symbol=symbol,
            timeframe=timeframe,
            open_times=np.array([to_datetime64(time) for time in open_times], dtype="datetime64[s]"),
            values=np.full((len(open_times), 5), PAST_PRICE),
        )
        return without_details(candles, PriceSide.MID)


async def turns(count: int) -> None:
    """Let everything else go on for a number of turns."""
    for _ in range(count):
        await asyncio.sleep(0)


class Collector:
    """Takes what a feed hands out."""

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        self._failures = list(failures)
        self.parts: list[FeedCandles] = []

    async def __call__(self, candles: FeedCandles) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.parts.append(candles)

    def origins(self, symbol: str) -> list[tuple[str, str]]:
        """Return the open time (as HH:MM) and origin of every candle of a symbol."""
        return [
            (f"{to_datetime(time):%H:%M}", part.origin.value)
            for part in self.parts
            if part.data.symbol == symbol
            for time in part.data.open_times
        ]


def run_until(feed: CandleFeed, emit: Collector, is_enough: Callable[[], bool]) -> None:
    """Run a feed until something is so, or it ends by itself; raises what it raises."""

    async def run() -> None:
        running = asyncio.create_task(feed.run(emit))
        async with asyncio.timeout(60):
            while not is_enough() and not running.done():
                await asyncio.sleep(0)
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
