"""A series of candles: what is refused, and what its parts are."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from fxcast.domain.candle import Candle, CandleSeries, candle_problem, sound_rows, to_datetime
from fxcast.errors import BadCandles
from tests.factories import NOON, make_series

SERIES = make_series(bars=50, range_width=0.0002)
NAN, INF = float("nan"), float("inf")


def same(one: CandleSeries, other: CandleSeries) -> bool:
    alike = (one.symbol, one.timeframe) == (other.symbol, other.timeframe)
    return alike and np.array_equal(one.open_times, other.open_times) and np.array_equal(one.values, other.values)


@pytest.mark.parametrize(("start", "stop"), [(0, 50), (10, 30), (49, 50), (20, 20), (-5, 50), (30, 10), (40, 99)])
def test_a_slice_is_what_the_constructor_makes_of_the_same_candles(start: int, stop: int) -> None:
    part = SERIES.slice(start, stop)
    built = CandleSeries(
        symbol="EURUSD",
        timeframe=SERIES.timeframe,
        open_times=SERIES.open_times[start:stop],
        values=SERIES.values[start:stop],
    )
    assert type(part) is CandleSeries
    assert same(part, built)
    assert len(part) == len(built)
    assert repr(part) == repr(built)


def test_a_slice_is_a_series_like_any_other() -> None:
    part = SERIES.slice(10, 20)
    assert same(pickle.loads(pickle.dumps(part)), part)  # noqa: S301  # our own bytes
    assert same(replace(part, symbol="GBPUSD"), replace(SERIES, symbol="GBPUSD").slice(10, 20))
    assert same(part.slice(2, 5), SERIES.slice(12, 15))
    with pytest.raises(FrozenInstanceError):
        part.symbol = "GBPUSD"  # pyright: ignore[reportAttributeAccessIssue]  # what is tested


def test_what_is_changed_in_a_slice_is_checked_again() -> None:
    part = SERIES.slice(10, 20)
    values = part.values.copy()
    values[3, 1] = NAN
    with pytest.raises(BadCandles, match=r"candles\[3\]\.high"):
        replace(part, values=values)
    with pytest.raises(BadCandles, match=r"candles\[1\]\.open_time"):
        replace(part, open_times=part.open_times[::-1])


@pytest.mark.parametrize("index", [0, 7, -1])
def test_one_candle_of_a_series_is_what_the_constructor_makes_of_its_numbers(index: int) -> None:
    open_, high, low, close, volume = (float(value) for value in SERIES.values[index])
    at = to_datetime(SERIES.open_times[index])
    candle = SERIES.candle(index)
    assert candle == Candle(open_time=at, open=open_, high=high, low=low, close=close, volume=volume)
    assert {type(each) for each in (candle.open, candle.high, candle.low, candle.close, candle.volume)} == {float}
    assert candle.open_time.tzinfo is UTC
    assert pickle.loads(pickle.dumps(candle)) == candle  # noqa: S301  # our own bytes
    assert SERIES.close_time(index) == to_datetime(SERIES.close_times[index])
    with pytest.raises(BadCandles, match="above zero"):
        replace(candle, low=-1.0)


def test_a_position_beyond_the_series_has_no_candle() -> None:
    with pytest.raises(IndexError):
        SERIES.candle(50)
    with pytest.raises(IndexError):
        SERIES.close_time(-51)


def test_times_of_another_unit_are_the_same_moments() -> None:
    finer = replace(SERIES, open_times=SERIES.open_times.astype("datetime64[ms]"))
    assert finer.candle(5) == SERIES.candle(5)
    assert finer.slice(3, 9).close_time(-1) == SERIES.close_time(8)


def test_a_candle_becomes_known_a_timeframe_after_it_opens_through_a_change_of_clocks_too() -> None:
    series = make_series(bars=10, timeframe="4h", start=datetime(2024, 3, 30, 12, tzinfo=UTC))
    for position in range(len(series)):
        assert series.close_time(position) == series.candle(position).open_time + timedelta(hours=4)


_PRICES = (NAN, INF, -INF, -1.0, 0.0, 1e-9, 1e-8, 1.0, 1.1, 1e8, 1.1e8)


@pytest.mark.parametrize("volume", [0.0, 5.0, -1.0, NAN, INF])
def test_the_rule_for_many_candles_is_the_rule_for_one(volume: float) -> None:
    """Each price of a candle in turn takes every odd value, alone and with another."""
    rows = np.array(
        [
            (*(odd if place in {first, second} else plain for place, plain in enumerate((1.05, 1.1, 1.0, 1.05))), volume)
            for first in range(4)
            for second in range(4)
            for odd in _PRICES
        ]
    )
    alone = [candle_problem(*row.tolist()) is None for row in rows]
    assert sound_rows(rows).tolist() == alone
    assert any(alone) == (volume in {0.0, 5.0})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"symbol": "eurusd"}, "symbol: found 'eurusd'"),
        ({"values": SERIES.values[:10]}, r"values: found shape \(10, 5\)"),
        ({"open_times": np.repeat(SERIES.open_times[:1], 50)}, r"candles\[1\]\.open_time"),
    ],
)
def test_the_constructor_refuses_what_is_no_series(change: dict[str, Any], found: str) -> None:
    with pytest.raises(BadCandles, match=found):
        replace(SERIES, **change)


def test_a_candle_without_a_zone_is_refused() -> None:
    with pytest.raises(BadCandles, match="a time in UTC"):
        replace(SERIES.candle(0), open_time=NOON.replace(tzinfo=None))
