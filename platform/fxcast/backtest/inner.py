"""Shorter candles inside the traded ones: in which order their prices came."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from fxcast.backtest.spreads import candle_side
from fxcast.data.store import CandleStore
from fxcast.domain.candle import Candle, CandleSeries, to_datetime64
from fxcast.domain.instrument import default_instrument
from fxcast.domain.order import Fill, FillReason, Transaction
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from fxcast.trading.config import CandleSide
from fxcast.trading.fill_simulation import Book, observe

_BINARY_SLACK = 1e-3  # of a tick: prices are binary fractions


class InnerCandles:
    """Shorter candles of one symbol, and a count of the longer ones that were looked into.

    Attributes:
        series: The shorter candles.
        resolved: Longer candles that were seen from inside.
        missing: Those of which at least one shorter candle is not there; what it would have shown is unknown.
        inconsistent: Those whose shorter candles have other prices than they.

    Args:
        series: As for the attribute.
    """

    def __init__(self, series: CandleSeries) -> None:
        self.series = series
        self.resolved = 0
        self.missing = 0
        self.inconsistent = 0
        self._seconds = series.open_times.astype("datetime64[s]").astype(np.int64)
        self._step_s = series.timeframe.minutes * 60
        # Candles of one number follow each other without a gap.
        self._unbroken = np.cumsum(np.diff(self._seconds, prepend=self._seconds[:1]) != self._step_s)
        self._tick = float(default_instrument(series.symbol).tick) * (1 + _BINARY_SLACK)

    def of(self, candle: Candle, closed_at: datetime) -> tuple[tuple[Candle, datetime], ...]:
        """Return the shorter candles that make up a longer one, oldest first, each with its close; none if they don't.

        They do if none is missing, the first opens and the last closes as the longer one, and the highest high and the lowest low
        are its own, each within a tick.

        Raises:
            BadCandles: If the candle is not longer.
        """
        opens_s, closes_s = _seconds(candle.open_time), _seconds(closed_at)
        if closes_s - opens_s <= self._step_s:
            found = f"a candle from {candle.open_time} to {closed_at}"
            raise BadCandles("candle", found, f"one that is longer than {self.series.timeframe}")
        first, after = (int(place) for place in np.searchsorted(self._seconds, [opens_s, closes_s]))
        if not self._whole(first, after, opens_s, closes_s):
            self.missing += 1
            return ()
        if not self._agrees(candle, first, after):
            self.inconsistent += 1
            return ()
        self.resolved += 1
        parts = (self.series.candle(place) for place in range(first, after))
        return tuple((part, part.open_time + self.series.timeframe.duration) for part in parts)

    def _whole(self, first: int, after: int, opens_s: int, closes_s: int) -> bool:
        return (
            first < after
            and int(self._seconds[first]) == opens_s
            and int(self._seconds[after - 1]) + self._step_s == closes_s
            and bool(self._unbroken[first] == self._unbroken[after - 1])
        )

    def _agrees(self, candle: Candle, first: int, after: int) -> bool:
        values = self.series.values[first:after]
        pairs = (
            (values[0, 0], candle.open),
            (values[:, 1].max(), candle.high),
            (values[:, 2].min(), candle.low),
            (values[-1, 3], candle.close),
        )
        return all(abs(float(inside) - outside) <= self._tick for inside, outside in pairs)


def observe_inside(
    book: Book, symbol: str, candle: Candle, closed_at: datetime, inner: InnerCandles | None
) -> tuple[tuple[Candle, Book, tuple[Transaction, ...]], ...]:
    """Work a closed candle through the paper market, from inside where that matters and shorter candles are there.

    It matters where the candle, worked alone, fills or ends something after its open: at a stop, a target, by a late order, for
    lack of margin. Elsewhere the shorter ones are not asked, and nothing is counted; so most candles cost no more than without
    them. An order made at a close fills at the first shorter candle's open, which is the longer one's: results differ only inside.

    Returns:
        What was observed, oldest first: the shorter candles, or else the candle; each with the book after it, and what happened.
        When nothing of the symbol is held or waits any more, all but the last of the shorter candles are passed over.
    """
    after, transactions = observe(book, symbol, candle, closed_at)
    alone = ((candle, after, transactions),)
    parts = () if inner is None or _open_decides(book, after, candle, transactions) else inner.of(candle, closed_at)
    if not parts:
        return alone
    steps: list[tuple[Candle, Book, tuple[Transaction, ...]]] = []
    for part, part_closed_at in parts:
        if part_closed_at < closed_at and not _has_business(book, symbol):
            continue
        book, happened = observe(book, symbol, part, part_closed_at)
        steps.append((part, book, happened))
    return tuple(steps)


def inner_series(store: CandleStore, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> CandleSeries | None:
    """Return the longest shorter candles in the store that can lie inside those of a timeframe, None if there are none.

    Their length divides the timeframe's, and they are of the same price as far as both are stated.

    Args:
        start, stop: The period; shorter candles need not cover all of it, but some.

    Raises:
        BadCandles: If the store holds no candles of the timeframe (names what it holds), or a time has no zone.
    """
    side = candle_side(store, symbol, timeframe)
    for shorter in reversed(store.timeframes(symbol)):
        if shorter.minutes >= timeframe.minutes or timeframe.minutes % shorter.minutes:
            continue
        # The first candle that closes in the period opened before it.
        data = store.read_market(symbol, shorter, start - timeframe.duration, stop)
        if len(data) and _same(side, candle_side(store, symbol, shorter)):
            return data.candles
    return None


def _open_decides(before: Book, after: Book, candle: Candle, transactions: tuple[Transaction, ...]) -> bool:
    """Tell whether all that a candle did was done at its open, so that what came later in it does not matter."""
    fills = [each for each in transactions if isinstance(each, Fill)]
    asked_for = sum(each.reason is FillReason.MARKET for each in fills)
    cancelled = len(before.working) - len(after.working) - asked_for
    return not cancelled and all(each.filled_at == candle.open_time for each in fills)


def _has_business(book: Book, symbol: str) -> bool:
    return symbol in book.positions or any(each.intent.symbol == symbol for each in book.working.values())


def _same(side: CandleSide | None, other: CandleSide | None) -> bool:
    return side is None or other is None or side is other


def _seconds(moment: datetime) -> int:
    return int(to_datetime64(moment).astype(np.int64))
