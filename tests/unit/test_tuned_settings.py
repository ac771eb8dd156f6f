"""Stop, target, holding time and size by the settings that a search tunes, for all or for one symbol or regime."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.money import Rates
from fxcast.domain.order import Fill, FillReason, OrderIntent, OrderPurpose
from fxcast.domain.signal import Regime, SignalSource
from fxcast.signals.ldm4ts import ForecastSource
from fxcast.signals.regime import RegimeModel, RegimeState
from fxcast.trading.config import TradingConfig
from fxcast.trading.engine import EngineConfig, step, wants_forecast
from fxcast.trading.events import (
    CandleClosed,
    ChangeProtection,
    Command,
    PlaceOrder,
    RecordSignal,
    RegimesFitted,
    TransactionReceived,
)
from fxcast.trading.ports import DecidedSignal
from fxcast.trading.quiet import quiet_candles
from fxcast.trading.replay import commands_json, decide_again, decision_record, engine_config_from_json
from fxcast.trading.state import EngineState, LastForecast, state_from_json
from fxcast.trading.tuned import TunedParameters, Value
from tests.engine_events import candle
from tests.factories import HOUR, NOON, make_prediction, make_series

START = NOON - 100 * HOUR
STOP, TARGET = Decimal("1.09821"), Decimal("1.10150")  # of the forecast below: 1.1015 − 1.645 × 0.0020, and its mean


def config(*tuned: TunedParameters, **changes: Any) -> EngineConfig:
    """Settings under which forecasts alone trade, with nothing in the way."""
    sources = {"use_trend": False, "use_mean_reversion": False}
    content = {"ldm4ts_horizons": (240, 960), "min_quality": 0.0, **sources, **changes, "tuned": tuned}
    return EngineConfig(trading=TradingConfig.model_validate(content))


def tuned(symbol: str | None = None, regime: Regime | None = None, **values: Value) -> TunedParameters:
    """Values by path, a dot written as two underscores."""
    return TunedParameters(symbol=symbol, regime=regime, values={name.replace("__", "."): each for name, each in values.items()})


def flat(bars_later: int = 0, symbol: str = "EURUSD") -> CandleSeries:
    return make_series([1.10] * 100, start=START + bars_later * HOUR, symbol=symbol)


def closed(window: CandleSeries, prediction: LDM4TSPrediction | None = None) -> CandleClosed:
    """A candle, in an account that can trade sterling as well as the euro."""
    worth = {"USD": Decimal(1), "EUR": Decimal("1.1"), "GBP": Decimal("1.1")}
    return replace(candle(window, prediction), rates=Rates(currency="USD", worth=worth))


def forecast(window: CandleSeries, *, move: float = 0.0015, std: float = 0.0020) -> LDM4TSPrediction:
    made_at, price = to_datetime(window.close_times[-1]), float(window.closes[-1])
    horizons = {240: (price + move, std), 960: (price + move, 2 * std)}
    return replace(make_prediction(horizons, price=price, made_at=made_at), symbol=window.symbol)


def always(regime: Regime) -> RegimeModel:
    """A model that is sure of one regime, whatever the prices do."""
    others = [each for each in Regime if each is not regime]
    return RegimeModel(
        start=np.array([0.98, 0.01, 0.01]),
        transition=np.array([[0.98, 0.01, 0.01]] * 3),
        means=np.zeros((3, 2)),
        variances=np.ones((3, 2)),
        center=np.zeros(2),
        scale=np.ones(2),
        labels=(regime, *others),
    )


def starting_in(regime: Regime, symbol: str = "EURUSD") -> EngineState:
    return EngineState(regimes={symbol: RegimeState(model=always(regime))})


def decided(commands: tuple[Command, ...]) -> DecidedSignal:
    (found,) = [command.decided for command in commands if isinstance(command, RecordSignal)]
    return found


def first_decision(settings: EngineConfig, state: EngineState | None = None, symbol: str = "EURUSD") -> DecidedSignal:
    window = flat(symbol=symbol)
    return decided(step(state or EngineState(), closed(window, forecast(window)), settings)[1])


def placed(commands: tuple[Command, ...]) -> list[OrderIntent]:
    return [command.intent for command in commands if isinstance(command, PlaceOrder)]


def opened(settings: EngineConfig, state: EngineState | None = None) -> EngineState:
    """An engine whose first order was filled."""
    window = flat()
    state, commands = step(state or EngineState(), closed(window, forecast(window)), settings)
    (intent,) = placed(commands)
    fill = Fill(
        sequence=1,
        client_order_id=intent.client_order_id,
        symbol="EURUSD",
        side=intent.side,
        units=intent.units,
        price=Decimal("1.10011"),
        reason=FillReason.MARKET,
        profit=Decimal(0),
        filled_at=intent.created_at,
    )
    return step(state, TransactionReceived(transaction=fill), settings)[0]


def closed_after(state: EngineState, settings: EngineConfig, *, most: int = 12) -> int | None:
    """Return at which of the next candles the position is closed, by whatever rule."""
    for bars in range(1, most + 1):
        state, commands = step(state, closed(flat(bars)), settings)
        if any(intent.purpose is OrderPurpose.CLOSE for intent in placed(commands)):
            return bars
    return None


# Stop and target


def test_stop_and_target_lie_so_many_times_as_far_from_the_close() -> None:
    window = flat()
    management = {"stop_multiple": 2.0, "target_multiple": 3.0}
    _, commands = step(EngineState(), closed(window, forecast(window)), config(management=management))
    (intent,) = placed(commands)
    # 1.10000 − 2 × 0.00179, and 1.10000 + 3 × 0.00150
    assert (intent.stop, intent.target) == (Decimal("1.09642"), Decimal("1.10450"))
    plain = first_decision(config())
    verdict = decided(commands)
    assert "stop 35.8 pips" in " ".join(verdict.arithmetic)
    assert verdict.signal.quality.risk_reward == pytest.approx(0.0045 / (0.0045 + 0.00358))
    assert plain.signal.quality.risk_reward == pytest.approx(0.0015 / (0.0015 + 0.00179))
    assert verdict.units < plain.units  # the same share of equity is lost over twice the distance
    assert verdict.signal.members == plain.signal.members  # what the sources said stays what they said


def test_a_stop_brought_too_near_is_refused_as_one_that_a_source_gives() -> None:
    verdict = first_decision(config(management={"stop_multiple": 0.001}))
    assert verdict.reason.startswith("the stop 1.1")
    assert not verdict.units


def test_a_stop_is_never_brought_below_zero() -> None:
    verdict = first_decision(config(management={"stop_multiple": 10_000.0}))
    assert verdict.signal.stop == pytest.approx(0.00001)


@pytest.mark.parametrize(("multiple", "target"), [(1.0, "1.10300"), (0.5, "1.10150"), (2.0, "1.10600")])
def test_a_followed_target_lies_so_many_times_as_far_as_the_fresh_mean(multiple: float, target: str) -> None:
    settings = config(management={"target_multiple": multiple})
    state, window = opened(settings), flat(1)
    _, commands = step(state, closed(window, forecast(window, move=0.0030)), settings)
    (change,) = [command.change for command in commands if isinstance(command, ChangeProtection)]
    assert change.target == Decimal(target)
    times = "" if multiple == 1.0 else f"{multiple:g} × the way to "
    assert change.reason.endswith(f" to {target}: {times}the mean of the fresh forecast")


# Holding time


@pytest.mark.parametrize(("multiple", "bars"), [(1.0, 4), (0.5, 2), (0.6, 2), (0.01, 1), (2.0, 8)])
def test_a_position_is_held_for_a_multiple_of_its_horizon(multiple: float, bars: int) -> None:
    settings = config(management={"holding_multiple": multiple})
    assert closed_after(opened(settings), settings) == bars


def test_the_forecast_is_still_looked_up_at_the_signals_horizon() -> None:
    # Twice the holding time: at four hours' horizon the mean is followed, not at eight, which nothing forecasts.
    settings = config(management={"holding_multiple": 2.0})
    state, window = opened(settings), flat(1)
    assert state.positions["EURUSD"].horizon_bars == 4
    _, commands = step(state, closed(window, forecast(window, move=0.0030)), settings)
    assert [command.change.target for command in commands if isinstance(command, ChangeProtection)] == [Decimal("1.10300")]


def test_after_a_restart_with_another_holding_time_that_one_counts() -> None:
    state = state_from_json(opened(config()).to_json())
    assert closed_after(state, config(management={"holding_multiple": 0.5})) == 2


# Size by regime


def test_the_base_size_is_multiplied_in_its_regime_alone() -> None:
    halved = config(sizing={"regime_multipliers": {"volatile": 0.5}})
    plain = first_decision(config(), starting_in(Regime.VOLATILE))
    verdict = first_decision(halved, starting_in(Regime.VOLATILE))
    # 500 dollars over 18.9 pips: 264,550 units, halved 132,275
    assert (plain.base_units, verdict.base_units) == (Decimal(264_000), Decimal(132_000))
    assert "volatile market: × 0.5 = 132,275.13 units" in verdict.arithmetic
    assert first_decision(halved, starting_in(Regime.TRENDING)).base_units == plain.base_units


def test_a_multiplier_of_zero_gives_no_position_and_says_so() -> None:
    verdict = first_decision(config(sizing={"regime_multipliers": {"volatile": 0}}), starting_in(Regime.VOLATILE))
    assert (verdict.base_units, verdict.units) == (0, 0)
    assert verdict.reason == "a volatile market gets no position: its multiplier is 0"


# Tuned by symbol and regime


def test_the_more_special_goes_before_the_more_general() -> None:
    settings = config(
        tuned("EURUSD", Regime.VOLATILE, management__stop_multiple=4.0),
        tuned(None, Regime.VOLATILE, management__stop_multiple=3.0, management__trail_at_r=1.5),
        tuned("EURUSD", management__stop_multiple=2.0, management__target_multiple=2.0, sizing__kelly_fraction=0.5),
        tuned(management__stop_multiple=1.5, min_quality=0.2),
    )

    def found(symbol: str, regime: Regime) -> tuple[float, float, float | None, float]:
        trading = settings.trading_for(symbol, regime)
        return (
            trading.management.stop_multiple,
            trading.management.target_multiple,
            trading.management.trail_at_r,
            trading.min_quality,
        )

    assert found("EURUSD", Regime.VOLATILE) == (4.0, 2.0, 1.5, 0.2)
    assert found("EURUSD", Regime.RANGING) == (2.0, 2.0, None, 0.2)
    assert found("GBPUSD", Regime.VOLATILE) == (3.0, 1.0, 1.5, 0.2)
    assert found("GBPUSD", Regime.RANGING) == (1.5, 1.0, None, 0.2)
    assert settings.trading_for("EURUSD", Regime.VOLATILE) is settings.trading_for("EURUSD", Regime.VOLATILE)


def test_a_factor_on_a_weight_takes_the_place_of_a_more_general_one() -> None:
    both = config(tuned(quality__weights__timing=3.0), tuned("EURUSD", quality__weights__timing=2.0))
    one = config(tuned("EURUSD", quality__weights__timing=2.0))
    assert both.trading_for("EURUSD").quality == one.trading_for("EURUSD").quality


def test_without_anything_tuned_the_settings_are_the_base() -> None:
    settings = config()
    assert settings.trading_for("EURUSD", Regime.VOLATILE) is settings.trading
    assert settings.sources_for("EURUSD") is settings.sources
    assert settings.regimes_of("EURUSD") == (None,)


def test_a_symbol_is_decided_with_its_own_settings_and_another_with_the_base() -> None:
    settings = config(tuned("EURUSD", management__stop_multiple=2.0))
    assert first_decision(settings).signal.stop == pytest.approx(1.09642)
    assert first_decision(settings, symbol="GBPUSD").signal.stop == pytest.approx(float(STOP))


def test_a_signal_is_decided_with_the_settings_of_the_regime_now() -> None:
    settings = config(tuned(regime=Regime.VOLATILE, management__target_multiple=2.0))
    assert first_decision(settings, starting_in(Regime.VOLATILE)).signal.target == pytest.approx(1.1030)
    assert first_decision(settings, starting_in(Regime.TRENDING)).signal.target == pytest.approx(float(TARGET))


def test_a_position_is_managed_with_the_settings_of_the_regime_now() -> None:
    settings = config(tuned("EURUSD", Regime.VOLATILE, management__holding_multiple=0.5))
    calm = opened(settings, starting_in(Regime.TRENDING))
    assert closed_after(calm, settings) == 4
    fitted = RegimesFitted(symbol="EURUSD", model=always(Regime.VOLATILE), at=NOON)
    assert closed_after(step(calm, fitted, settings)[0], settings) == 2


def test_sources_are_those_of_the_settings_that_hold() -> None:
    settings = config(
        tuned("EURUSD", ldm4ts_min_strength=0.9),
        tuned("GBPUSD", use_trend=True),
        sources=[{"class": "tests.user_sources:Optimist"}],
    )
    strengths = [each.min_strength for each in settings.sources_for("EURUSD") if isinstance(each, ForecastSource)]
    assert strengths == [0.9]
    names = [source.name for source in settings.sources_for("GBPUSD")]
    assert names == [SignalSource.LDM4TS_FORECAST, SignalSource.TREND, "optimist"]
    assert settings.sources_for("GBPUSD")[-1] is settings.sources[-1]  # a user's own source is loaded once
    weak = config(tuned("EURUSD", ldm4ts_min_strength=0.9))  # |mean − price| / std is 0.75
    window = flat()
    assert [c for c in step(EngineState(), closed(window, forecast(window)), weak)[1] if isinstance(c, RecordSignal)] == []
    assert first_decision(weak, symbol="GBPUSD").units > 0


def test_how_old_a_forecast_may_be_is_the_symbols_own() -> None:
    settings = config(tuned("EURUSD", risk__max_forecast_age_bars=0))
    for symbol, expected in (("EURUSD", 0), ("GBPUSD", 1)):
        window = flat(symbol=symbol)
        state, _ = step(EngineState(), closed(window, forecast(window)), settings)
        _, commands = step(replace(state, pending={}), closed(flat(1, symbol)), settings)
        assert len([command for command in commands if isinstance(command, RecordSignal)]) == expected


def test_what_is_the_accounts_follows_what_holds_for_all() -> None:
    settings = config(tuned(risk__cool_off_losses=1, risk__cool_off_minutes=600), tuned("EURUSD", min_quality=0.1))
    state = opened(settings)
    held = state.positions["EURUSD"].position
    loss = Fill(
        sequence=2,
        client_order_id=held.client_order_id,
        symbol="EURUSD",
        side=held.side.opposite,
        units=held.units,
        price=held.stop,
        reason=FillReason.STOP,
        profit=Decimal(-100),
        filled_at=NOON + HOUR,
    )
    state, _ = step(state, TransactionReceived(transaction=loss), settings)
    assert state.cool_off_until == NOON + 11 * HOUR


def test_forecasts_are_asked_for_by_the_base_alone() -> None:
    settings = config(tuned("EURUSD", min_quality=0.1), forecast_interval_bars=2)
    assert wants_forecast(EngineState(candles={"EURUSD": 2}), "EURUSD", settings)
    assert not wants_forecast(EngineState(candles={"EURUSD": 1}), "EURUSD", settings)


# Quiet candles


def quietly_held(settings: EngineConfig) -> EngineState:
    """A position, and the forecast behind it too old to be used."""
    state = opened(settings, replace(starting_in(Regime.TRENDING), candles={"EURUSD": 1}))
    (last,) = state.forecasts["EURUSD"].values()
    return replace(state, forecasts={"EURUSD": {"ldm4ts_forecast": LastForecast(prediction=last.prediction, age_bars=99)}})


def test_a_held_position_is_left_alone_for_the_shortest_holding_time_of_any_regime() -> None:
    rare = {"forecast_interval_bars": 100}
    for settings, expected in (
        (config(**rare), 3),
        (config(**rare, management={"holding_multiple": 5.0}), 19),
        (config(tuned("EURUSD", management__holding_multiple=5.0), **rare), 19),
        (config(tuned(None, Regime.VOLATILE, management__holding_multiple=0.5), **rare), 1),
        (config(tuned("GBPUSD", Regime.VOLATILE, management__holding_multiple=0.5), **rare), 3),
    ):
        assert quiet_candles(quietly_held(settings), "EURUSD", settings) == expected


def test_no_candle_is_quiet_where_a_source_that_looks_at_prices_is_on_in_some_regime() -> None:
    settings = config(tuned("EURUSD", Regime.VOLATILE, use_trend=True), forecast_interval_bars=100)
    assert quiet_candles(quietly_held(settings), "EURUSD", settings) == 0


# What is stored


def test_settings_come_back_from_what_is_stored() -> None:
    settings = config(
        tuned(
            "EURUSD", Regime.VOLATILE, sizing__method="kelly", management__trail_at_r=None, use_pattern=True, risk__max_positions=2
        ),
        tuned(quality__weights__timing=1.5),
        sizing={"regime_multipliers": {"volatile": 0.5}},
        management={"stop_multiple": 1.5},
    )
    again = engine_config_from_json(settings.content)
    assert (again.trading, again.content, again.hash) == (settings.trading, settings.content, settings.hash)
    assert again.trading_for("EURUSD", Regime.VOLATILE) == settings.trading_for("EURUSD", Regime.VOLATILE)
    assert settings.hash != config(sizing={"regime_multipliers": {"volatile": 0.5}}, management={"stop_multiple": 1.5}).hash


def test_a_decision_with_tuned_settings_can_be_made_again() -> None:
    settings = config(tuned("EURUSD", Regime.VOLATILE, management__stop_multiple=2.0))
    window = flat()
    event = closed(window, forecast(window))
    before = starting_in(Regime.VOLATILE)
    _, commands = step(before, event, settings)
    assert decided(commands).signal.stop == pytest.approx(1.09642)
    record = decision_record(before, event, commands, settings)
    assert decide_again(record, settings.content) == record.commands == commands_json(commands)
