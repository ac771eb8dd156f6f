"""Closed candles from a vendor's quotes, and from its history for whatever time no quotes were seen.

A vendor's history may differ from its stream, so a candle may have other prices and another volume than if it had been seen live.
OANDA thins its stream to a few prices a second of an instrument, its candles need not be made of these alone: a high or a low may
be missing from the stream, and the tick volume be less. Tiingo's history has middle prices only, so its backfilled candles have
neither sides nor spread. `FeedCandles.origin` tells where candles came from; the store does not keep it. What is stored first
stays, and a later download of the same period names the differences.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from fxcast.adapters.feeds.connection import Connection, Sleep
from fxcast.adapters.feeds.emitted import Emitted
from fxcast.adapters.feeds.live_settings import LiveSettings
from fxcast.adapters.feeds.port import Emit, FeedState, FeedStatus, QuoteFeed
from fxcast.adapters.feeds.vendor_time import VendorTime
from fxcast.domain.calendar import is_open, next_open
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import RateLimited, Refused, Unavailable
from fxcast.trading.ports import Clock

__all__ = ["LiveFeed", "LiveSettings"]

log = structlog.get_logger(__name__)

LastCloses = Mapping[str, datetime | None] | Callable[[str], datetime | None]

_LONGEST_SLEEP_S = 900.0  # at the weekend: a machine that was suspended looks at the clock again


class LiveFeed:
    """Implements `port.CandleFeed` on a vendor.

    A candle is handed out when the vendor's time has passed its close; what was missed comes from the vendor's history, before
    anything newer of that symbol. A connection that is lost or silent is made anew, after pauses that grow until one was steady;
    what it left unfinished is dropped. While the market is closed, a lost connection waits for the week to open. If `emit` raises
    Unavailable, the same candles are handed out again later.

    Args:
        last_closes: The close of the last candle stored of a symbol, None where there is none; looked up when the feed starts.
        clock: Tells when messages arrive and whether the market is open; candles close by the vendor's time.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        vendor: QuoteFeed,
        symbols: Sequence[str],
        timeframe: Timeframe,
        last_closes: LastCloses,
        *,
        clock: Clock,
        settings: LiveSettings | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._vendor = vendor
        self._symbols = tuple(symbols)
        self._timeframe = timeframe
        self._last_closes = last_closes
        self._clock = clock
        self._settings = LiveSettings() if settings is None else settings
        self._sleep = sleep
        self._time = VendorTime(
            timedelta(seconds=self._settings.lateness_s),
            self._settings.skew_memory,
            max_ahead=self._settings.max_ahead,
            max_skew=self._settings.max_skew,
        )
        self._status = FeedStatus()
        self._was_connected = False
        self._unreadable = vendor.malformed  # of them, those that the status counts

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    @property
    def timeframe(self) -> Timeframe:
        return self._timeframe

    def status(self) -> FeedStatus:
        """Return what the feed says of itself; always the same object."""
        status, skew, lag = self._status, self._time.skew, self._time.lag
        status.clock_skew_s = None if skew is None else skew.total_seconds()
        status.lag_s = None if lag is None else lag.total_seconds()
        status.malformed += self._vendor.malformed - self._unreadable
        self._unreadable = self._vendor.malformed
        return status

    async def run(self, emit: Emit) -> None:
        """See `CandleFeed.run`; it has never no more to come.

        Raises:
            BadCandles: If a stored candle closes after now: at once if by a day, else when the vendor's time is known.
            Refused: As `CandleFeed.run`.
        """
        status = self._status
        pauses = self._settings.pauses_s()
        try:
            emitted = Emitted({symbol: self._last_close(symbol) for symbol in self._symbols}, emit, status)
            now = self._clock.now()
            emitted.refuse_later_than(now + self._settings.max_skew, now)
            while True:
                await self._wait_for_the_week()
                pauses = await self._connect_once(emitted, pauses)
        except Refused as error:
            status.state, status.problem = FeedState.REFUSED, str(error)
            log.error("feed refused", vendor=self._vendor.name, problem=str(error))
            raise
        except asyncio.CancelledError:
            status.state = FeedState.STOPPED
            raise
        except Exception as error:  # a bug: raised again, once the status says its class (its text may hold an address)
            status.state, status.problem = FeedState.FAILED, type(error).__name__
            raise

    async def _connect_once(self, emitted: Emitted, pauses: Iterator[float]) -> Iterator[float]:
        """Follow one connection and pause after it; return the pauses for the next."""
        self._status.state = FeedState.CONNECTING
        connection = Connection(
            self._vendor,
            self._symbols,
            self._timeframe,
            emitted,
            time=self._time,
            status=self._status,
            clock=self._clock,
            settings=self._settings,
            sleep=self._sleep,
            is_again=self._was_connected,
        )
        try:
            await connection.run()
        except Unavailable as error:
            self._was_connected |= connection.has_begun
            if connection.lived_s >= self._settings.steady_s:
                pauses = self._settings.pauses_s()
            pause_s = next(pauses)
            if isinstance(error, RateLimited):
                pause_s = max(pause_s, error.retry_after_s)
            self._status.state, self._status.problem = FeedState.WAITING, str(error)
            log.warning("feed lost", vendor=self._vendor.name, problem=str(error), pause_s=round(pause_s, 3))
            await self._sleep(pause_s)
        return pauses

    async def _wait_for_the_week(self) -> None:
        """Sleep until shortly before the market opens, if it is closed."""
        while not is_open(now := self._clock.now()):
            rest = next_open(now) - self._settings.wake_before_open - now
            if rest <= timedelta(0):
                return
            if self._status.state is not FeedState.MARKET_CLOSED:
                self._status.state = FeedState.MARKET_CLOSED
                log.info("market closed", vendor=self._vendor.name, opens=next_open(now).isoformat())
            await self._sleep(min(rest.total_seconds(), _LONGEST_SLEEP_S))

    def _last_close(self, symbol: str) -> datetime | None:
        return self._last_closes.get(symbol) if isinstance(self._last_closes, Mapping) else self._last_closes(symbol)
