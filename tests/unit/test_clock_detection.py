"""An unknown clock is found by the returns of a series whose clock is known."""

from __future__ import annotations

import numpy as np
import pytest

from fxcast.data.clock_detection import ClockDetection, detect_clock
from fxcast.data.importing.clocks import NEW_YORK_CLOSE, SourceClock
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

HOUR = np.timedelta64(3600, "s")


def random_walk(first: str, last: str, *, seed: int = 0, timeframe: str = "1h") -> CandleSeries:
    """Build a reference of all open hours, UTC."""
    step = Timeframe(timeframe).step
    grid = np.arange(np.datetime64(first, "s"), np.datetime64(last, "s"), step)
    times = grid[open_mask(grid)]
    closes = 1.1 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.001, len(times))))
    values = np.column_stack([closes, closes, closes, closes, np.ones(len(times))])
    return CandleSeries(symbol="EURUSD", timeframe=Timeframe(timeframe), open_times=times, values=values)


def as_shown_by(clock: str, series: CandleSeries, exponent: float = 1.0) -> tuple[TimeArray, FloatArray]:
    """Return times as a clock shows them, and closes that move with the series (against it, if the exponent is negative)."""
    local = np.arange(series.open_times[0] - 20 * HOUR, series.open_times[-1] + 20 * HOUR, HOUR)
    utc, _ = SourceClock(clock).to_utc(local)
    _, at, of = np.intersect1d(utc, series.open_times, return_indices=True)
    order = np.argsort(at)
    noise = np.exp(np.random.default_rng(1).normal(0, 0.0002, len(at)))
    return local[at[order]], series.closes[of[order]] ** exponent * noise


def detect(clock: str, series: CandleSeries, exponent: float = 1.0) -> ClockDetection:
    times, closes = as_shown_by(clock, series, exponent)
    return detect_clock(times, closes, HOUR, series)


YEAR = random_walk("2016-01-04", "2016-12-20")
TWO_YEARS = random_walk("2014-01-06", "2015-12-20")


@pytest.mark.parametrize(
    "clock", [NEW_YORK_CLOSE, "UTC", "Europe/Helsinki", "Europe/London", "America/New_York", "-05:00", "+03:00"]
)
def test_the_clock_of_a_series_is_found(clock: str) -> None:
    found = detect(clock, YEAR)
    assert found.best == clock
    assert found.fits[0].clock == clock
    assert found.fits[0].correlation > 0.9
    assert found.fits[1].correlation < found.fits[0].correlation


def test_a_pair_that_moves_against_the_reference_serves_as_well() -> None:
    found = detect("Europe/Berlin", YEAR, exponent=-0.8)
    assert (found.best, found.reference) == ("Europe/Berlin", "EURUSD 1h")
    assert found.fits[0].correlation > 0.9


def test_the_offsets_by_month_follow_daylight_saving() -> None:
    offsets = [(period.first, period.last, period.offset_h) for period in detect("Europe/Helsinki", YEAR).periods]
    assert offsets == [("2016-01", "2016-03", 2), ("2016-04", "2016-10", 3), ("2016-11", "2016-12", 2)]


def test_a_clock_that_was_changed_is_found_with_the_sunday() -> None:
    found = detect("Europe/Berlin until 2014-11-09, Europe/Helsinki", TWO_YEARS)
    assert found.best == "Europe/Berlin until 2014-11-09, Europe/Helsinki"
    assert found.fits[0].clock == found.best


def test_a_reference_that_moves_with_the_series_at_no_offset_is_refused() -> None:
    times, closes = as_shown_by("UTC", random_walk("2016-01-04", "2016-12-20", seed=5))
    with pytest.raises(BadCandles, match="moves with the series at no offset"):
        detect_clock(times, closes, HOUR, YEAR)


def test_a_reference_of_other_years_is_refused() -> None:
    times, closes = as_shown_by("UTC", YEAR)
    with pytest.raises(BadCandles, match="moves with the series at no offset"):
        detect_clock(times, closes, HOUR, TWO_YEARS)


