"""A window ends with the last candle that has closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fxcast.data.windows import known_at, window_at, window_ends
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

START = datetime(2017, 3, 6, tzinfo=UTC)


def hourly(bars: int) -> CandleSeries:
    closes = 1.1 + 0.001 * np.arange(bars, dtype=np.float64)
    return CandleSeries(
        symbol="EURUSD",
        timeframe=Timeframe("1h"),
        open_times=np.datetime64("2017-03-06T00:00:00", "s") + np.arange(bars) * np.timedelta64(3600, "s"),
        values=np.column_stack([closes, closes + 0.01, closes - 0.01, closes, np.ones(bars)]),
    )


def test_a_candle_is_known_from_its_close_on() -> None:
    series = hourly(5)
    assert len(known_at(series, START + timedelta(hours=3) - timedelta(seconds=1))) == 2
    assert len(known_at(series, START + timedelta(hours=3) - timedelta(microseconds=1))) == 2
    assert len(known_at(series, START + timedelta(hours=3))) == 3


def test_nothing_is_known_before_the_first_close() -> None:
    assert len(known_at(hourly(5), START + timedelta(minutes=59))) == 0


def test_a_window_holds_the_last_candles_oldest_first() -> None:
    window = window_at(hourly(10), START + timedelta(hours=7, minutes=30), bars=3)
    assert window.open_times.tolist() == hourly(10).open_times[4:7].tolist()


def test_a_window_that_reaches_before_the_first_candle_is_refused() -> None:
    with pytest.raises(BadCandles, match="2 known at 2017-03-06T02:30:00"):
        window_at(hourly(10), START + timedelta(hours=2, minutes=30), bars=3)


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(BadCandles, match="without a time zone"):
        known_at(hourly(3), START.replace(tzinfo=None))


def test_window_ends_leave_room_for_context_and_future() -> None:
    ends = window_ends(hourly(200), future_bars=16, start=10, stop=150)
    assert ends[0] - (CONTEXT_BARS - 1) == 10
    assert ends[-1] + 16 == 149
    assert (np.diff(ends) == 1).all()


def test_a_period_exactly_long_enough_has_one_window_end_and_a_shorter_one_none() -> None:
    assert window_ends(hourly(CONTEXT_BARS + 16), future_bars=16).tolist() == [CONTEXT_BARS - 1]
    assert window_ends(hourly(CONTEXT_BARS + 15), future_bars=16).tolist() == []
