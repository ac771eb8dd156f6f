"""The clocks of files: what each of them shows, and when it shows nothing or the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from fxcast.data.importing.clocks import NEW_YORK_CLOSE, SourceClock
from fxcast.data.importing.result import Reason
from fxcast.errors import BadSetting


def utc(clock: str, *local: str) -> list[str]:
    times, _ = SourceClock(clock).to_utc(np.array(local, dtype="datetime64[s]"))
    return [str(moment)[:16] for moment in times]


def problems(clock: str, *local: str) -> list[tuple[int, Reason]]:
    return SourceClock(clock).to_utc(np.array(local, dtype="datetime64[s]"))[1]


@pytest.mark.parametrize(
    ("clock", "local", "expected"),
    [
        ("UTC", "2024-03-20T12:00", "2024-03-20T12:00"),
        ("Asia/Tokyo", "2024-03-20T12:00", "2024-03-20T03:00"),
        ("Europe/Berlin", "2024-01-10T12:00", "2024-01-10T11:00"),
        ("Europe/Berlin", "2024-07-10T12:00", "2024-07-10T10:00"),
        (NEW_YORK_CLOSE, "2024-01-10T00:00", "2024-01-09T22:00"),
        (NEW_YORK_CLOSE, "2024-07-10T00:00", "2024-07-09T21:00"),
    ],
)
def test_a_clock_is_read_as_its_zone_keeps_it(clock: str, local: str, expected: str) -> None:
    assert utc(clock, local) == [expected]


@pytest.mark.parametrize("day", ["2024-03-12", "2024-03-29", "2024-10-30"])
def test_new_york_close_differs_from_helsinki_while_only_the_us_saves_daylight(day: str) -> None:
    server, helsinki = utc(NEW_YORK_CLOSE, f"{day}T12:00"), utc("Europe/Helsinki", f"{day}T12:00")
    assert (server, helsinki) == ([f"{day}T09:00"], [f"{day}T10:00"])


def test_the_day_of_the_server_ends_at_five_in_new_york_all_year() -> None:
    midnights = np.arange("2024-01-01", "2025-01-01", dtype="datetime64[D]").astype("datetime64[s]")
    times, found = SourceClock(NEW_YORK_CLOSE).to_utc(midnights)
    hours = {str(moment)[11:16] for moment in times}
    assert (hours, found) == ({"21:00", "22:00"}, [])


@pytest.mark.parametrize("name", ["+02:00", "+2", "+02", "+0200", "UTC+2", "GMT+02:00", "utc+2"])
def test_an_offset_may_be_spelled_in_many_ways(name: str) -> None:
    assert utc(name, "2024-03-20T12:00") == ["2024-03-20T10:00"]


@pytest.mark.parametrize(
    ("name", "expected"), [("-5", "17:00"), ("-05:00", "17:00"), ("+05:30", "06:30"), ("-03:30", "15:30"), ("Z", "12:00")]
)
def test_offsets_go_both_ways_and_have_minutes(name: str, expected: str) -> None:
    assert utc(name, "2024-03-20T12:00") == [f"2024-03-20T{expected}"]


def test_a_local_time_that_never_was_and_one_that_was_twice_have_no_utc() -> None:
    local = ("2024-03-31T01:30", "2024-03-31T02:30", "2024-10-27T02:30", "2024-10-27T03:30")
    assert utc("Europe/Berlin", *local) == ["2024-03-31T00:30", "NaT", "NaT", "2024-10-27T02:30"]
    assert problems("Europe/Berlin", *local) == [(1, Reason.NO_SUCH_LOCAL_TIME), (2, Reason.AMBIGUOUS_LOCAL_TIME)]


def test_the_servers_clock_changes_on_a_sunday_morning_when_nobody_trades() -> None:
    assert problems(NEW_YORK_CLOSE, "2024-03-10T09:30", "2024-11-03T08:30") == [
        (0, Reason.NO_SUCH_LOCAL_TIME),
        (1, Reason.AMBIGUOUS_LOCAL_TIME),
    ]


def test_what_is_no_time_stays_none_without_a_problem() -> None:
    for clock in ("UTC", "Europe/Berlin", "UTC until 2024-01-01, Europe/Berlin"):
        assert utc(clock, "NaT") == ["NaT"]
        assert problems(clock, "NaT") == []


CHANGED = "Europe/Berlin until 2014-11-09, Europe/Helsinki"


def test_a_changed_clock_is_read_by_the_period() -> None:
    local = ("2014-11-08T23:59", "2014-11-09T00:00", "2015-07-01T12:00", "2014-07-01T12:00")
    assert utc(CHANGED, *local) == ["2014-11-08T22:59", "2014-11-08T22:00", "2015-07-01T09:00", "2014-07-01T10:00"]


def test_a_clock_may_change_more_than_once() -> None:
    clock = "UTC until 2012-01-01, +01:00 until 2013-01-01, new-york-close"
    assert utc(clock, "2011-06-01T12:00", "2012-06-01T12:00", "2013-06-01T12:00") == [
        "2011-06-01T12:00",
        "2012-06-01T11:00",
        "2013-06-01T09:00",
    ]


def test_problems_of_a_changed_clock_keep_their_positions() -> None:
    local = ("2015-03-29T03:30", "2014-01-01T00:00", "2014-03-30T02:30")
    assert problems(CHANGED, *local) == [(2, Reason.NO_SUCH_LOCAL_TIME), (0, Reason.NO_SUCH_LOCAL_TIME)]


NO_CLOCKS = (
    "Mars/Olympus", "America", "", "+15:00", "+02:75", "new york", "../UTC", "UTC,", "UTC, +02:00", "UTC until 2014-11-09",
    "UTC until then, +02:00", "Mars until 2014-11-09, UTC", "UTC until 2014-11-09, Mars", "UTC until 2014-13-09, +02:00",
    "UTC until 2015-01-01, +01:00 until 2014-01-01, +02:00",
)  # fmt: skip


@pytest.mark.parametrize("name", NO_CLOCKS)
def test_what_is_no_clock_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(BadSetting, match=r"zone: found .*; allowed: "):
        SourceClock(name)
