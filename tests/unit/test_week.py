"""A wrong time zone shows in where the weeks of a series begin and end."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from fxcast.data.importing.clocks import NEW_YORK_CLOSE, SourceClock
from fxcast.data.week import WeekCheck, check_weeks, fitting_clocks
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import TimeArray

HOUR = np.timedelta64(3600, "s")
MINUTE = np.timedelta64(60, "s")


def open_hours(first: str, last: str, step: np.timedelta64 = HOUR) -> TimeArray:
    """Return all open times of the market, UTC."""
    grid = np.arange(np.datetime64(first, "s"), np.datetime64(last, "s"), step)
    return grid[open_mask(grid)]


def shown_by(clock: str, times: TimeArray) -> TimeArray:
    """Return what a clock shows at times in UTC, by asking it for every hour around."""
    local = np.arange(times[0] - 20 * HOUR, times[-1] + 20 * HOUR, HOUR)
    utc, _ = SourceClock(clock).to_utc(local)
    return local[np.isin(utc, times)]


def check(times: TimeArray, step: np.timedelta64 = HOUR) -> WeekCheck:
    return check_weeks(times, step)


YEAR = open_hours("2024-01-10", "2024-12-18")


def test_the_right_clock_fits_through_all_changes_of_daylight_saving() -> None:
    found = check(YEAR)
    assert (found.is_possible, found.early, found.late) == (True, (), ())
    assert (found.begins_min, found.ends_min, found.daylight_min) == (0, 0, 0)
    assert found.describe() == f"weeks begin as the market opens and end as it closes (median of {found.weeks})"


def test_a_market_that_opens_a_little_late_and_closes_a_little_early_is_possible() -> None:
    minutes = open_hours("2024-05-06", "2024-06-05", MINUTE)
    local = (minutes.astype(np.int64) // 60) % 1440
    quiet = minutes[(local >= 21 * 60 + 5) | (local < 20 * 60 + 55)]  # 16:55 to 17:05 New York
    found = check(quiet, MINUTE)
    assert found.is_possible
    assert (found.begins_min, found.ends_min) == (5, -5)
    assert "weeks begin 5 min after the market opens and end 5 min before it closes" in found.describe()


@pytest.mark.parametrize(("hours", "begins", "ends"), [(-1, -60, -60), (1, 60, 60), (-2, -120, -120), (3, 180, 180)])
def test_a_clock_that_is_wrong_all_year_is_told(hours: int, begins: int, ends: int) -> None:
    found = check(YEAR + hours * HOUR)
    assert not found.is_possible
    assert (found.begins_min, found.ends_min) == (begins, ends)
    whole = found.weeks - 1  # the series begins and ends within a week
    assert (len(found.early), len(found.late)) == ((whole, 0) if hours < 0 else (0, whole))
    assert "the time zone can't be right: in" in found.describe()
    assert (found.early or found.late)[0] == datetime(2024, 1, 14 if hours < 0 else 7, tzinfo=UTC)


def test_a_fixed_offset_that_is_right_half_the_year_is_told_with_the_first_and_the_last_week() -> None:
    local = shown_by(NEW_YORK_CLOSE, YEAR)
    found = check(SourceClock("+02:00").to_utc(local)[0])
    assert not found.is_possible
    assert "the first that of 2024-03-10, the last that of 2024-10-27" in found.describe()


@pytest.mark.parametrize(("shown", "read"), [(NEW_YORK_CLOSE, "Europe/Helsinki"), ("Europe/Helsinki", NEW_YORK_CLOSE)])
def test_the_other_sides_daylight_saving_is_told_by_the_end_of_four_weeks_a_year(shown: str, read: str) -> None:
    found = check(SourceClock(read).to_utc(shown_by(shown, YEAR))[0])
    assert not found.is_possible
    assert found.daylight_min == (60 if shown == NEW_YORK_CLOSE else -60)
    assert "only one of the US and Europe has daylight saving time, weeks end 60 min" in found.describe()


def test_a_few_stray_candles_after_the_close_are_no_proof() -> None:
    fridays = np.array(["2024-02-02T22:00", "2024-06-07T21:00"], dtype="datetime64[s]")
    found = check(np.union1d(YEAR, fridays))
    assert found.is_possible
    assert len(found.late) == 2
    assert "2 weeks have candles just outside it" in found.describe()


def test_candles_of_saturday_say_nothing_of_the_clock() -> None:
    saturdays = np.arange(np.datetime64("2024-01-13T12:00", "s"), np.datetime64("2024-12-01", "s"), 7 * 24 * HOUR)
    assert check(np.union1d(YEAR, saturdays)).late == ()


@pytest.mark.parametrize("times", [YEAR[:0], open_hours("2024-05-07", "2024-05-09")])
def test_without_a_weekend_there_is_nothing_to_say(times: TimeArray) -> None:
    found = check(times)
    assert found.is_possible
    assert found.describe() == "no weekend in the series: its time zone can't be checked"


@pytest.mark.parametrize("clock", [NEW_YORK_CLOSE, "UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "-05:00"])
def test_the_clock_that_times_are_written_in_is_among_those_that_fit(clock: str) -> None:
    fitting = fitting_clocks(shown_by(clock, YEAR), HOUR)
    assert clock in fitting
    assert len(fitting) <= 2


def test_a_month_fits_several_clocks_and_a_day_none() -> None:
    january = shown_by(NEW_YORK_CLOSE, open_hours("2024-01-10", "2024-02-05"))
    assert {NEW_YORK_CLOSE, "Europe/Helsinki", "+02:00"} <= set(fitting_clocks(january, HOUR))
    assert fitting_clocks(january[:5], HOUR) == []
