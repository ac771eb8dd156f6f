"""The account by FX days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import empyrical
import numpy as np
import pytest

from fxcast.domain.candle import to_datetime
from fxcast.performance.daily import daily_curve, deepest_fall, fx_days
from fxcast.trading.state import fx_day
from tests.performance_factories import HOUR, make_curve, make_daily_curve


def test_fx_days_are_those_of_the_engine_around_every_change_of_clocks() -> None:
    start = np.datetime64("2017-03-01T00:30", "s")
    times = start + (np.arange(0, 300 * 86_400, 1_500)).astype("timedelta64[s]")
    expected = [fx_day(to_datetime(moment) - timedelta(seconds=1)) for moment in times]
    assert fx_days(times).astype(object).tolist() == expected


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2017-03-07T21:59", "2017-03-07"),  # Tuesday, 16:59 New York
        ("2017-03-07T22:00", "2017-03-07"),  # 17:00: the close of its last candle
        ("2017-03-07T22:01", "2017-03-08"),
        ("2017-07-04T21:00", "2017-07-04"),  # 17:00 in summer
        ("2017-07-04T21:01", "2017-07-05"),
        ("2017-03-10T22:00", "2017-03-10"),  # the week's end
        ("2017-03-12T21:01", "2017-03-13"),  # Sunday evening is Monday
    ],
)
def test_a_candle_that_closes_at_five_in_new_york_is_its_day_s_last(moment: str, day: str) -> None:
    assert str(fx_days(np.array([moment], dtype="datetime64[s]"))[0]) == day


def test_each_day_is_measured_from_the_equity_that_the_one_before_ended_with() -> None:
    # Monday's day ends at 22:00 UTC: points at 12:00, 17:00, 22:00, then 03:00 and 08:00 of Tuesday's.
    curve = make_curve([110.0, 90.0, 120.0, 60.0, 90.0], start=datetime(2017, 3, 6, 7, tzinfo=UTC), step=5 * HOUR)
    days = daily_curve(curve.times, curve.equity, 100.0)
    assert days.days.astype(str).tolist() == ["2017-03-06", "2017-03-07"]
    assert days.returns.tolist() == pytest.approx([0.20, -0.25])
    assert days.lows.tolist() == pytest.approx([0.90, 0.50])
    assert days.highs.tolist() == pytest.approx([1.20, 1.0])
    assert days.falls.tolist() == pytest.approx([20 / 110, 0.0])


def test_the_deepest_fall_is_that_of_the_candle_closes() -> None:
    curve = make_curve([110.0, 90.0, 120.0, 60.0, 90.0], start=datetime(2017, 3, 6, 7, tzinfo=UTC), step=5 * HOUR)
    days = daily_curve(curve.times, curve.equity, 100.0)
    assert deepest_fall(days, np.array([[0], [1]]))[0] == pytest.approx(0.5)  # from 120 to 60
    # Tuesday first: 100 to 50, ends at 75; then up to 75 × 1.1 and down to 75 × 0.9, less deep below 100 than 50.
    assert deepest_fall(days, np.array([[1], [0]]))[0] == pytest.approx(0.5)
    # Monday alone: from 110 to 90 within the day.
    assert deepest_fall(days, np.array([[0]]))[0] == pytest.approx(20 / 110)


def test_the_deepest_fall_of_days_seen_once_is_that_of_their_returns() -> None:
    returns = np.random.default_rng(3).normal(0.0, 0.01, 250)
    days = daily_curve(make_daily_curve(returns).times, make_daily_curve(returns).equity, 100_000.0)
    found = deepest_fall(days, np.arange(250)[:, np.newaxis])[0]
    assert found == pytest.approx(-empyrical.max_drawdown(returns))


def test_what_is_lost_is_lost_once() -> None:
    curve = make_curve([50.0, -10.0, -10.0, 30.0], step=24 * HOUR)
    days = daily_curve(curve.times, curve.equity, 100.0)
    assert days.returns.tolist() == pytest.approx([-0.5, -1.0, 0.0, 0.0])


def test_no_candle_is_no_day() -> None:
    curve = make_curve([])
    assert len(daily_curve(curve.times, curve.equity, 100.0)) == 0


def test_days_that_one_run_lacks_are_days_without_a_move() -> None:
    days = daily_curve(make_daily_curve([0.1, 0.2]).times, make_daily_curve([0.1, 0.2]).equity, 100_000.0)
    wide = days.on_days(np.array(["2017-03-03", "2017-03-06", "2017-03-07"], dtype="datetime64[D]"))
    assert wide.returns.tolist() == pytest.approx([0.0, 0.1, 0.2])
    assert wide.lows[0] == wide.highs[0] == 1.0
