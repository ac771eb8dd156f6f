"""What is wrong with candles that are sound one by one is found, and what a market does is not."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from fxcast.data.checks import (
    SPIKE_Z,
    Coverage,
    decimal_levels,
    far_off,
    find_frozen,
    find_jumps,
    find_spikes,
    find_volume_outliers,
    measure_coverage,
    spike_scores,
)
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime
from fxcast.domain.timeframe import Timeframe
from tests.factories import make_series

HOUR = np.timedelta64(3600, "s")
MINUTE = np.timedelta64(60, "s")


def walk(bars: int = 500, *, seed: int = 0) -> FloatArray:
    """Candles of a quiet market, (bars, 5)."""
    return make_series(bars=bars, volatility=0.0002, range_width=0.0002, seed=seed).values.copy()


def series(values: FloatArray, timeframe: str = "1h", first: str = "2017-03-07T00:00") -> CandleSeries:
    """Candles of open hours one after the other."""
    step = Timeframe(timeframe).step
    grid = np.datetime64(first, "s") + np.arange(3 * len(values) + 500) * step
    times = Timeframe(timeframe).opening(grid)
    times = np.unique(times[open_mask(times)])[: len(values)]
    return CandleSeries(symbol="EURUSD", timeframe=Timeframe(timeframe), open_times=times, values=values)


def open_times(first: str, last: str, step: np.timedelta64 = HOUR) -> TimeArray:
    grid = np.arange(np.datetime64(first, "s"), np.datetime64(last, "s"), step)
    return grid[open_mask(grid)]


def coverage(times: TimeArray, timeframe: str = "1h") -> Coverage:
    return measure_coverage(times, Timeframe(timeframe))


def without(times: TimeArray, *missing: str) -> TimeArray:
    return np.setdiff1d(times, np.array(missing, dtype="datetime64[s]"))


# Spikes


def test_a_quiet_market_has_no_spike() -> None:
    assert find_spikes(series(walk())) == ()


@pytest.mark.parametrize(("column", "price"), [(1, 1.15), (2, 1.05)])
def test_a_candle_that_sticks_out_of_both_neighbours_is_a_spike(column: int, price: float) -> None:
    values = walk()
    values[250, column] = price
    [spike] = find_spikes(series(values))
    assert (spike.time, spike.price) == (to_datetime(series(values).open_times[250]), price)
    assert spike.z > SPIKE_Z


def test_news_that_stays_is_no_spike() -> None:
    values = walk()
    values[250:, :4] *= 1.02
    assert find_spikes(series(values)) == ()


def test_a_long_candle_that_one_neighbour_shares_is_no_spike() -> None:
    values = walk()
    values[250:252, 1] += 0.03  # the move lasts two candles
    assert spike_scores(values)[[250, 251]].max() < 1


def test_a_spike_is_measured_by_the_range_around_it() -> None:
    values = np.concatenate([walk(300), walk(300, seed=1)])
    centre = values[300:, :4].mean()
    values[300:, :4] = centre + (values[300:, :4] - centre) * 30  # a market thirty times as lively
    height = 0.02
    values[100, 1] = values[[99, 101], 1].max() + height
    values[500, 1] = values[[499, 501], 1].max() + height
    scores = spike_scores(values)
    assert scores[100] > 10 * scores[500] > 0


def test_in_a_frozen_market_a_point_is_no_spike() -> None:
    values = np.full((300, 5), 1.1)
    values[150, 1] += 0.00001
    assert find_spikes(series(values)) == ()
    values[150, 1] += 0.01
    assert len(find_spikes(series(values))) == 1


@pytest.mark.parametrize("bars", [0, 1, 2])
def test_too_few_candles_have_neither_spikes_nor_anything_far_off(bars: int) -> None:
    assert spike_scores(walk(3)[:bars]).tolist() == [0.0] * bars
    assert far_off(walk(3)[:bars]).tolist() == [False] * bars


@pytest.mark.parametrize(("column", "factor"), [(1, 10), (1, 1.6), (2, 0.1), (2, 0.6)])
def test_a_decimal_point_gone_wrong_is_far_off(column: int, factor: float) -> None:
    values = walk(20)
    values[10, column] *= factor
    assert np.flatnonzero(far_off(values)).tolist() == [10]


def test_neighbours_that_differ_themselves_accuse_nobody() -> None:
    values = walk(20)
    values[10:, :4] *= 10  # a redenomination, or another unit from here on
    assert not far_off(values).any()


def test_levels_count_the_powers_of_ten_and_not_what_the_market_moves() -> None:
    values = walk(20)
    values[5:8, :4] *= 10
    values[12:, :4] *= 0.0012
    values[15, 1] *= 100
    levels, broken = decimal_levels(values)
    assert levels.tolist() == [0] * 5 + [1] * 3 + [0] * 4 + [-3] * 8
    assert np.flatnonzero(broken).tolist() == [15]


@pytest.mark.parametrize("bars", [0, 1])
def test_of_one_candle_or_none_nothing_jumps(bars: int) -> None:
    assert decimal_levels(walk(2)[:bars])[0].tolist() == [0] * bars
    assert find_jumps(series(walk(2)[:bars])) == ()


@pytest.mark.parametrize(("factor", "jumps"), [(1.6, 1), (0.6, 1), (2.5, 1), (1.4, 0), (0.7, 0)])
def test_a_close_half_again_as_high_as_the_one_before_is_a_jump(factor: float, jumps: int) -> None:
    values = walk(20)
    values[10:, :4] *= factor
    found = find_jumps(series(values))
    assert [(jump.time, jump.before, jump.after) for jump in found] == [
        (to_datetime(series(values).open_times[10]), values[9, 3], values[10, 3])
    ] * jumps


# Frozen prices and odd volumes


def flat(values: FloatArray, start: int, bars: int) -> FloatArray:
    values[start : start + bars, :4] = values[start, 3]
    return values


@pytest.mark.parametrize(("timeframe", "enough"), [("1m", 30), ("5m", 6), ("15m", 3), ("1h", 3), ("1d", 3)])
def test_half_an_hour_at_one_price_is_frozen_and_three_candles_at_least(timeframe: str, enough: int) -> None:
    [run] = find_frozen(series(flat(walk(200), 100, enough), timeframe))
    assert (run.bars, run.start) == (enough, to_datetime(series(walk(200), timeframe).open_times[100]))
    assert find_frozen(series(flat(walk(200), 100, enough - 1), timeframe)) == ()


def test_two_prices_are_two_runs() -> None:
    values = flat(flat(walk(200), 100, 4), 104, 5)
    assert values[103, 3] != values[104, 3]
    assert [run.bars for run in find_frozen(series(values))] == [4, 5]


def test_flat_candles_of_the_closed_market_are_not_frozen() -> None:
    saturday = np.datetime64("2017-03-11T00:00", "s") + np.arange(20) * HOUR
    still = CandleSeries(symbol="EURUSD", timeframe=Timeframe("1h"), open_times=saturday, values=np.full((20, 5), 1.1))
    assert find_frozen(still) == ()


def test_a_volume_is_odd_by_what_is_usual_at_its_hour() -> None:
    values = walk(24 * 40)
    times = series(values).open_times
    hours = times.astype(np.int64) // 3600 % 24
    busy = np.where((hours >= 7) & (hours < 17), 5000.0, 50.0)
    values[:, 4] = busy * np.exp(np.random.default_rng(0).normal(0, 0.2, len(values)))
    assert find_volume_outliers(series(values)) == ()
    night, noon = int(np.flatnonzero(hours == 2)[10]), int(np.flatnonzero(hours == 12)[10])
    values[night, 4], values[noon, 4] = 5000, 50
    found = find_volume_outliers(series(values))
    assert [(each.volume, each.z > 0) for each in sorted(found, key=lambda each: each.volume)] == [(50, False), (5000, True)]


def test_a_series_without_volume_has_no_odd_one() -> None:
    values = walk()
    values[:, 4] = 0
    assert find_volume_outliers(series(values)) == ()


# Coverage


def test_a_complete_month_misses_nothing() -> None:
    found = coverage(open_times("2017-03-01", "2017-04-01"))
    assert (found.missing, found.gaps, found.empty_days, found.holes) == (0, (), (), ())
    assert set(found.by_session.values()) == {100.0}


def test_a_gap_begins_at_its_first_missing_candle_and_ignores_the_weekend() -> None:
    times = without(open_times("2017-03-01", "2017-04-01"), "2017-03-03T20:00", "2017-03-03T21:00", "2017-03-05T22:00")
    [gap] = coverage(times).gaps
    assert (gap.start, gap.missing_bars) == (datetime(2017, 3, 3, 20, tzinfo=UTC), 3)


def test_christmas_and_new_year_are_no_gaps() -> None:
    found = coverage(open_times("2018-12-20", "2019-01-05"))
    assert (found.missing, found.empty_days) == (0, ())
    assert date(2018, 12, 25) not in found.by_day
    assert date(2019, 1, 1) not in found.by_day


def test_a_day_without_a_candle_is_named_by_the_date_on_which_it_ends() -> None:
    times = open_times("2017-03-06", "2017-03-11")
    ends = np.datetime64("2017-03-08T22:00", "s")
    found = coverage(times[(times < ends - 24 * HOUR) | (times >= ends)])
    assert found.empty_days == (date(2017, 3, 8),)
    assert found.by_day[date(2017, 3, 8)] == (0, 24)
    assert found.by_day[date(2017, 3, 9)] == (24, 24)


def test_brief_gaps_are_those_of_five_minutes_at_most() -> None:
    times = open_times("2017-03-07T10:00", "2017-03-07T14:00", MINUTE)
    gone = [f"2017-03-07T11:0{minute}" for minute in range(5)] + [f"2017-03-07T12:0{minute}" for minute in range(6)]
    found = coverage(without(times, *gone), "1m")
    assert ([gap.missing_bars for gap in found.gaps], found.brief) == ([5, 6], 1)
    assert coverage(without(open_times("2017-03-06", "2017-03-11"), "2017-03-07T11:00")).brief == 0


@pytest.mark.parametrize(("timeframe", "end"), [("1m", "00:05"), ("5m", "00:05")])
def test_a_daily_hole_is_told_apart_from_gaps(timeframe: str, end: str) -> None:
    times = open_times("2017-03-20", "2017-04-08", Timeframe(timeframe).step)
    minute_of_server = (times + 3 * HOUR).astype(np.int64) // 60 % 1440  # New York + 7 h, in summer
    hole = (minute_of_server >= 1435) | (minute_of_server < 5)
    hole &= times != np.datetime64("2017-03-22T20:55", "s")  # not every single day
    found = coverage(without(times[~hole], "2017-03-22T11:00"), timeframe)
    assert [str(each) for each in found.holes] == [f"16:55 to 17:{end[3:]} New York, on {found.holes[0].days} days"]
    assert found.in_holes == len(found.gaps) - 1


def test_sessions_show_where_candles_are_missing() -> None:
    times = open_times("2017-03-06", "2017-03-11")
    london = (times.astype(np.int64) // 3600 % 24 >= 8) & (times.astype(np.int64) // 3600 % 24 < 12)
    found = coverage(times[~london])
    assert found.by_session["London"] == pytest.approx(100 * 5 / 9)
    assert found.by_session["Sydney"] == 100
    assert list(found.by_session) == ["Sydney", "Tokyo", "London", "New York"]


@pytest.mark.parametrize(("timeframe", "a_day"), [("4h", 6), ("1d", 1)])
def test_long_candles_are_counted_from_five_in_new_york_through_daylight_saving(timeframe: str, a_day: int) -> None:
    hours = open_times("2017-02-26T22:00", "2017-04-14T21:00")
    times = np.unique(Timeframe(timeframe).opening(hours))
    found = coverage(times, timeframe)
    assert (found.missing, found.expected) == (0, len(times))
    assert set(found.by_day.values()) == {(a_day, a_day)}
    assert coverage(np.delete(times, 3), timeframe).missing == 1


def test_an_empty_series_expects_nothing() -> None:
    found = coverage(np.empty(0, dtype="datetime64[s]"))
    assert (found.expected, found.missing, found.gaps, dict(found.by_day), dict(found.by_session)) == (0, 0, (), {}, {})


def test_a_candle_in_the_closed_market_is_not_counted_as_present() -> None:
    saturday = np.datetime64("2017-03-11T12:00", "s")
    times = np.append(open_times("2017-03-10T20:00", "2017-03-11"), saturday)
    found = coverage(times)
    assert (found.expected, found.missing) == (2, 0)
