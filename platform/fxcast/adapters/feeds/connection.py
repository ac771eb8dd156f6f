"""One connection of a live feed, from the first message until it is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from fxcast.adapters.feeds.emitted import Emitted
from fxcast.adapters.feeds.live_settings import LiveSettings
from fxcast.adapters.feeds.port import FeedState, FeedStatus, Heartbeat, Origin, QuoteFeed
from fxcast.adapters.feeds.sound_quotes import Level, TradingHours
from fxcast.adapters.feeds.vendor_time import VendorTime
from fxcast.data.ticks import CandleBuilder, Fate, is_sound_quote, opening_of
from fxcast.domain.market import MarketCandles
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Disconnected, RateLimited, Unavailable
from fxcast.trading.ports import Clock

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]

_CLOCKS_DIFFER = timedelta(minutes=5)  # the vendor's, and the one by which candles were stored
_NAMED = 100  # candles that a list of the status holds: the latest
_NEVER = datetime.max.replace(tzinfo=UTC)
_FOREVER_AGO = datetime.min.replace(tzinfo=UTC)


class _Series:
    """What a connection knows of one symbol."""

    def __init__(self, symbol: str, timeframe: Timeframe) -> None:
        self.symbol = symbol
        self.builder = CandleBuilder(symbol, timeframe)
        self.level = Level()
        self.boundary = _NEVER  # candles that open before it come from the vendor's history, later ones from quotes
        self.asked_to: datetime | None = None  # history before it was handed out
        self.is_quoted = False
        self.partly_seen: set[datetime] = set()  # open times, before the boundary
        self.held: deque[MarketCandles] = deque()  # closed, not yet handed out
        self.news = asyncio.Event()

    @property
    def is_caught_up(self) -> bool:
        return self.asked_to is not None and self.asked_to >= self.boundary


class Connection:
    """Reads a vendor's quotes, and hands out candles.

    The candle under way when the connection begins is seen only in part. So is, of each symbol, the candle of its first quote: on
    connecting, a vendor may repeat an old one. Up to there everything comes from the vendor's history, before anything newer of
    that symbol is handed out; reading goes on meanwhile.

    Quotes and heartbeats that can't be believed (see `VendorTime.is_credible` and `Level`) are refused, and quotes of a time at
    which the market is closed are dropped. If a wrong time was believed nevertheless, all that comes is too late: a connection on
    which it is, for longer than a candle, is given up.

    Args:
        time: The vendor's time; skew and lag outlive the connection.
        status: Kept up to date.
        sleep: Waits for a number of seconds.
        is_again: Whether there was a connection before, so that this one counts as a reconnect.
    """

    def __init__(
        self,
        vendor: QuoteFeed,
        symbols: Sequence[str],
        timeframe: Timeframe,
        emitted: Emitted,
        *,
        time: VendorTime,
        status: FeedStatus,
        clock: Clock,
        settings: LiveSettings,
        sleep: Sleep,
        is_again: bool,
    ) -> None:
        self._vendor = vendor
        self._timeframe = timeframe
        self._emitted = emitted
        self._time = time
        self._status = status
        self._clock = clock
        self._settings = settings
        self._sleep = sleep
        self._is_again = is_again
        self._series = {symbol: _Series(symbol, timeframe) for symbol in symbols}
        self._hours = TradingHours()
        self._is_checked = False  # what is stored, as soon as the skew is known: a feed on a machine whose clock is wrong goes on
        self._due = _NEVER  # the watermark at which the next candles can close
        self._closed_to = _FOREVER_AGO  # candles that open before it are closed
        self._late_since: datetime | None = None  # by our clock; all quotes that came since were of closed candles
        self._malformed_in_a_row = 0
        self._asking = asyncio.Lock()  # one request at a time, and none in a pause that the vendor asks for
        self._began_s: float | None = None
        self._heard_s = 0.0

    @property
    def has_begun(self) -> bool:
        return self._began_s is not None

    @property
    def lived_s(self) -> float:
        """Seconds from the first message to the last."""
        return 0.0 if self._began_s is None else self._heard_s - self._began_s

    async def run(self) -> None:
        """Run until the connection is lost, which is always by an error.

        Raises:
            Unavailable: If a later try may do better.
            Refused: If only a person can mend it.
        """
        self._time.restart()
        messages = self._vendor.quotes(tuple(self._series))
        self._heard_s = asyncio.get_running_loop().time()
        steps = [self._read(messages), self._watch(), *(self._publish(series) for series in self._series.values())]
        tasks = [asyncio.create_task(step) for step in steps]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            try:
                async with self._emitted.lock:
                    pass  # a candle that is being handed out is noted first
            finally:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if isinstance(messages, AsyncGenerator):
                await messages.aclose()
            self._status.connected_at = None

    async def _watch(self) -> None:
        """Raise Disconnected when nothing has come for too long."""
        loop = asyncio.get_running_loop()
        while (rest_s := self._heard_s + self._settings.silence_s - loop.time()) > 0:
            await asyncio.sleep(rest_s)
        raise Disconnected(f"{self._vendor.name}: silent for {self._settings.silence_s:g} s")

    async def _read(self, messages: AsyncIterator[Tick | Heartbeat]) -> None:
        loop_time = asyncio.get_running_loop().time
        async for message in messages:
            self._heard_s = loop_time()
            now = self._status.last_message = self._clock.now()
            if self._began_s is None:
                self._begin(now)
            if isinstance(message, Tick):
                series = self._series.get(message.symbol)
                if series is None:
                    self._status.unexpected += 1
                    continue
                self._take(series, message, now)
            elif message.time is not None:
                self._take_time(message.time, now)
            else:
                self._time.advance_by_clock(now)
            if self._time.watermark >= self._due:
                self._close_candles()
        raise Disconnected(f"{self._vendor.name}: the connection ended")

    def _begin(self, now: datetime) -> None:
        self._began_s = self._heard_s
        self._status.reconnects += self._is_again
        self._status.connected_at = now
        self._status.problem = ""
        self._status.state = FeedState.BACKFILLING
        log.info("feed connected", vendor=self._vendor.name, symbols=list(self._series), timeframe=self._timeframe.name)

    def _bound(self, time: datetime) -> None:
        """Set all boundaries when the vendor first tells a time."""
        if self._due is not _NEVER:
            return
        boundary = opening_of(self._timeframe, time) + self._timeframe.duration
        for series in self._series.values():
            series.boundary = boundary
        self._close_candles()

    def _take(self, series: _Series, tick: Tick, now: datetime) -> None:
        """Count a quote of ours, and use it if it is sound."""
        status = self._status
        time = tick.time
        status.ticks += 1
        if not is_sound_quote(tick) or not self._time.is_credible(time, now):
            self._refuse(tick)
            return
        if not self._hours.is_open(time):
            status.closed_market_ticks += 1
            self._take_time(time, now)
            return
        if not series.level.follow(tick):
            self._refuse(tick, series.level.refused_in_a_row)
            return
        self._malformed_in_a_row = 0
        status.last_tick = time
        self._time.advance(time)
        if series.is_quoted:
            self._time.measure(time, now)
            if not self._is_checked:
                self._is_checked = True
                self._emitted.refuse_later_than(max(now, now - (self._time.skew or timedelta(0))) + _CLOCKS_DIFFER, now)
            self._watch_lateness(time, now)
        else:
            self._bound(time)
            self._extend(series, time)
        if time < series.boundary:
            series.partly_seen.add(opening_of(self._timeframe, time))
            return
        fate = series.builder.add(tick)
        if fate is Fate.DUPLICATE:
            status.duplicate_ticks += 1
        elif fate is Fate.LATE:
            status.late_ticks += 1
            self._dispute(series.symbol, time)

    def _extend(self, series: _Series, time: datetime) -> None:
        """Leave the candle of a symbol's first quote to the history: earlier quotes of it may have been missed."""
        series.is_quoted = True
        series.boundary = max(series.boundary, opening_of(self._timeframe, time) + self._timeframe.duration)
        series.news.set()
        self._show_progress()

    def _take_time(self, time: datetime, now: datetime) -> None:
        """Take the time of a message that is no quote, or none to be used."""
        if not self._time.is_credible(time, now):
            self._refuse(Heartbeat(time=time))
            return
        self._time.advance(time)
        self._bound(time)

    def _watch_lateness(self, time: datetime, now: datetime) -> None:
        """Raise Disconnected when the watermark has been ahead of all quotes for longer than a candle."""
        if time >= self._closed_to:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since > self._timeframe.duration:
            ahead = self._time.watermark
            self._time.forget()
            raise Disconnected(
                f"{self._vendor.name}: all quotes are late: it told {ahead.isoformat()}, and quotes {time.isoformat()}"
            )

    def _refuse(self, message: Tick | Heartbeat, of_symbol_in_a_row: int = 0) -> None:
        """Count a message, and raise Disconnected if too many in a row were refused, of all or of one symbol."""
        self._status.malformed += 1
        self._malformed_in_a_row += 1
        log.warning("message refused", vendor=self._vendor.name, message=repr(message))
        in_a_row = max(self._malformed_in_a_row, of_symbol_in_a_row)
        if in_a_row >= self._settings.max_malformed:
            raise Disconnected(f"{self._vendor.name}: {in_a_row} messages in a row were refused")

    def _dispute(self, symbol: str, time: datetime) -> None:
        candle = _name_of(symbol, opening_of(self._timeframe, time))
        log.warning("late quote", vendor=self._vendor.name, candle=candle)
        self._status.disputed = _with(self._status.disputed, [candle])

    def _close_candles(self) -> None:
        watermark = self._time.watermark
        self._closed_to = opening_of(self._timeframe, watermark)
        self._due = self._closed_to + self._timeframe.duration
        for series in self._series.values():
            closed = series.builder.close_before(watermark)
            if closed is not None:
                series.held.append(closed)
            series.news.set()

    async def _publish(self, series: _Series) -> None:
        """Hand out the candles of one symbol: those of the past first."""
        while True:
            await series.news.wait()
            series.news.clear()
            while (stop := self._stop_of_gap(series)) is not None:
                await self._catch_up(series, stop)
                series.asked_to = stop
                self._show_progress()
            while series.held and series.is_caught_up:
                await self._emitted.hand_out(series.held.popleft(), Origin.LIVE)

    def _stop_of_gap(self, series: _Series) -> datetime | None:
        """Return up to where history is to be asked for now: what is closed, before the boundary; None if it was."""
        stop = min(series.boundary, opening_of(self._timeframe, self._time.watermark))
        return stop if series.asked_to is None or series.asked_to < stop else None

    async def _catch_up(self, series: _Series, stop: datetime) -> None:
        """Hand out the vendor's candles from the last one known up to `stop`, page by page."""
        step = self._timeframe.duration
        start = self._emitted.last_close(series.symbol)
        if start is None:
            start = opening_of(self._timeframe, stop - self._settings.history)
        found = False
        while start < stop:
            page_stop = min(start + self._settings.page_candles * step, stop)
            if page_stop == stop:
                await self._sleep(self._settings.settle_s)
            candles = await self._history(series, start, page_stop)
            found |= await self._emitted.hand_out(candles, Origin.BACKFILL)
            start = page_stop
        if found:
            self._status.gaps_backfilled += 1
            log.info("gap backfilled", symbol=series.symbol, to=stop.isoformat())

    async def _history(self, series: _Series, start: datetime, stop: datetime) -> MarketCandles:
        """Ask until the vendor answers, and has every candle of which quotes were seen; not for ever for the latter."""
        pauses, tries = self._settings.pauses_s(), 0
        while True:
            try:
                async with self._asking:
                    try:
                        candles = await self._vendor.history(series.symbol, self._timeframe, start, stop)
                    except RateLimited as error:
                        self._note(series, error)
                        await self._sleep(max(error.retry_after_s, next(pauses)))
                        continue
            except Unavailable as error:
                self._note(series, error)
                await self._sleep(next(pauses))
                continue
            self._status.problem = ""
            have = set(candles.open_times.tolist())
            lacking = [time for time in series.partly_seen if start <= time < stop and time.replace(tzinfo=None) not in have]
            if not lacking:
                return candles
            if tries == self._settings.lacking_tries:
                named = [_name_of(series.symbol, time) for time in sorted(lacking)]
                log.warning("history lacks candles", vendor=self._vendor.name, candles=named)
                self._status.lacking = _with(self._status.lacking, named)
                return candles
            tries += 1
            await self._sleep(next(pauses))

    def _note(self, series: _Series, error: Exception) -> None:
        self._status.problem = str(error)
        log.warning("history failed", vendor=self._vendor.name, symbol=series.symbol, problem=str(error))

    def _show_progress(self) -> None:
        caught_up = all(series.is_caught_up for series in self._series.values())
        self._status.state = FeedState.LIVE if caught_up else FeedState.BACKFILLING


def _name_of(symbol: str, open_time: datetime) -> str:
    return f"{symbol} {open_time.isoformat()}"


def _with(names: list[str], more: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*names, *more]))[-_NAMED:]
