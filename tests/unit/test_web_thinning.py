"""A chart's bars hold every candle once, however few they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe, timeframes
from fxcast.web.thinning import thin


def candles_at(steps: list[int], timeframe: Timeframe, seed: int, first: str = "2016-02-28T21:00:00") -> CandleSeries:
    """Make candles that lie so many steps apart, each."""
    places = np.cumsum(np.array(steps, dtype=np.int64))
    rng = np.random.default_rng(seed)
    prices = rng.uniform(1.0, 2.0, (len(steps), 4))
    values = np.column_stack(
        [prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, 1], rng.integers(0, 9, len(steps)).astype(float)]
    )
    opens = np.datetime64(first, "s") + places * timeframe.step
    return CandleSeries(symbol="EURUSD", timeframe=timeframe, open_times=opens, values=values)


@settings(deadline=None, max_examples=200)
@given(
    steps=st.lists(st.one_of(st.integers(1, 3), st.integers(1, 3_000)), min_size=0, max_size=120),
    timeframe=st.sampled_from(timeframes()),
    at_most=st.integers(1, 40),
    seed=st.integers(0, 1_000),
)
def test_bars_hold_every_candle_once_and_in_order(steps: list[int], timeframe: Timeframe, at_most: int, seed: int) -> None:
    series = candles_at(steps, timeframe, seed)
    bars = thin(series, at_most)
    assert len(bars) <= at_most
    assert int(bars.counts.sum()) == len(series)
    assert np.all(bars.counts >= 1)
    assert np.all(bars.open_times[1:] > bars.open_times[:-1])
    stop = 0
    for place, count in enumerate(bars.counts.tolist()):
        part = series.values[stop : stop + count]
        assert bars.open_times[place] == series.open_times[stop]
        expected = (part[0, 0], part[:, 1].max(), part[:, 2].min(), part[-1, 3], part[:, 4].sum())
        assert tuple(bars.values[place]) == expected
        stop += count
    assert bool(bars.length) == (len(series) > at_most)


def test_few_candles_stay_as_they_are() -> None:
    series = candles_at([1] * 40, Timeframe("1h"), 0)
    bars = thin(series, 40)
    assert np.array_equal(bars.values, series.values)
    assert np.array_equal(bars.open_times, series.open_times)
    assert bars.length == ""


@pytest.mark.parametrize(("at_most", "length", "count"), [(150, "10 minutes", 10), (100, "15 minutes", 15), (20, "2 hours", 120)])
def test_the_shortest_period_that_fits_is_taken(at_most: int, length: str, count: int) -> None:
    bars = thin(candles_at([0, *[1] * 1_439], Timeframe("1m"), 1, first="2016-02-29T22:00:00"), at_most)
    assert bars.length == length
    assert set(bars.counts.tolist()) == {count}


def test_a_bar_holds_the_same_candles_wherever_one_has_panned_to() -> None:
    series = candles_at([1] * 3_000, Timeframe("1m"), 2)
    whole, moved = thin(series, 310), thin(series.slice(137, 3_000), 310)
    assert whole.length == moved.length
    assert np.array_equal(whole.values[-200:], moved.values[-200:])
    assert np.array_equal(whole.open_times[-200:], moved.open_times[-200:])


def test_weeks_begin_on_sunday_at_five_in_new_york() -> None:
    series = candles_at([0, *[1] * 60], Timeframe("4h"), 3, first="2016-03-04T02:00:00")
    bars = thin(series, 3)
    assert bars.length == "1 week"
    assert [str(each) for each in bars.open_times] == ["2016-03-04T02:00:00", "2016-03-06T22:00:00", "2016-03-13T22:00:00"]


def test_no_bar_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        thin(candles_at([1], Timeframe("1h"), 0), 0)
