"""The FX week follows New York's clock, daylight saving included; sessions follow their own cities'."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fxcast.domain.calendar import is_open, next_open, open_sessions, week_close


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("last_open_minute", "first_closed_minute"),
    [
        ("2017-03-10T21:59", "2017-03-10T22:00"),  # Friday before New York's change on 12 March
        ("2017-03-17T20:59", "2017-03-17T21:00"),  # Friday after it; Europe changes on 26 March
        ("2017-11-03T20:59", "2017-11-03T21:00"),  # Friday before the change back on 5 November
        ("2017-11-10T21:59", "2017-11-10T22:00"),
    ],
)
def test_the_week_closes_on_friday_at_five_in_new_york(last_open_minute: str, first_closed_minute: str) -> None:
    assert is_open(utc(last_open_minute))
    assert not is_open(utc(first_closed_minute))


@pytest.mark.parametrize(
    ("last_closed_minute", "first_open_minute"),
    [
        ("2017-03-05T21:59", "2017-03-05T22:00"),
        ("2017-03-12T20:59", "2017-03-12T21:00"),  # the clock changed that very morning
        ("2017-11-05T21:59", "2017-11-05T22:00"),
    ],
)
def test_the_week_opens_on_sunday_at_five_in_new_york(last_closed_minute: str, first_open_minute: str) -> None:
    assert not is_open(utc(last_closed_minute))
    assert is_open(utc(first_open_minute))


def test_a_week_has_120_open_hours_also_when_the_clock_changes() -> None:
    for sunday in ("2017-03-05", "2017-03-12", "2017-07-02", "2017-11-05"):
        start = utc(f"{sunday}T00:00")
        assert sum(is_open(start + timedelta(hours=hour)) for hour in range(7 * 24)) == 120


def test_saturday_is_closed_all_day() -> None:
    assert not any(is_open(utc("2017-07-01T05:00") + timedelta(minutes=minutes)) for minutes in range(0, 24 * 60, 15))


@pytest.mark.parametrize("eve", ["2018-12-24", "2018-12-31"])
def test_christmas_and_new_year_are_closed_from_five_to_five(eve: str) -> None:
    close = utc(f"{eve}T22:00")
    assert is_open(close - timedelta(minutes=1))
    assert not is_open(close)
    assert not is_open(close + timedelta(hours=23, minutes=59))
    assert is_open(close + timedelta(hours=24))


def test_the_answer_does_not_depend_on_the_zone_of_the_question() -> None:
    moment = utc("2017-03-10T21:30")
    assert is_open(moment.astimezone(timezone(timedelta(hours=9)))) is is_open(moment) is True
    assert week_close(moment.astimezone(timezone(timedelta(hours=9)))) == week_close(moment)


@pytest.mark.parametrize(
    ("moment", "close"),
    [
        ("2017-03-08T12:00", "2017-03-10T22:00"),
        ("2017-03-10T22:00", "2017-03-10T22:00"),
        ("2017-03-10T22:00:01", "2017-03-17T21:00"),  # across the change of the clock
        ("2017-03-11T12:00", "2017-03-17T21:00"),
    ],
)
def test_the_next_week_close_is_at_or_after_the_moment(moment: str, close: str) -> None:
    assert week_close(utc(moment)) == utc(close)
    assert week_close(utc(moment)).tzinfo is UTC


@pytest.mark.parametrize(
    ("moment", "opening"),
    [
        ("2017-03-08T12:00", "2017-03-08T12:00"),  # it is open
        ("2017-03-10T22:00", "2017-03-12T21:00"),  # across the change of the clock
        ("2017-03-12T20:59:59", "2017-03-12T21:00"),
        ("2017-11-03T21:00", "2017-11-05T22:00"),
        ("2018-12-24T22:00", "2018-12-25T22:00"),  # Christmas on a Tuesday
        ("2016-12-23T22:00", "2016-12-25T22:00"),  # Christmas on a Sunday: the week opens as ever
        ("2021-12-24T22:00", "2021-12-26T22:00"),  # Christmas Eve on a Friday
        ("2017-12-31T12:00", "2018-01-01T22:00"),  # New Year's Eve on a Sunday
    ],
)
def test_the_market_opens_next_at_five_in_new_york(moment: str, opening: str) -> None:
    assert next_open(utc(moment)) == utc(opening)
    assert next_open(utc(moment)).tzinfo is UTC
    assert is_open(next_open(utc(moment)))


@pytest.mark.parametrize(
    ("moment", "sessions"),
    [
        ("2017-07-05T14:00", ("London", "New York")),
        ("2017-07-05T07:30", ("Tokyo", "London")),  # British summer: London opens at 07:00 UTC
        ("2017-01-04T07:30", ("Tokyo",)),  # winter: London opens at 08:00 UTC
        ("2017-01-04T21:30", ("Sydney", "New York")),  # southern summer: Sydney opens at 21:00 UTC
        ("2017-07-05T21:30", ()),  # southern winter, northern summer: Sydney opens at 22:00, New York is over at 21:00
        ("2017-03-20T12:30", ("London", "New York")),  # New York saves daylight already, London not yet
        ("2017-03-08T12:30", ("London",)),
    ],
)
def test_sessions_keep_the_office_hours_of_their_city(moment: str, sessions: tuple[str, ...]) -> None:
    assert open_sessions(utc(moment)) == sessions


def test_no_session_is_open_at_the_weekend() -> None:
    assert open_sessions(utc("2017-07-08T14:00")) == ()
    assert open_sessions(utc("2017-01-06T22:30")) == ()
