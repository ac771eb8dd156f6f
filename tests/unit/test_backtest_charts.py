"""What the charts of a backtest are drawn from: windows, months, thirds, thinned curves, and figures in words."""

from __future__ import annotations

import numpy as np
import pytest

from fxcast.performance.charts_candles import window_around
from fxcast.performance.charts_equity import monthly_returns
from fxcast.performance.charts_quality import thirds
from fxcast.performance.measures import Interval
from fxcast.performance.pictures import thinned
from fxcast.performance.wording import money, number, percent, probability, with_interval
from tests.factories import make_series
from tests.performance_factories import HOUR, MONDAY, make_curve, make_trade


@pytest.mark.parametrize("held_hours", [1, 30, 149, 700, 1600])
def test_a_trade_lies_inside_its_picture_however_long_it_was_open(held_hours: int) -> None:
    series = make_series(bars=1700, start=MONDAY - 30 * HOUR, range_width=0.0002)
    trade = make_trade(5, opened_at=MONDAY + 40 * HOUR, held=held_hours * HOUR)
    bars = window_around(series, trade)
    entered, left = bars.holding(np.array([trade.opened_at.replace(tzinfo=None), trade.closed_at.replace(tzinfo=None)], "M8[s]"))
    assert 0 <= entered <= left < len(bars)
    assert 75 <= len(bars) <= 150
    inside = (series.open_times >= bars.open_times[0]) & (series.close_times <= bars.close_times[-1])
    assert bars.values[:, 1].max() == series.values[inside, 1].max()
    assert bars.values[:, 2].min() == series.values[inside, 2].min()


def test_a_picture_of_few_candles_shows_them_all() -> None:
    series = make_series(bars=4, start=MONDAY)
    bars = window_around(series, make_trade(5, opened_at=MONDAY - 300 * HOUR, held=900 * HOUR))
    assert np.array_equal(bars.open_times, series.open_times)


def test_closes_lie_on_their_bars_where_several_candles_make_one() -> None:
    series = make_series(bars=1700, start=MONDAY - 30 * HOUR, range_width=0.0002)
    bars = window_around(series, make_trade(5, opened_at=MONDAY + 40 * HOUR, held=700 * HOUR))
    places = np.searchsorted(series.close_times, bars.close_times).astype(np.float64)
    assert bars.group > 1
    assert np.allclose(bars.at_close_of(places), np.arange(len(bars)))


def test_monthly_returns_compound_to_the_whole() -> None:
    curve = make_curve(100_000.0 * np.exp(np.cumsum(np.random.default_rng(4).normal(0.0, 0.001, 2000))))
    months, returns = monthly_returns(curve, 100_000.0)
    assert [str(month) for month in months] == ["2017-03", "2017-04", "2017-05"]
    assert np.prod(1.0 + returns) == pytest.approx(curve.equity[-1] / 100_000.0)


def test_thinning_a_curve_keeps_its_ends_and_extremes() -> None:
    values = np.random.default_rng(5).normal(size=10_007).cumsum()
    places = thinned(values, buckets=100)
    assert len(places) < 400
    assert (np.diff(places) > 0).all()
    assert {0, len(values) - 1, int(values.argmin()), int(values.argmax())} <= set(places.tolist())


def test_a_dimension_that_matters_rises_by_thirds_and_equal_levels_stay_together() -> None:
    levels = np.linspace(0.0, 1.0, 300)
    won = (np.random.default_rng(6).random(300) < 0.2 + 0.6 * levels).astype(np.float64)
    low, middle, high = thirds(levels, won, 2.0 * won - 1.0)
    assert low.win_high < high.win_low
    assert low.mean_r < middle.mean_r < high.mean_r
    assert low.trades + middle.trades + high.trades == 300
    (only,) = thirds(np.full(9, 0.5), np.ones(9), np.full(9, np.nan))
    assert (only.trades, only.win_rate) == (9, 1.0)
    assert np.isnan(only.mean_r)


def test_figures_read_as_a_trader_writes_them() -> None:
    assert number(-1234.567) == "−1,234.57"
    assert number(-0.001, signed=True) == "0.00"
    assert number(None) == "–"
    assert percent(0.0123, signed=True) == "+1.2 %"
    assert money(-1234567.891, "EUR") == "−1,234,567.89 EUR"
    assert money(None, "EUR") == "–"
    assert probability(0.99999) == "> 99.9 %"
    assert probability(0.0) == "< 0.1 %"
    assert with_interval(Interval(value=0.1, low=-0.05, high=0.2), digits=1, share=True) == "10.0 %\n[−5.0, 20.0]"
    assert with_interval(Interval(value=3.0, low=None, high=4.0), unit="USD") == "3.00 USD"
