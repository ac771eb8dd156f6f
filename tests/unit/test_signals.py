"""Each source on candles worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fxcast.domain.signal import Direction, SignalKind, SignalSource
from fxcast.signals.ldm4ts import ForecastSource, forecast_signal, forecast_signals
from fxcast.signals.mean_reversion import MeanReversionRule, MeanReversionSource, mean_reversion_signal
from fxcast.signals.sources import Source
from fxcast.signals.trend import TrendRule, TrendSource, average_true_range, trend_signal
from tests.factories import make_prediction, make_series
from tests.signal_factories import make_view

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


def test_a_forecast_source_speaks_only_of_its_own_forecaster() -> None:
    ours, garch = make_prediction({240: (1.102, 0.002)}), make_prediction({60: (1.098, 0.002)})
    view = make_view(predictions={"ldm4ts_forecast": ours, "garch_forecast": garch})
    spoken = {
        name: [
            (signal.source, signal.kind, signal.direction, signal.horizon_minutes)
            for signal in ForecastSource(name=name).signals(view)
        ]
        for name in (SignalSource.LDM4TS_FORECAST, SignalSource.GARCH_FORECAST, SignalSource.SSSD_FORECAST)
    }
    assert spoken == {
        "ldm4ts_forecast": [("ldm4ts_forecast", SignalKind.FORECAST, Direction.BULL, 240)],
        "garch_forecast": [("garch_forecast", SignalKind.FORECAST, Direction.BEAR, 60)],
        "sssd_forecast": [],
    }


def test_a_forecast_source_keeps_to_its_spread_in_pips_of_the_instrument_and_to_its_least_strength() -> None:
    prediction = make_prediction({240: (110.03, 0.1)}, price=110.0, symbol="USDJPY")  # 3 pips, strength 0.3
    view = make_view(make_series([110.0] * 100, symbol="USDJPY"), predictions={"ldm4ts_forecast": prediction})

    def direction(spread_pips: float, min_strength: float) -> Direction:
        (signal,) = ForecastSource(spread_pips=spread_pips, min_strength=min_strength).signals(view)
        return signal.direction

    assert direction(5.9, 0.25) is Direction.BULL
    assert direction(6.1, 0.25) is Direction.NEUTRAL
    assert direction(5.9, 0.35) is Direction.NEUTRAL


def test_trend_and_mean_reversion_as_sources_say_what_their_rules_say() -> None:
    view = make_view()
    assert TrendSource().signals(view) == (trend_signal(view.window, TrendRule()),)
    assert MeanReversionSource().signals(view) == (mean_reversion_signal(view.window, MeanReversionRule()),)
    slow = TrendRule(slow_bars=200)
    assert TrendSource(rule=slow).signals(view) == ()  # the window holds 100 candles


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (ForecastSource(), "ldm4ts_forecast"),
        (ForecastSource(name=SignalSource.TIME_OF_DAY_FORECAST), "time_of_day_forecast"),
        (TrendSource(), "trend"),
        (MeanReversionSource(), "mean_reversion"),
    ],
)
def test_a_source_has_the_name_of_its_signals_and_needs_no_longer_candles(source: Source, name: str) -> None:
    assert (source.name, source.timeframes) == (name, ())
