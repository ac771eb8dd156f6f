"""Candles from quotes, by the time of the quotes and not of their arrival."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum

import numpy as np

from fxcast.domain.candle import MAX_PRICE, MIN_PRICE, CandleSeries, to_datetime, to_datetime64
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Fate(Enum):
    """What became of a quote."""

    USED = "used"
    DUPLICATE = "duplicate"  # the same (time, bid, ask) was there before, in a candle still open
    LATE = "late"  # its candle is closed
    MALFORMED = "malformed"  # bid or ask is no price, or the ask lies below the bid


def is_sound_quote(tick: Tick) -> bool:
    """Tell whether bid and ask are finite prices in the range of any currency, and not crossed."""
    return MIN_PRICE <= tick.bid <= tick.ask <= MAX_PRICE  # False for NaN


def opening_of(timeframe: Timeframe, moment: datetime) -> datetime:
    """Return when the candle that holds a moment opens (UTC)."""
    return to_datetime(timeframe.opening(np.array([to_datetime64(moment)]))[0])


class CandleBuilder:
    """Turns quotes of one symbol into closed candles, each handed out once.

    Prices of a candle are the middle of bid and ask, its details hold both sides, the spread at its last quote, and as tick volume
    the number of distinct quotes. Quotes of a candle that is not yet closed may come in any order: the earliest is its open, the
    latest its close; of quotes of the same time, the first that came is the earliest. A time without quotes has no candle.

    The distinct quotes of the candles still open are kept in memory, about 300 bytes each.

    Attributes:
        duplicates, late, malformed: How many quotes met that `Fate`.
        disputed: Open times of the candles that late quotes belong to, in the order in which they came, each once.
    """

    __slots__ = ("_closed_to", "_current", "_due", "_open", "_symbol", "_timeframe", "disputed", "duplicates", "late", "malformed")

    def __init__(self, symbol: str, timeframe: Timeframe) -> None:
        self._symbol = symbol
        self._timeframe = timeframe
        self._open: dict[datetime, _OpenCandle] = {}
        self._current: _OpenCandle | None = None
        self._closed_to = _BEFORE_ALL
        self._due = _BEFORE_ALL  # when the next candle can close
        self.duplicates = 0
        self.late = 0
        self.malformed = 0
        self.disputed: dict[datetime, None] = {}

    def add(self, tick: Tick) -> Fate:
        """Take a quote of the symbol, and tell whether it is used."""
        _, time, bid, ask = tick
        if not MIN_PRICE <= bid <= ask <= MAX_PRICE:
            self.malformed += 1
            return Fate.MALFORMED
        candle = self._current
        if candle is None or not candle.open_time <= time < candle.close_time:
            candle = self._candle_of(tick)
            if candle is None:
                return Fate.LATE
        distinct = candle.distinct
        count = len(distinct)
        distinct.add(tick)
        if len(distinct) == count:
            self.duplicates += 1
            return Fate.DUPLICATE
        mid = (bid + ask) / 2
        if mid > candle.high:
            candle.high = mid
        if mid < candle.low:
            candle.low = mid
        if bid > candle.bid_high:
            candle.bid_high = bid
        if bid < candle.bid_low:
            candle.bid_low = bid
        if ask > candle.ask_high:
            candle.ask_high = ask
        if ask < candle.ask_low:
            candle.ask_low = ask
        if time >= candle.last.time:
            candle.last = tick
        elif time < candle.first.time:
            candle.first = tick
        return Fate.USED

    def close_before(self, moment: datetime) -> MarketCandles | None:
        """Close and return the candles that end at or before a moment, oldest first; None if there are none.

        Args:
            moment: The watermark: no quote of an earlier time is expected. One that goes back does nothing.
        """
        if moment < self._due:
            return None
        self._closed_to = opening_of(self._timeframe, moment)
        self._due = self._closed_to + self._timeframe.duration
        closed = sorted(open_time for open_time in self._open if open_time < self._closed_to)
        self._current = None
        return self._assembled([self._open.pop(open_time) for open_time in closed]) if closed else None

    def _candle_of(self, tick: Tick) -> _OpenCandle | None:
        """Return the candle that a quote belongs to, or None if it is closed."""
        open_time = opening_of(self._timeframe, tick.time)
        if open_time < self._closed_to:
            self.late += 1
            self.disputed[open_time] = None
            return None
        candle = self._open.get(open_time)
        if candle is None:
            candle = self._open[open_time] = _OpenCandle(open_time, open_time + self._timeframe.duration, tick)
        self._current = candle
        return candle

    def _assembled(self, candles: list[_OpenCandle]) -> MarketCandles:
        rows = np.array([candle.row() for candle in candles], dtype=np.float64)  # (candles, 4 + 11)
        values, details = rows[:, :4], rows[:, 4:]
        tick_volumes = details[:, DETAILS.index("tick_volume")]
        return MarketCandles(
            candles=CandleSeries(
                symbol=self._symbol,
                timeframe=self._timeframe,
                open_times=np.array([to_datetime64(candle.open_time) for candle in candles]),
                values=np.column_stack([values, tick_volumes]),
            ),
            side=PriceSide.MID,
            details=details,
        )


class _OpenCandle:
    """A candle in the making, from its first quote on."""

    __slots__ = (
        "ask_high",
        "ask_low",
        "bid_high",
        "bid_low",
        "close_time",
        "distinct",
        "first",
        "high",
        "last",
        "low",
        "open_time",
    )

    def __init__(self, open_time: datetime, close_time: datetime, tick: Tick) -> None:
        self.open_time = open_time
        self.close_time = close_time
        self.distinct: set[Tick] = set()
        self.first = self.last = tick
        self.high = self.low = (tick.bid + tick.ask) / 2
        self.bid_high = self.bid_low = tick.bid
        self.ask_high = self.ask_low = tick.ask

    def row(self) -> tuple[float, ...]:
        """Return open, high, low and close of the middle, then `DETAILS`."""
        first, last = self.first, self.last
        return (
            *((first.bid + first.ask) / 2, self.high, self.low, (last.bid + last.ask) / 2),
            *(first.bid, self.bid_high, self.bid_low, last.bid),
            *(first.ask, self.ask_high, self.ask_low, last.ask),
            *(last.ask - last.bid, len(self.distinct), float("nan")),
        )
