"""Each source on candles worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fxcast.domain.signal import Direction, SignalSource
from fxcast.signals.ldm4ts import forecast_signal, forecast_signals
from fxcast.signals.mean_reversion import MeanReversionRule, mean_reversion_signal
from fxcast.signals.trend import TrendRule, average_true_range, trend_signal
from tests.factories import make_prediction, make_series

SPREAD = 0.0001


def test_forecast_above_the_price_is_bull_with_its_quantile_as_stop_and_its_mean_as_target() -> None:
    prediction = make_prediction({240: (1.1010, 0.0020)})
    signal = forecast_signal(prediction, 240, spread=SPREAD, min_strength=0.3)
    assert signal.direction is Direction.BULL
    assert signal.strength == pytest.approx(0.5)  # |1.1010 − 1.1000| / 0.0020
    assert signal.stop == prediction.horizons[240].q05
    assert signal.target == 1.1010
    assert signal.source is SignalSource.LDM4TS_FORECAST


def test_forecast_below_the_price_is_bear_with_the_upper_quantile_as_stop() -> None:
    prediction = make_prediction({240: (1.0990, 0.0010)})
    signal = forecast_signal(prediction, 240, spread=SPREAD, min_strength=0.3)
    assert (signal.direction, signal.strength) == (Direction.BEAR, pytest.approx(1.0))
    assert signal.stop == prediction.horizons[240].q95


@pytest.mark.parametrize(
    ("mean", "direction"), [(1.10004, Direction.NEUTRAL), (1.10006, Direction.BULL), (1.09994, Direction.BEAR)]
)
def test_mean_within_half_the_spread_is_neutral(mean: float, direction: Direction) -> None:
    prediction = make_prediction({240: (mean, 0.00005)})
    assert forecast_signal(prediction, 240, spread=SPREAD, min_strength=0.3).direction is direction


def test_weak_forecast_gives_no_direction_but_keeps_its_strength() -> None:
    prediction = make_prediction({240: (1.1005, 0.0020)})  # strength 0.25
    signal = forecast_signal(prediction, 240, spread=SPREAD, min_strength=0.3)
    assert (signal.direction, signal.strength) == (Direction.NEUTRAL, pytest.approx(0.25))


def test_strength_is_at_most_one() -> None:
    prediction = make_prediction({240: (1.1100, 0.0020)})
    assert forecast_signal(prediction, 240, spread=SPREAD, min_strength=0.3).strength == 1.0


def test_stop_lies_below_the_price_even_when_the_whole_forecast_lies_above_it() -> None:
    prediction = make_prediction({240: (1.1100, 0.0020)})
    signal = forecast_signal(prediction, 240, spread=SPREAD, min_strength=0.3)
    assert signal.stop == pytest.approx(1.0980)  # one std below 1.1000


def test_forecast_without_width_has_no_strength() -> None:
    assert forecast_signal(make_prediction({240: (1.11, 0.0)}), 240, spread=SPREAD, min_strength=0.3).direction is Direction.NEUTRAL


def test_each_horizon_gives_one_signal_shortest_first() -> None:
    prediction = make_prediction({960: (1.102, 0.004), 240: (1.101, 0.002)})
    assert [signal.horizon_minutes for signal in forecast_signals(prediction, spread=SPREAD, min_strength=0.3)] == [240, 960]


def test_rising_prices_are_a_bull_trend_with_stop_and_target_in_true_ranges() -> None:
    # The price rises by 0.0010 a candle with wicks of 0.0002 on both sides: true range 0.0014.
    # Averages of 12 and 48 candles lie 5.5 and 23.5 candles back: 18 candles = 0.0180 apart, more than one range.
    series = make_series([1.1 + 0.001 * bar for bar in range(60)], range_width=0.0002)
    signal = trend_signal(series, TrendRule())
    assert signal is not None
    assert (signal.direction, signal.strength) == (Direction.BULL, 1.0)
    assert signal.price == pytest.approx(1.159)
    assert signal.stop == pytest.approx(1.159 - 2 * 0.0014)
    assert signal.target == pytest.approx(1.159 + 3 * 0.0014)
    assert signal.horizon_minutes == 24 * 60


def test_falling_prices_are_a_bear_trend() -> None:
    signal = trend_signal(make_series([1.2 - 0.001 * bar for bar in range(60)]), TrendRule())
    assert signal is not None
    assert signal.direction is Direction.BEAR
    assert signal.target < signal.price < signal.stop


def test_fast_average_above_a_falling_slow_one_is_no_trend() -> None:
    # The last 12 candles lie above the mean of 48, but below the candles that the slow average has just dropped.
    signal = trend_signal(make_series([1.2] * 12 + [1.15] * 36 + [1.18] * 12), TrendRule())
    assert signal is not None
    assert signal.direction is Direction.NEUTRAL


def test_true_range_includes_the_gap_from_the_close_before() -> None:
    series = make_series([1.10, 1.10, 1.10])
    values = series.values.copy()
    values[2, :4] = (1.1100, 1.1105, 1.1095, 1.1100)  # opens 100 pips above the close before, itself 10 pips wide
    gapped = type(series)(symbol="EURUSD", timeframe=series.timeframe, open_times=series.open_times, values=values)
    assert average_true_range(gapped, 1) == pytest.approx(0.0105)


@pytest.mark.parametrize(("jump", "direction"), [(0.01, Direction.BEAR), (-0.01, Direction.BULL)])
def test_close_beyond_two_deviations_is_traded_back_to_the_average(jump: float, direction: Direction) -> None:
    # 19 candles alternate by ±0.0005 around 1.1, the 20th jumps by 0.01.
    closes = [1.1 + 0.0005 * (-1) ** bar for bar in range(19)] + [1.1 + jump]
    signal = mean_reversion_signal(make_series(closes), MeanReversionRule())
    assert signal is not None
    average, deviation = np.mean(closes), np.std(closes)
    assert signal.direction is direction
    assert signal.target == pytest.approx(average)
    assert signal.stop == pytest.approx(closes[-1] - direction.sign * 1.5 * deviation)
    assert signal.strength == pytest.approx(min(abs(closes[-1] - average) / deviation / 4, 1))


def test_close_within_two_deviations_is_neutral() -> None:
    signal = mean_reversion_signal(make_series([1.1 + 0.001 * (-1) ** bar for bar in range(20)]), MeanReversionRule())
    assert signal is not None
    assert signal.direction is Direction.NEUTRAL


def test_sources_stay_silent_on_a_window_that_is_too_short() -> None:
    series = make_series(bars=10)
    assert trend_signal(series, TrendRule()) is None
    assert mean_reversion_signal(series, MeanReversionRule()) is None
