"""The runner against fakes: commit before send, ask when unknown, reconcile or refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.order import BrokerOrder, OrderIntent, OrderStatus
from fxcast.domain.signal import Verdict
from fxcast.errors import BadSetup, OutcomeUnknown, ReconciliationFailed
from fxcast.trading.config import PaperMarketConfig, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.forecasting import forecast_seed
from fxcast.trading.ports import RiskEventKind
from fxcast.trading.runner import Runner
from fxcast.trading.state import KillSwitch
from tests.factories import make_prediction, make_series, random_walk_prediction
from tests.fakes import MemoryBroker, MemoryLedger, ScriptedForecasts, SeriesFeed, SettableClock

# The first full window ends on Monday 2017-03-06 at 04:00 UTC.
SERIES = make_series(bars=160, seed=4, range_width=0.0003, start=datetime(2017, 3, 2, tzinfo=UTC))
TRADING = TradingConfig(ldm4ts_horizons=(240, 960), ldm4ts_min_strength=0.0, min_quality=0.0)


def bullish(window: CandleSeries, seed: int) -> LDM4TSPrediction:
    """A forecast that is always for a rise, by an amount that depends on the seed."""
    price = float(window.closes[-1])
    mean = price + 0.0010 + (seed % 100) * 1e-6
    return make_prediction({240: (mean, 0.0015), 960: (mean, 0.0030)}, price=price, made_at=to_datetime(window.close_times[-1]))


class Desk:
    """Everything around a runner, which a crash does not lose."""

    def __init__(self, series: CandleSeries = SERIES, *, answer: Callable[[CandleSeries, int], LDM4TSPrediction] = bullish) -> None:
        self.series = series
        self.ledger = MemoryLedger()
        self.broker = MemoryBroker(PaperMarketConfig())
        self.forecasts = ScriptedForecasts(answer)
        self.clock = SettableClock(to_datetime(series.open_times[0]))

    def runner(self, trading: TradingConfig = TRADING) -> Runner:
        return Runner(
            EngineConfig(trading=trading),
            feed=SeriesFeed(self.series, clock=self.clock),
            broker=self.broker,
            ledger=self.ledger,
            clock=self.clock,
            forecasts=self.forecasts,
            observers=[self.broker],
        )


def test_run_handles_every_candle_once_and_records_equity_for_each() -> None:
    desk = Desk()
    assert desk.runner().run() == 61
    assert len(desk.ledger.equity) == 61
    assert desk.runner().run() == 0, "a second run has nothing left"


def test_orders_are_filled_and_the_ledger_agrees_with_the_broker() -> None:
    desk = Desk()
    desk.runner().run()
    assert len(desk.ledger.fills) > 5
    assert list(desk.ledger.fills.values()) == desk.broker.fills
    # An order decided on the last candle is still waiting; the others are settled.
    assert {record.status for record in desk.ledger.orders()} <= {OrderStatus.FILLED, OrderStatus.ACCEPTED}
    account, last = desk.broker.account(), list(desk.ledger.equity.values())[-1]
    assert (last.balance, last.open_profit) == (account.balance, account.open_profit)
    realised = sum((fill.profit for fill in desk.broker.fills), Decimal(0))
    assert account.balance == PaperMarketConfig().starting_balance + realised


def test_every_fused_signal_is_recorded_with_a_verdict() -> None:
    desk = Desk()
    desk.runner().run()
    accepted, rejected = desk.ledger.decided(Verdict.ACCEPTED), desk.ledger.decided(Verdict.REJECTED)
    assert accepted
    assert all(decided.reason for decided in rejected)
    assert len(accepted) + len(rejected) == 61


def test_intent_is_committed_before_it_is_sent() -> None:
    desk = Desk()
    runner, seen = desk.runner(), list[OrderStatus]()
    place = desk.broker.place_order

    def checking(intent: OrderIntent) -> BrokerOrder:
        seen.append(desk.ledger.order_records[intent.client_order_id].status)
        return place(intent)

    desk.broker.place_order = checking
    runner.run()
    assert seen
    assert set(seen) == {OrderStatus.SENT}


def test_seed_depends_on_symbol_and_candle_only() -> None:
    desk = Desk()
    desk.runner().run()
    assert len(set(desk.forecasts.seeds)) == 61
    moment = to_datetime(SERIES.close_times[-1])
    assert desk.forecasts.seeds[-1] == forecast_seed("EURUSD", moment) != forecast_seed("GBPUSD", moment)


def test_without_forecasts_the_engine_goes_on_counts_them_and_opens_nothing() -> None:
    desk = Desk()
    desk.forecasts.down = True
    runner = desk.runner()
    assert runner.run() == 61
    assert runner.state.forecasts_missed == 61
    assert desk.ledger.orders() == ()


def test_forecast_of_another_candle_counts_as_none() -> None:
    desk = Desk(answer=lambda _window, _seed: make_prediction(made_at=to_datetime(SERIES.open_times[0])))
    runner = desk.runner()
    runner.run()
    assert runner.state.forecasts_missed == 61
    assert desk.ledger.predictions == {}


def test_order_that_arrived_although_its_answer_was_lost_is_sent_once() -> None:
    desk, undisturbed = Desk(), Desk()
    undisturbed.runner().run()
    place = desk.broker.place_order

    def answer_lost(intent: OrderIntent) -> BrokerOrder:
        place(intent)
        raise OutcomeUnknown("no answer")

    desk.broker.place_order = answer_lost
    desk.runner().run()
    assert desk.ledger == undisturbed.ledger


def test_order_whose_outcome_stays_unknown_stays_sent_and_is_asked_about_again() -> None:
    desk = Desk()
    place, order = desk.broker.place_order, desk.broker.order
    silent = True

    def answer_lost(intent: OrderIntent) -> BrokerOrder:
        answer = place(intent)
        if silent:
            raise OutcomeUnknown("no answer")
        return answer

    def no_answer(client_order_id: str) -> BrokerOrder | None:
        if silent:
            raise OutcomeUnknown("no answer either")
        return order(client_order_id)

    desk.broker.place_order, desk.broker.order = answer_lost, no_answer
    runner = desk.runner()
    runner.start()
    candles = runner.closed_candles()
    runner.handle(next(candles))
    assert [record.status for record in desk.ledger.orders()] == [OrderStatus.SENT]
    silent = False
    runner.handle(next(candles))
    assert desk.ledger.orders()[0].status is OrderStatus.FILLED


def lose_first_order(desk: Desk) -> list[str]:
    """Make the broker's first order vanish on the way; return the ids that arrive later."""
    place, arrived, lost = desk.broker.place_order, list[str](), list[str]()

    def losing(intent: OrderIntent) -> BrokerOrder:
        if not lost:
            lost.append(intent.client_order_id)
            raise OutcomeUnknown("lost on the way")
        arrived.append(intent.client_order_id)
        return place(intent)

    desk.broker.place_order = losing
    return arrived


