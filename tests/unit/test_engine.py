"""What the engine decides, candle by candle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import BrokerOrder, Fill, FillReason, OrderIntent, OrderPurpose, OrderStatus, Side
from fxcast.domain.signal import SignalSource, Verdict
from fxcast.errors import ReconciliationFailed
from fxcast.trading.config import TradingConfig
from fxcast.trading.engine import EngineConfig, step, wants_forecast
from fxcast.trading.events import (
    Command,
    KillSwitchSet,
    OrderUpdated,
    PlaceOrder,
    RecordEquity,
    RecordPosition,
    RecordPrediction,
    RecordSignal,
    TransactionReceived,
)
from fxcast.trading.ports import DecidedSignal
from fxcast.trading.state import EngineState, KillSwitch, state_from_json
from tests.engine_events import ACCOUNT, candle
from tests.factories import HOUR, NOON, make_prediction, make_series

# 100 flat candles that end on Monday 2017-03-06 at 12:00 UTC: the technical sources have no opinion.
START = datetime(2017, 3, 6, 12, tzinfo=UTC) - 100 * HOUR


def config(**changes: Any) -> EngineConfig:
    return EngineConfig(trading=TradingConfig(ldm4ts_horizons=(240, 960), **changes))


def flat(bars_later: int = 0) -> CandleSeries:
    return make_series([1.10] * 100, start=START + bars_later * HOUR)


def rising(bars_later: int = 0) -> CandleSeries:
    """A trend that bends enough for the averages to part, and little enough to leave the bands alone."""
    return make_series([1.10 + 0.0002 * bar for bar in range(100)], start=START + bars_later * HOUR, range_width=0.0005)


def forecast_for(window: CandleSeries, *, std: float = 0.0020, move: float = 0.0015) -> LDM4TSPrediction:
    price = float(window.closes[-1])
    return make_prediction(
        {240: (price + move, std), 960: (price + move, 2 * std)}, price=price, made_at=to_datetime(window.close_times[-1])
    )


def decided(commands: tuple[Command, ...]) -> DecidedSignal:
    (found,) = [command.decided for command in commands if isinstance(command, RecordSignal)]
    return found


def placed(commands: tuple[Command, ...]) -> list[OrderIntent]:
    return [command.intent for command in commands if isinstance(command, PlaceOrder)]


def thrown(kill_switch: KillSwitch) -> KillSwitchSet:
    return KillSwitchSet(kill_switch=kill_switch, by="a person", reason="a test", at=NOON)


def opened() -> tuple[EngineState, OrderIntent]:
    """An engine whose entry order, decided on the first candle, was filled at the next open."""
    window = flat()
    state, commands = step(EngineState(), candle(window, forecast_for(window)), config())
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
    state, _ = step(state, TransactionReceived(transaction=fill), config())
    return state, intent


def closing_fill(intent: OrderIntent, **changes: Any) -> Fill:
    fill = Fill(
        sequence=2,
        client_order_id=intent.client_order_id,
        symbol="EURUSD",
        side=intent.side.opposite,
        units=intent.units,
        price=Decimal("1.09600"),
        reason=FillReason.STOP,
        profit=Decimal("-123.45"),
        filled_at=intent.created_at + HOUR,
    )
    return replace(fill, **changes)


def test_strong_forecast_opens_a_protected_position_sized_by_its_uncertainty() -> None:
    window = flat()
    state, commands = step(EngineState(), candle(window, forecast_for(window)), config())
    verdict = decided(commands)
    (intent,) = placed(commands)
    assert verdict.verdict is Verdict.ACCEPTED
    assert intent.client_order_id == "EURUSD-20170306T1200-open"
    assert (intent.side, intent.purpose) == (Side.BUY, OrderPurpose.OPEN)
    # The mean is 0.0015 above the price, so q05 = 1.1015 − 1.645 × 0.0020 = 1.09821.
    assert (intent.stop, intent.target) == (Decimal("1.09821"), Decimal("1.10150"))
    # 500 dollars over 17.9 pips and 1 pip of spread: 264,550; uncertainty 100 × 0.002 / 1.1 = 0.1818 % of 0.5 %: × 0.63636
    assert (verdict.base_units, verdict.units) == (Decimal(264_000), Decimal(168_000))
    assert intent.units == Decimal(168_000)
    assert "uncertainty 0.182 % of 0.5 %: × 0.636" in verdict.arithmetic
    costs = verdict.signal.quality.costs
    assert sum(costs.values()) == pytest.approx(1 - verdict.signal.quality.total)
    assert verdict.explanation[0].startswith(f"{max(costs, key=lambda name: costs[name])} cost {max(costs.values()):.2f}: ")
    assert intent.client_order_id in state.pending


def test_uncertainty_at_the_threshold_is_rejected_and_the_rejection_recorded() -> None:
    window = flat()
    _, commands = step(EngineState(), candle(window, forecast_for(window, std=0.0056, move=0.0050)), config())
    verdict = decided(commands)
    assert (verdict.verdict, verdict.units) == (Verdict.REJECTED, 0)
    assert verdict.reason == "an uncertainty of 0.509 % is not below 0.5 %"
    assert verdict.base_units > 0
    assert placed(commands) == []


def test_position_scaling_off_keeps_the_base_size() -> None:
    window = flat()
    _, commands = step(EngineState(), candle(window, forecast_for(window)), config(ldm4ts_position_scaling=False))
    assert decided(commands).units == decided(commands).base_units > 0


def test_poor_quality_is_rejected_with_its_number() -> None:
    window = flat()
    _, commands = step(EngineState(), candle(window, forecast_for(window)), config(min_quality=0.99))
    assert decided(commands).reason.startswith("a quality of 0.")


def test_with_ldm4ts_off_the_other_sources_trade_without_scaling() -> None:
    settings = config(use_ldm4ts=False)
    assert not wants_forecast(EngineState(), "EURUSD", settings)
    _, commands = step(EngineState(), candle(rising()), settings)
    verdict = decided(commands)
    assert verdict.verdict is Verdict.ACCEPTED, verdict.reason
    assert verdict.signal.uncertainty_pct is None
    assert verdict.signal.quality.uncertainty_penalty == 0.0
    assert SignalSource.LDM4TS_FORECAST not in verdict.signal.sources


def test_without_any_forecast_the_engine_goes_on_but_opens_nothing() -> None:
    state, commands = step(EngineState(), candle(rising()), config())
    assert decided(commands).reason == "no forecast of the last 8 candles"
    assert state.forecasts_missed == 1
    assert any(isinstance(command, RecordEquity) for command in commands)


def test_stale_forecast_opens_no_position() -> None:
    state, _ = step(EngineState(), candle(flat(), forecast_for(flat(), move=0.0)), config())
    for bars in range(1, 9):
        state, commands = step(state, candle(rising(bars)), config())
        assert "forecast is" not in decided(commands).reason
        state = replace(state, pending={})
    assert state.forecasts["EURUSD"]["ldm4ts_forecast"].age_bars == 8
    _, commands = step(state, candle(rising(9)), config())
    assert decided(commands).reason == "the forecast is 9 candles old, more than 8"


def test_forecast_is_asked_for_at_every_nth_candle() -> None:
    settings, state, asked = config(forecast_interval_bars=3), EngineState(), list[bool]()
    for bars in range(6):
        asked.append(wants_forecast(state, "EURUSD", settings))
        state, _ = step(state, candle(flat(bars)), settings)
    assert asked == [True, False, False, True, False, False]


def test_flat_market_and_neutral_forecast_give_no_signal_at_all() -> None:
    window = flat()
    _, commands = step(EngineState(), candle(window, forecast_for(window, move=0.0)), config())
    assert [type(command) for command in commands] == [RecordPrediction, RecordEquity]


def test_a_second_signal_finds_the_position_open() -> None:
    state, _ = opened()
    window = flat(1)
    _, commands = step(state, candle(window, forecast_for(window)), config())
    assert decided(commands).reason == "a position in EURUSD is open or being opened"


def test_entry_fill_opens_the_position_with_its_stop() -> None:
    state, intent = opened()
    held = state.positions["EURUSD"]
    assert (held.position.entry_price, held.position.stop, held.position.units) == (Decimal("1.10011"), intent.stop, intent.units)
    assert state.pending == {}
    assert state.transaction_sequence == 1


def test_position_is_closed_when_its_horizon_has_passed() -> None:
    state, intent = opened()
    for bars in range(1, 4):
        state, commands = step(state, candle(flat(bars)), config())
        assert placed(commands) == []
    state, commands = step(state, candle(flat(4)), config())  # 240 minutes are four candles
    (closing,) = placed(commands)
    assert closing.client_order_id == "EURUSD-20170306T1200-close"
    assert (closing.side, closing.units, closing.purpose) == (Side.SELL, intent.units, OrderPurpose.CLOSE)
    _, commands = step(state, candle(flat(5)), config())
    assert placed(commands) == [], "the close on its way is enough"


def test_rejected_close_is_tried_again_under_the_next_number() -> None:
    state, _ = opened()
    for bars in range(1, 5):
        state, _ = step(state, candle(flat(bars)), config())
    rejected = BrokerOrder(client_order_id="EURUSD-20170306T1200-close", broker_order_id="7", status=OrderStatus.REJECTED)
    state, _ = step(state, OrderUpdated(order=rejected, at=NOON), config())
    _, commands = step(state, candle(flat(5)), config())
    assert [intent.client_order_id for intent in placed(commands)] == ["EURUSD-20170306T1200-close-2"]


@pytest.mark.parametrize(("switch", "closes"), [(KillSwitch.REDUCING, True), (KillSwitch.HALTED, False)])
def test_reducing_still_closes_and_halted_sends_nothing(switch: KillSwitch, closes: bool) -> None:
    state, _ = opened()
    state, _ = step(state, thrown(switch), config())
    orders: list[OrderIntent] = []
    for bars in range(1, 5):
        window = flat(bars)
        state, commands = step(state, candle(window, forecast_for(window)), config())
        orders += placed(commands)
    assert bool(orders) is closes


def test_kill_switch_opens_nothing() -> None:
    state, _ = step(EngineState(), thrown(KillSwitch.REDUCING), config())
    window = flat()
    _, commands = step(state, candle(window, forecast_for(window)), config())
    assert decided(commands).reason == "the kill switch is reducing"


def test_stop_fill_closes_the_position_with_its_profit() -> None:
    state, intent = opened()
    state, commands = step(state, TransactionReceived(transaction=closing_fill(intent)), config())
    (record,) = [command.record for command in commands if isinstance(command, RecordPosition)]
    assert (record.exit_price, record.profit) == (Decimal("1.09600"), Decimal("-123.45"))
    assert state.positions == {}


@pytest.mark.parametrize(
    "changes", [{"client_order_id": "somebody else's"}, {"units": Decimal(999_000)}, {"side": Side.BUY}, {"symbol": "GBPUSD"}]
)
def test_fill_that_is_not_ours_stops_the_engine(changes: dict[str, Any]) -> None:
    state, intent = opened()
    with pytest.raises(ReconciliationFailed, match="fill 2"):
        step(state, TransactionReceived(transaction=closing_fill(intent, **changes)), config())


def test_candle_and_fill_handled_before_change_nothing() -> None:
    state, intent = opened()
    assert step(state, candle(flat(), forecast_for(flat())), config()) == (state, ())
    assert step(state, TransactionReceived(transaction=closing_fill(intent, sequence=1)), config()) == (state, ())


def test_rejected_entry_leaves_the_state() -> None:
    window = flat()
    state, commands = step(EngineState(), candle(window, forecast_for(window)), config())
    (intent,) = placed(commands)
    rejected = BrokerOrder(client_order_id=intent.client_order_id, broker_order_id="1", status=OrderStatus.REJECTED)
    assert step(state, OrderUpdated(order=rejected, at=NOON), config())[0].pending == {}
    accepted = replace(rejected, status=OrderStatus.ACCEPTED)
    assert step(state, OrderUpdated(order=accepted, at=NOON), config())[0] == state


def test_day_and_peak_follow_equity_and_the_day_turns_at_17_new_york() -> None:
    state = EngineState()
    # candles close at 21:00 and 22:00 UTC (16:00 and 17:00 New York in winter), then 23:00
    for bars, equity in ((9, 100_000), (10, 101_000), (11, 99_000)):
        account = replace(ACCOUNT, balance=Decimal(equity))
        state, _ = step(state, candle(flat(bars), account=account), config())
    assert state.day_first_equity == Decimal(101_000)
    assert state.peak_equity == Decimal(101_000)


def test_step_is_deterministic_and_never_changes_what_it_is_given() -> None:
    state, intent = opened()
    window = flat(1)
    events = [
        candle(window, forecast_for(window)),
        TransactionReceived(transaction=closing_fill(intent)),
        thrown(KillSwitch.HALTED),
        OrderUpdated(order=BrokerOrder(client_order_id="x", broker_order_id="1", status=OrderStatus.CANCELLED), at=NOON),
    ]
    before = state.to_json()
    for event in events:
        assert step(state, event, config()) == step(state, event, config())
    assert state.to_json() == before


def test_state_survives_json_exactly() -> None:
    state, _ = opened()
    again = state_from_json(state.to_json())
    assert again == state
    assert again.positions["EURUSD"].position.entry_price.as_tuple() == Decimal("1.10011").as_tuple()
    assert again.cursors["EURUSD"] == START + timedelta(hours=100)
