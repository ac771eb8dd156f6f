"""The one way to look at the past: what is known at a moment, and nothing later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fxcast.data.resample import resample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.market import concatenate, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles


def known_at(series: CandleSeries, moment: datetime) -> CandleSeries:
    """Return the candles that have closed at or before a moment."""
    closed = int(np.searchsorted(series.close_times, to_datetime64(moment), side="right"))
    return series.slice(0, closed)


def window_at(series: CandleSeries, moment: datetime, bars: int = CONTEXT_BARS) -> CandleSeries:
    """Return the last `bars` candles known at a moment, oldest first.

    Raises:
        BadCandles: If fewer are known.
    """
    closed = int(np.searchsorted(series.close_times, to_datetime64(moment), side="right"))
    if closed < bars:
        raise BadCandles("candles", f"{closed} known at {moment.isoformat()}", f"at least {bars}")
    return series.slice(closed - bars, closed)


def stored_window(
    store: CandleStore, symbol: str, timeframe: Timeframe, moment: datetime, bars: int = CONTEXT_BARS
) -> CandleSeries:
    """Return the last `bars` candles of a store that are known at a moment, oldest first; reads only the months it needs.

    They are read, or made of a shorter timeframe that divides theirs: of what is stored, whatever reaches furthest, and of those
    the longest. A candle made of shorter ones is known when the one that ends it is, or a later one: until then it may be growing,
    or the store may lack its end.

    Raises:
        BadCandles: If fewer are known, or the store holds neither the timeframe nor one that divides it (names what it holds).
    """
    source, first, last = _stored_source(store, symbol, timeframe, moment)
    parts = list[CandleSeries]()
    known = 0
    seen_until: datetime | None = None  # the close of the last shorter candle known
    for start, stop in _months_back(timeframe, first, min(moment, last)):
        data = store.read_market(symbol, source, start, stop)
        closed = known_at(data.candles, moment)
        if not len(closed):
            continue
        if seen_until is None:
            seen_until = to_datetime(closed.close_times[-1])
        parts.append(resample(data, timeframe, as_of=seen_until).complete.candles)
        known += len(parts[-1])
        if known >= bars:
            break
    if known < bars:
        raise BadCandles("candles", f"{known} of {symbol} {timeframe} known at {moment.isoformat()}", f"at least {bars}")
    whole = concatenate([without_details(part) for part in reversed(parts)]).candles
    return whole.slice(known - bars, known)


def stored_candles(store: CandleStore, symbol: str, timeframe: Timeframe, start: datetime, stop: datetime) -> CandleSeries:
    """Return the candles of a store that open at `start` or later and are known at `stop`; reads only the months it needs.

    They are read or made of shorter ones as in `stored_window`.

    Raises:
        BadCandles: If the store holds neither the timeframe nor one that divides it (names what it holds).
    """
    source = _stored_source(store, symbol, timeframe, stop)[0]
    # From an opening on: a candle whose first minutes were not read would have another open.
    opens = timeframe.opening(np.array([to_datetime64(start)]))[0]
    data = store.read_market(symbol, source, to_datetime(opens), stop)
    closed = known_at(data.candles, stop)
    seen_until = to_datetime(closed.close_times[-1]) if len(closed) else stop
    made = resample(data, timeframe, as_of=seen_until).complete.candles
    return made.slice(int(np.searchsorted(made.open_times, to_datetime64(start))), len(made))


def last_close(store: CandleStore, symbol: str, timeframe: Timeframe) -> datetime:
    """Return the moment of a store's latest knowledge: the close of the last candle that a window of the timeframe is made of.

    Raises:
        BadCandles: If the store holds neither the timeframe nor one that divides it.
    """
    return _stored_source(store, symbol, timeframe, datetime.max.replace(tzinfo=UTC))[2]


def _stored_source(store: CandleStore, symbol: str, timeframe: Timeframe, moment: datetime) -> tuple[Timeframe, datetime, datetime]:
    """Return the timeframe to make candles of, with the open of its first candle and the close of its last."""
    dividing = [stored for stored in store.timeframes(symbol) if timeframe.minutes % stored.minutes == 0]
    spans = [(stored, span) for stored in dividing if (span := store.span(symbol, stored)) is not None]
    if not spans:
        store.read(symbol, timeframe)  # says what there is
        raise BadCandles("series", f"no candle of {symbol} {timeframe}", "a series with candles")
    source, (first, last) = max(spans, key=lambda each: (min(each[1][1], moment), each[0].minutes))
    return source, first, last


def _months_back(timeframe: Timeframe, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield from the latest to the earliest the months from `first` to `last`, each from the open of the candle at its turn."""
    turn = last.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    stop = last
    while stop > first:
        start = to_datetime(timeframe.opening(np.array([to_datetime64(turn)]))[0])
        if start < stop:
            yield start, stop
        stop, turn = min(stop, start), (turn - timedelta(days=1)).replace(day=1)


def window_ends(series: CandleSeries, *, future_bars: int, start: int = 0, stop: int | None = None) -> NDArray[np.int64]:
    """Return the positions of candles that can end a training window inside [start, stop).

    Both the `CONTEXT_BARS` candles up to the position and the `future_bars` after it lie inside, so that windows of one
    period never touch another.
    """
    stop = len(series) if stop is None else stop
    return np.arange(start + CONTEXT_BARS - 1, stop - future_bars, dtype=np.int64)