def test_order_that_never_arrived_is_dropped_once_its_candle_is_over() -> None:
    desk = Desk()
    arrived = lose_first_order(desk)
    desk.runner().run(max_moments=3)
    first = desk.ledger.orders()[0]
    assert (first.status, first.reason) == (OrderStatus.CANCELLED, "it never reached the broker and is no longer valid")
    assert first.intent.client_order_id not in arrived
    assert arrived, "later signals are traded"


def test_restart_while_its_candle_is_fresh_sends_the_lost_order_again() -> None:
    desk = Desk()
    arrived = lose_first_order(desk)
    desk.runner().run(max_moments=1)
    assert arrived == []
    desk.clock.time += timedelta(minutes=1)
    desk.runner().start()
    assert arrived == [desk.ledger.orders()[0].intent.client_order_id]
    assert desk.ledger.orders()[0].status is OrderStatus.ACCEPTED


def test_restart_when_its_candle_is_stale_drops_the_lost_order() -> None:
    desk = Desk()
    arrived = lose_first_order(desk)
    desk.runner().run(max_moments=1)
    desk.clock.time += timedelta(minutes=3)
    runner = desk.runner()
    runner.start()
    assert arrived == []
    assert runner.state.pending == {}


def test_halted_engine_sends_nothing_on_restart() -> None:
    desk = Desk()
    arrived = lose_first_order(desk)
    runner = desk.runner()
    runner.run(max_moments=1)
    runner.set_kill_switch(KillSwitch.HALTED)
    restarted = desk.runner()
    restarted.start()
    assert restarted.state.kill_switch is KillSwitch.HALTED
    assert arrived == []


