"""The candles of a feed's actor as an engine's feed: as they close, with their windows."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from fxcast.adapters.backoff import backoff
from fxcast.adapters.feeds.port import FeedCandles, Origin
from fxcast.data.higher_timeframes import HigherTimeframes
from fxcast.data.store import CandleStore
from fxcast.data.windows import known_at
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.market import concatenate, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Unavailable
from fxcast.trading.ports import ClosedCandle

log = structlog.get_logger(__name__)

Subscribe = Callable[[Mapping[str, datetime]], Iterator[FeedCandles]]

_HISTORY = timedelta(days=60)  # before a window, for the longer candles: a hundred of four hours, and holidays


class SubscribedFeed:
    """Implements `trading.ports.Feed` on whatever publishes candles; while that is away, time goes on without candles.

    Args:
        subscribe: Begins to follow the feed after the given closes; raises Unavailable where it is not to be had, and ends or
            raises when it is gone. It is then called again, after a pause.
        store: The one that the feed writes into; windows begin in it.
        timeframes: Longer ones whose closed candles are handed out beside each window.
        begin: Of a symbol none of whose candles was handled before, those that close after it are new; by default those that are
            not stored yet when the iteration begins.
        poll_s: After so long without a candle, an empty tuple is yielded.
        advance: Is told each moment before its candles are handed out.
        lost: Is told when the feed is gone, and why; while it stays so for the same reason, once.
    """

    def __init__(
        self,
        subscribe: Subscribe,
        store: CandleStore,
        symbols: Sequence[str],
        timeframe: Timeframe,
        *,
        timeframes: Sequence[str] = (),
        begin: datetime | None = None,
        poll_s: float,
        advance: Callable[[datetime], object] = lambda _: None,
        lost: Callable[[str], object] = lambda _: None,
        pauses: Callable[[], Iterator[float]] = backoff,
    ) -> None:
        self._subscribe = subscribe
        self._store = store
        self._symbols = tuple(symbols)
        self._timeframe = timeframe
        self._timeframes = tuple(timeframes)
        self._begin_at = begin
        self._poll_s = poll_s
        self._advance = advance
        self._lost = lost
        self._pauses = pauses
        self._stopping = threading.Event()
        self._known: dict[str, CandleSeries] = {}
        self._higher: dict[str, HigherTimeframes] = {}
        self._closes: dict[str, datetime] = {}  # of the last candle stored or published
        self._came_to: dict[str, datetime] = {}  # of the last candle with a window
        self._waiting: dict[datetime, list[ClosedCandle]] = {}

    @property
    def symbols(self) -> tuple[str, ...]:
        return self._symbols

    def stop(self) -> None:
        """End the iteration, after the moment in hand."""
        self._stopping.set()

    def window(self, symbol: str, closed_at: datetime) -> CandleSeries | None:
        """Return the window of a stored candle, None if the store no longer holds enough of them."""
        stored = self._stored(symbol, closed_at)
        known = None if stored is None else known_at(stored, closed_at)
        return known.slice(len(known) - CONTEXT_BARS, len(known)) if known is not None and len(known) >= CONTEXT_BARS else None

    def closed_candles(self, *, after: Mapping[str, datetime]) -> Iterator[tuple[ClosedCandle, ...]]:
        """Yield what is stored already, and then candles as they are published; those of one moment together.

        Live candles are yielded as they come. Of a replay, where time waits, a moment is yielded when every symbol has come so far,
        or nothing comes any more.
        """
        for symbol in self._symbols:
            self._take(self._begin(symbol, after.get(symbol, self._begin_at)), None)
        yield from self._moments(everything=True)
        arrived: queue.Queue[FeedCandles] = queue.Queue()
        reader = threading.Thread(target=self._follow, args=(arrived,), name="subscription", daemon=True)
        reader.start()
        while not self._stopping.is_set():
            try:
                candles = arrived.get(timeout=self._poll_s)
            except queue.Empty:
                yield from self._moments(everything=True)
                yield ()
                continue
            waits = False
            while candles is not None:
                self._take(candles.data.candles, candles.traceparent)
                waits = waits or candles.origin is Origin.REPLAY
                candles = _next_of(arrived)
            yield from self._moments(everything=not waits)

    def _follow(self, arrived: queue.Queue[FeedCandles]) -> None:
        """Put what is published into the queue; begin again whenever the feed is gone."""
        pauses, told = self._pauses(), ""
        while not self._stopping.is_set():
            problem = "the feed has ended"
            try:
                for candles in self._subscribe(dict(self._closes)):
                    pauses, told = self._pauses(), ""
                    if candles.data.symbol in self._symbols and len(candles.data):
                        self._closes[candles.data.symbol] = to_datetime(candles.data.candles.close_times[-1])
                        arrived.put(candles)
                    if self._stopping.is_set():
                        return
            except Unavailable as error:
                problem = str(error)
            pause_s = next(pauses)
            log.warning("feed gone", problem=problem, pause_s=round(pause_s, 1))
            if problem != told:
                self._lost(problem)
            told = problem
            self._stopping.wait(pause_s)

    def _begin(self, symbol: str, handled: datetime | None) -> CandleSeries | None:
        """Prepare the windows of a symbol, and return the stored candles after those that were handled."""
        stored = self._stored(symbol, handled)
        if stored is None:
            return None
        last = stored if handled is None else known_at(stored, handled)
        if len(last):
            self._known[symbol] = last.slice(max(0, len(last) - CONTEXT_BARS), len(last))
            if self._timeframes:
                self._higher[symbol] = HigherTimeframes.of(last, self._timeframes)
        if len(stored):
            self._closes[symbol] = to_datetime(stored.close_times[-1])
        return stored.slice(len(last), len(stored))

    def _stored(self, symbol: str, closed_at: datetime | None) -> CandleSeries | None:
        """Return the stored candles, from as far before a moment (by default the last) as windows reach."""
        if not self._store.has(symbol, self._timeframe):
            return None
        span = self._store.span(symbol, self._timeframe)
        if span is None:
            return None
        last = span[1] if closed_at is None else closed_at
        reach = max(_HISTORY, 3 * CONTEXT_BARS * self._timeframe.duration)
        return self._store.read(symbol, self._timeframe, max(span[0], last - reach))

    def _take(self, series: CandleSeries | None, traceparent: str | None) -> None:
        if series is None:
            return
        for position in range(len(series)):
            one = self._taken(series.slice(position, position + 1), traceparent)
            if one is not None:
                self._waiting.setdefault(one.closed_at, []).append(one)
                self._came_to[one.window.symbol] = one.closed_at

    def _moments(self, *, everything: bool) -> Iterator[tuple[ClosedCandle, ...]]:
        """Yield what waits, moment by moment, as far as every symbol has come, or all of it."""
        come = [self._came_to.get(symbol) for symbol in self._symbols]
        reached = None if everything or None in come else min(moment for moment in come if moment is not None)
        if not everything and reached is None:
            return
        for closed_at in sorted(self._waiting):
            if reached is not None and closed_at > reached:
                return
            self._advance(closed_at)
            yield tuple(sorted(self._waiting.pop(closed_at), key=lambda each: each.window.symbol))

    def _taken(self, candle: CandleSeries, traceparent: str | None) -> ClosedCandle | None:
        """Take a new candle in; None while there are too few for a window."""
        symbol = candle.symbol
        known = self._known.get(symbol)
        joined = candle if known is None else concatenate([without_details(known), without_details(candle)]).candles
        window = joined.slice(max(0, len(joined) - CONTEXT_BARS), len(joined))
        self._known[symbol] = window
        if self._timeframes:
            before = self._higher.get(symbol)
            self._higher[symbol] = HigherTimeframes.of(candle, self._timeframes) if before is None else before.advanced_with(candle)
        if len(window) < CONTEXT_BARS:
            return None
        higher = self._higher[symbol].candles if self._timeframes else {}
        return ClosedCandle(window=window, higher=higher, traceparent=traceparent)


def _next_of(arrived: queue.Queue[FeedCandles]) -> FeedCandles | None:
    """Return what else is there by now."""
    try:
        return arrived.get_nowait()
    except queue.Empty:
        return None
