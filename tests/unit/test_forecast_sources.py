"""Whose forecast it is: the engine trades on any forecaster's, under its own name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from fxcast.domain.candle import to_datetime
from fxcast.domain.signal import Direction, SignalSource
from fxcast.signals.ldm4ts import forecast_signals
from fxcast.trading.config import TradingConfig
from fxcast.trading.engine import EngineConfig, step
from fxcast.trading.events import RecordSignal
from fxcast.trading.ports import DecidedSignal
from fxcast.trading.state import EngineState
from tests.engine_events import candle
from tests.factories import make_prediction, make_series

FORECASTS = [source for source in SignalSource if source.is_forecast]
PRICE = 1.10


def decided(source: SignalSource) -> DecidedSignal:
    """Let the engine decide on a rising forecast of a flat market, about which the technical sources have no opinion."""
    window = make_series([PRICE] * 100)
    horizons = {240: (PRICE + 0.0015, 0.0020), 960: (PRICE + 0.0015, 0.0040)}
    event = candle(window, make_prediction(horizons, price=PRICE, made_at=to_datetime(window.close_times[-1])), source=source)
    trading = TradingConfig(ldm4ts_horizons=(240, 960), forecast_source=source)
    _, commands = step(EngineState(), event, EngineConfig(trading=trading))
    (found,) = [command.decided for command in commands if isinstance(command, RecordSignal)]
    return found


def test_forecasters_are_told_from_technical_sources() -> None:
    assert {source.value for source in FORECASTS} == {
        "ldm4ts_forecast",
        "sssd_forecast",
        "garch_forecast",
        "random_walk_forecast",
        "time_of_day_forecast",
    }
    assert not SignalSource.TREND.is_forecast
    assert not SignalSource.MEAN_REVERSION.is_forecast


@pytest.mark.parametrize("source", FORECASTS)
def test_a_forecasts_signals_bear_its_name_and_are_otherwise_the_same(source: SignalSource) -> None:
    usual = forecast_signals(make_prediction(), spread=0.0001, min_strength=0.0)
    named = forecast_signals(make_prediction(), spread=0.0001, min_strength=0.0, source=source)
    assert {signal.source for signal in usual} == {SignalSource.LDM4TS_FORECAST}
    assert named == tuple(replace(signal, source=source) for signal in usual)


@pytest.mark.parametrize("source", FORECASTS)
def test_the_engine_trades_on_any_forecaster_as_it_does_on_ldm4ts(source: SignalSource) -> None:
    usual, other = decided(SignalSource.LDM4TS_FORECAST), decided(source)
    assert other.signal.sources[source] is Direction.BULL
    assert other.signal.uncertainty_pct == usual.signal.uncertainty_pct == pytest.approx(100 * 0.0020 / PRICE)
    assert (other.verdict, other.units, other.signal.quality) == (usual.verdict, usual.units, usual.signal.quality)


def test_opponents_vote_beside_the_forecaster_in_use_and_change_neither_size_nor_uncertainty() -> None:
    window = make_series([PRICE] * 100)
    made_at = to_datetime(window.close_times[-1])
    rising = make_prediction({240: (PRICE + 0.0015, 0.0020)}, price=PRICE, made_at=made_at)
    falling = make_prediction({240: (PRICE - 0.0010, 0.0100)}, price=PRICE, made_at=made_at)
    event = candle(window, rising)
    event = replace(event, predictions={**event.predictions, "sssd_forecast": falling})
    alone = TradingConfig(ldm4ts_horizons=(240,), ldm4ts_min_strength=0.0, use_trend=False, use_mean_reversion=False)
    trading = alone.model_copy(update={"opponents": {SignalSource.SSSD_FORECAST: "sssd-of-2017"}})

    def signal(settings: TradingConfig) -> DecidedSignal:
        _, commands = step(EngineState(), event, EngineConfig(trading=settings))
        (found,) = [command.decided for command in commands if isinstance(command, RecordSignal)]
        return found

    both, one = signal(trading), signal(alone)
    assert both.signal.sources == {"ldm4ts_forecast": Direction.BULL, "sssd_forecast": Direction.BEAR}
    assert one.signal.sources == {"ldm4ts_forecast": Direction.BULL}
    assert both.signal.quality.consistency < one.signal.quality.consistency
    assert (both.base_units, both.signal.uncertainty_pct) == (one.base_units, one.signal.uncertainty_pct)


def test_the_forecast_is_of_ldm4ts_unless_the_settings_say_otherwise_and_a_technical_source_is_refused() -> None:
    assert TradingConfig().forecast_source is SignalSource.LDM4TS_FORECAST
    assert TradingConfig.model_validate({"forecast_source": "garch_forecast"}).forecast_source is SignalSource.GARCH_FORECAST
    with pytest.raises(ValidationError, match="allowed: ldm4ts_forecast, sssd_forecast, garch_forecast, random_walk_forecast"):
        TradingConfig.model_validate({"forecast_source": "trend"})