def run_until_position(desk: Desk) -> Runner:
    runner = desk.runner()
    runner.start()
    for closed in runner.closed_candles():
        runner.handle(closed)
        if runner.state.positions:
            return runner
    pytest.fail("no position was opened")


def test_position_that_only_the_broker_knows_stops_the_start() -> None:
    desk = Desk()
    run_until_position(desk)
    assert desk.ledger.state is not None
    desk.ledger.state = replace(desk.ledger.state, positions={})
    with pytest.raises(ReconciliationFailed, match="position EURUSD-"):
        desk.runner().start()


def test_position_whose_stop_is_looser_at_the_broker_gets_its_own_again() -> None:
    desk = Desk()
    runner = run_until_position(desk)
    right = desk.broker.book.positions["EURUSD"]
    looser = replace(right, stop=right.stop - right.side.sign * Decimal("0.01"))
    desk.broker.book = replace(desk.broker.book, positions={"EURUSD": looser})
    desk.runner().start()
    assert desk.broker.book.positions["EURUSD"] == right
    assert runner.state.positions["EURUSD"].position.stop == right.stop
    assert [event.kind for event in desk.ledger.risk_events.values()] == [RiskEventKind.STOP_MISSING]


def test_order_that_only_the_broker_knows_stops_the_start() -> None:
    desk = Desk()
    desk.runner().run(max_moments=1)
    assert desk.ledger.state is not None
    desk.ledger.state = replace(desk.ledger.state, pending={})
    with pytest.raises(ReconciliationFailed, match="open orders"):
        desk.runner().start()


def test_engine_without_a_ledger_refuses_a_broker_that_holds_its_positions() -> None:
    desk = Desk()
    run_until_position(desk)
    desk.ledger = MemoryLedger()
    with pytest.raises(ReconciliationFailed, match="the ledger has none, the broker"):
        desk.runner().start()


def test_new_engine_begins_after_what_happened_in_its_account_before() -> None:
    desk = Desk()
    desk.runner().run()
    before = desk.broker.book.sequence
    assert before > 0
    desk.broker.book = replace(desk.broker.book, positions={}, working={})
    desk.ledger = MemoryLedger()
    runner = desk.runner()
    runner.start()
    assert runner.state.transaction_sequence == before
    assert desk.ledger.fills == {}


def test_account_in_a_third_currency_is_refused_at_the_start() -> None:
    desk = Desk()
    desk.broker = MemoryBroker(PaperMarketConfig(account_currency="CHF"))
    with pytest.raises(BadSetup, match="CHF"):
        desk.runner().start()


def test_rejected_order_is_recorded_and_forgotten() -> None:
    desk = Desk()
    desk.broker = MemoryBroker(PaperMarketConfig(leverage=Decimal("0.01")))  # no margin for anything
    runner = desk.runner()
    runner.run()
    assert {record.status for record in desk.ledger.orders()} == {OrderStatus.REJECTED}
    assert all("insufficient margin" in record.reason for record in desk.ledger.orders())
    assert runner.state.pending == {}


def test_engine_with_two_symbols_takes_their_candles_in_order_of_time() -> None:
    clock = SettableClock(to_datetime(SERIES.open_times[0]))
    broker, ledger = MemoryBroker(PaperMarketConfig()), MemoryLedger()
    sterling = make_series(bars=120, symbol="GBPUSD", price=1.3, seed=5, start=datetime(2017, 3, 2, tzinfo=UTC))
    runner = Runner(
        EngineConfig(trading=TRADING),
        feed=SeriesFeed(SERIES.slice(0, 120), sterling, clock=clock),
        broker=broker,
        ledger=ledger,
        clock=clock,
        forecasts=ScriptedForecasts(lambda window, seed: random_walk_prediction(window, seed, horizons_minutes=(240, 960))),
        observers=[broker],
    )
    order = [tuple(each.window.symbol for each in closed) for closed in runner.closed_candles()]
    assert order == [("EURUSD", "GBPUSD")] * 21
    assert runner.run() == 21
    last: datetime = to_datetime(sterling.close_times[-1])
    assert runner.state.cursors == {"EURUSD": last, "GBPUSD": last}