def test_a_reference_of_longer_candles_is_refused() -> None:
    daily = random_walk("2016-01-04", "2016-12-20", timeframe="4h")
    with pytest.raises(BadCandles, match="candles of 4h; allowed: candles of the same length"):
        detect_clock(YEAR.open_times, YEAR.closes, HOUR, daily)


@pytest.mark.parametrize("rows", [0, 1, 50])
def test_a_series_or_a_reference_too_short_to_tell_is_refused(rows: int) -> None:
    for times, closes, reference in (
        (YEAR.open_times[:rows], YEAR.closes[:rows], YEAR),
        (YEAR.open_times, YEAR.closes, YEAR.slice(0, rows)),
    ):
        with pytest.raises(BadCandles, match=r"reference: found .*no (offset|candle)"):
            detect_clock(times, closes, HOUR, reference)


def test_a_reference_of_shorter_candles_serves() -> None:
    quarters = random_walk("2016-01-04", "2016-04-20", timeframe="15m")
    at_hour_end = quarters.open_times.astype(np.int64) % 3600 == 2700
    hours = quarters.open_times[at_hour_end] - np.timedelta64(2700, "s")
    assert detect_clock(hours + 2 * HOUR, quarters.closes[at_hour_end], HOUR, quarters).fits[0].clock in {
        "+02:00",
        "Europe/Helsinki",
    }


SUMMER_TIMES = ("Europe/Helsinki", NEW_YORK_CLOSE)  # which differ from mid-March to the end of it, and for a week in autumn


@pytest.mark.parametrize("clock", SUMMER_TIMES)
def test_where_a_reference_of_the_winter_leaves_clocks_open_the_weeks_of_the_whole_file_decide(clock: str) -> None:
    times, closes = as_shown_by(clock, YEAR)
    winter = YEAR.slice(0, int(np.searchsorted(YEAR.open_times, np.datetime64("2016-03-01", "s"))))
    found = detect_clock(times, closes, HOUR, winter)
    assert (found.best, found.fits[0].clock, found.tied) == (clock, clock, ())
    assert {fit.clock for fit in found.fits if fit.correlation > found.fits[0].correlation - 0.005} > set(SUMMER_TIMES)


def test_clocks_that_fit_alike_and_give_other_times_are_refused_with_their_names() -> None:
    to_mid_march = YEAR.slice(0, int(np.searchsorted(YEAR.open_times, np.datetime64("2016-03-16", "s"))))
    times, closes = as_shown_by("Europe/Helsinki", to_mid_march)  # New York's summer time began three days before, Europe's not
    winter = YEAR.slice(0, int(np.searchsorted(YEAR.open_times, np.datetime64("2016-03-01", "s"))))
    found = detect_clock(times, closes, HOUR, winter)
    assert found.best is None
    assert set(found.tied) == set(SUMMER_TIMES)  # +02:00 says the same as Helsinki


def test_clocks_that_give_all_rows_the_same_times_are_one_answer() -> None:
    winter = YEAR.slice(0, int(np.searchsorted(YEAR.open_times, np.datetime64("2016-03-01", "s"))))
    found = detect("+02:00", winter)
    assert (found.best, found.tied) == (NEW_YORK_CLOSE, ())


def test_changed_clocks_that_fit_alike_are_refused_with_their_names() -> None:
    changed = "America/New_York until 2014-11-09, Europe/Helsinki"
    times, closes = as_shown_by(changed, TWO_YEARS)
    months = TWO_YEARS.open_times.astype("datetime64[M]").astype(int) % 12
    alike = np.flatnonzero(~np.isin(months, (2, 9)))  # without March and October, in which Helsinki and New York + 7 h differ
    known = CandleSeries(
        symbol="EURUSD", timeframe=TWO_YEARS.timeframe, open_times=TWO_YEARS.open_times[alike], values=TWO_YEARS.values[alike]
    )
    found = detect_clock(times, closes, HOUR, known)
    assert found.best is None
    assert set(found.tied) == {changed, f"America/New_York until 2014-11-09, {NEW_YORK_CLOSE}"}
