"""What an engine does when its broker is silent, gone or late, or a person acts there: OANDA's adapter, a server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.order import FillReason, OrderPurpose, OrderStatus
from fxcast.domain.signal import Verdict
from fxcast.errors import Disconnected, ReconciliationFailed
from fxcast.trading.state import KillSwitch
from tests.brokers.oanda_server import Fault
from tests.brokers.oanda_trading import LOST_AFTER
from tests.fault_worlds import HORIZON_BARS, OandaWorld, oanda_world, wait_until_done
from tests.waiting import wait_for
from tests.webhooks import Webhook, webhook_server


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OandaWorld]:
    with oanda_world(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with webhook_server() as webhook:
        yield webhook


# The broker does not answer.


def test_a_broker_silent_for_ten_minutes_is_waited_for_and_its_old_candle_opens_nothing(
    world: OandaWorld, webhook: Webhook
) -> None:
    world.webhook_url = webhook.url
    silent_until = world.clock.time + timedelta(hours=1, minutes=10)

    def answer_again(now: Any) -> None:
        if now >= silent_until:
            world.server.every_call = None

    world.at_pause = answer_again
    with world.shell() as shell:
        wait_for(lambda: world.publisher.is_followed)
        world.server.every_call = Fault.SILENT_BEFORE
        world.publish()
        wait_for(lambda: shell.status()["state"] == "waiting")
        assert "oanda" in shell.status()["problem"]
        wait_until_done(shell, 1)
        assert world.clock.time >= silent_until
        (refused,) = world.ledger.signals()
        assert (refused.verdict, refused.reason) == (Verdict.REJECTED, "the candle closed 600 s ago, more than 120")
        assert not world.account.fills
        wait_for(lambda: world.kinds == ["disconnect"])
        world.publish()
        wait_for(lambda: bool(world.ledger.open_positions()))
    assert [text for text in webhook.texts("disconnect") if "oanda" in text], "a person is told"
    assert len(webhook.texts("disconnect")) == 2, "once of the broker, and once of the feed that this test ends"
    assert world.trade.stop is not None


def test_an_open_position_keeps_its_stop_while_the_broker_is_silent_and_leaves_at_its_horizon_after(world: OandaWorld) -> None:
    stop = world.open_position().stop
    world.close_candle()
    closed = world.next_closed()
    world.server.every_call = Fault.DROP_BEFORE
    for _ in range(3):
        with pytest.raises(Disconnected):
            world.runner.handle(closed)
        world.clock.time += timedelta(minutes=5)
    assert world.trade.stop == stop
    world.server.every_call = None
    world.runner.handle(closed)
    assert world.runner.state.positions["EURUSD"].bars_held == 2, "the candle counts once, however often it was tried"
    for _ in range(HORIZON_BARS - 2):
        world.close_candle()
    world.look()
    assert not world.account.open_trades
    assert [record.profit is not None for record in world.ledger.positions()] == [True]


def test_a_name_that_does_not_resolve_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, resolving = socket.getaddrinfo, [False]

    def answer(host: Any, *rest: Any, **options: Any) -> Any:
        if host != "api.oanda.test":
            return resolve(host, *rest, **options)
        if resolving[0]:
            return resolve("127.0.0.1", *rest, **options)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with oanda_world(tmp_path, monkeypatch) as world:
        world.rest_url = world.server.url.replace("127.0.0.1", "api.oanda.test")
        monkeypatch.setattr(socket, "getaddrinfo", answer)
        with world.shell() as shell:
            wait_for(lambda: shell.status()["state"] == "waiting")
            assert "Disconnected: oanda" in shell.status()["problem"]
            assert not world.server.seen
            resolving[0] = True
            wait_for(lambda: world.publisher.is_followed)
            world.publish()
            wait_until_done(shell, 1)
        assert len(world.account.fills) == 1


def test_a_host_that_is_nowhere_raises_what_is_waited_for(world: OandaWorld) -> None:
    world.rest_url = "http://oanda.invalid"  # a name that nobody may have
    with pytest.raises(Disconnected, match="oanda"):
        world.start()
    assert world.ledger.load_state() is None


# An answer is lost.


@pytest.mark.parametrize("fault", LOST_AFTER)
def test_an_order_that_was_executed_although_its_answer_was_lost_is_one_protected_position(world: OandaWorld, fault: Fault) -> None:
    world.start()
    world.server.fail(fault)
    world.close_candle()
    world.look()
    assert world.server.calls("POST orders") == 1
    assert world.trade.stop is not None
    (order,) = world.ledger.orders()
    assert (order.status, order.intent.stop) == (OrderStatus.FILLED, world.trade.stop)
    assert [position.units for position in world.ledger.open_positions()] == [world.trade.units]


def test_an_order_nothing_can_be_learned_of_stays_sent_until_the_broker_answers(world: OandaWorld) -> None:
    world.start()
    world.server.fail(Fault.SILENT_AFTER)
    world.server.fail(Fault.DROP_BEFORE, "transactions", "GET", skip=2)  # caught up, asked before it was sent, asked after
    world.close_candle()
    assert [order.status for order in world.ledger.orders()] == [OrderStatus.SENT]
    world.start()  # as after a crash meanwhile
    assert [order.status for order in world.ledger.orders()] == [OrderStatus.FILLED]
    assert world.server.calls("POST orders") == 1
    assert len(world.account.open_trades) == 1


def test_an_order_that_comes_late_opens_no_second_position(world: OandaWorld) -> None:
    world.start()
    world.server.fail(Fault.LATE)
    world.close_candle()
    assert [order.status for order in world.ledger.orders()] == [OrderStatus.SENT]
    world.look()  # within its candle, an order that never came is sent again
    world.server.run_late()
    world.look()
    world.close_candle()
    assert len(world.account.fills) == 1
    assert [position.units for position in world.ledger.open_positions()] == [world.trade.units]


def test_an_order_that_comes_after_it_was_given_up_is_taken_over_with_its_stop(world: OandaWorld) -> None:
    world.start()
    world.server.fail(Fault.LATE)
    world.close_candle()
    world.runner.set_kill_switch(KillSwitch.REDUCING)
    world.close_candle()
    assert next(order.status for order in world.ledger.orders()) is OrderStatus.CANCELLED
    world.server.run_late()
    world.look()
    assert world.ledger.open_positions()[0].stop == world.trade.stop
    assert next(order.status for order in world.ledger.orders()) is OrderStatus.FILLED
    assert "reconciliation" in world.kinds
    assert world.alerts.of("reconciliation")
    world.start()
    assert list(world.runner.state.positions) == ["EURUSD"]


def test_an_order_that_comes_late_and_finds_another_position_stops_the_engine_and_is_protected(world: OandaWorld) -> None:
    world.start()
    world.server.fail(Fault.LATE)
    world.close_candle()
    world.close_candle()
    assert next(order.status for order in world.ledger.orders()) is OrderStatus.CANCELLED
    world.server.run_late()
    late = world.account.open_trades[-1]
    assert late.stop is not None
    for wake_up in (world.look, world.start):  # a restart does not help
        with pytest.raises(ReconciliationFailed, match="does not open"):
            wake_up()
    for trade in world.account.open_trades:  # what docs/reliability.md tells a person to do
        world.account.close_by_hand(trade.id)
    world.start(SqlLedger(world.database, "anew"))
    world.close_candle()
    assert len(world.account.open_trades) == 1


def test_a_close_that_was_executed_although_its_answer_was_lost_closes_once(world: OandaWorld) -> None:
    world.open_position()
    for _ in range(HORIZON_BARS - 1):
        world.close_candle()
    world.server.fail(Fault.SILENT_AFTER)
    world.close_candle()
    world.look()
    assert not world.account.open_trades
    assert world.server.calls("POST orders") == 2
    assert [order.status for order in world.ledger.orders()] == [OrderStatus.FILLED] * 2


# A person acts at the broker.


@pytest.mark.parametrize("looser", [None, "1.05000"])
def test_a_stop_that_a_person_removed_or_loosened_is_put_back_at_the_next_look(world: OandaWorld, looser: str | None) -> None:
    trade = world.open_position()
    stop = trade.stop
    world.account.set_stop_by_hand(trade.id, looser)
    world.look()
    assert world.trade.stop == stop
    assert world.kinds == ["stop_missing"]
    assert world.alerts.of("stop_missing")
    world.look()
    assert world.kinds == ["stop_missing"], "it is told once"


def test_a_stop_that_the_broker_does_not_take_back_closes_the_position(world: OandaWorld) -> None:
    trade = world.open_position()
    world.account.set_stop_by_hand(trade.id, None)
    world.server.refuse_change_next = "STOP_LOSS_ORDER_LOSS"
    world.look()
    world.look()
    assert not world.account.open_trades
    assert world.kinds == ["rejection", "stop_missing"]
    (closing,) = (order for order in world.ledger.orders() if order.intent.purpose is OrderPurpose.CLOSE)
    assert closing.intent.reason == "its stop is lost, and the broker does not take it back"


def test_a_stop_that_a_person_tightened_is_kept(world: OandaWorld) -> None:
    trade = world.open_position()
    assert trade.stop is not None
    tighter = trade.stop + Decimal("0.00100")
    world.account.set_stop_by_hand(trade.id, str(tighter))
    world.look()
    world.close_candle()
    assert world.trade.stop == tighter == world.ledger.open_positions()[0].stop
    assert world.kinds == ["hand_change"]
    assert world.alerts.of("hand_change")


@pytest.mark.parametrize("target", ["1.11500", None])
def test_a_target_that_a_person_changed_or_removed_is_kept(world: OandaWorld, target: str | None) -> None:
    trade = world.open_position()
    world.account.protect(trade, {"takeProfit": None if target is None else {"price": target}})
    world.look()
    world.close_candle()
    expected = None if target is None else Decimal(target)
    assert world.trade.target == expected == world.ledger.open_positions()[0].target
    assert world.trade.stop is not None
    assert world.kinds == ["hand_change"]


def test_a_position_that_a_person_closed_is_closed_in_the_ledger_with_its_profit(world: OandaWorld) -> None:
    trade = world.open_position()
    world.account.close_by_hand(trade.id)
    world.look()
    assert world.kinds == ["hand_change"]
    (closed,) = world.ledger.positions()
    assert closed.profit == trade.realised
    assert world.ledger.fills()[-1].reason is FillReason.MANUAL
    world.close_candle()
    assert len(world.account.open_trades) == 1, "the engine goes on trading"


def test_of_a_position_that_a_person_closed_in_part_the_rest_keeps_its_stop_and_leaves_at_its_horizon(world: OandaWorld) -> None:
    trade = world.open_position()
    units, stop = trade.units, trade.stop
    world.account.open_by_hand("EUR_USD", -int(units) // 4)
    world.look()
    left = units + Decimal(-int(units) // 4)
    assert [position.units for position in world.ledger.open_positions()] == [left] == [world.trade.units]
    assert world.trade.stop == stop
    assert world.kinds == ["hand_change"]
    for _ in range(HORIZON_BARS):
        world.close_candle()
    world.look()
    assert not world.account.open_trades
    assert world.ledger.orders()[-1].intent.units == left


def test_a_position_that_a_person_opened_in_a_traded_symbol_keeps_the_engine_out_of_it_until_it_is_gone(world: OandaWorld) -> None:
    world.start()
    world.account.open_by_hand("EUR_USD", 1_000)
    world.close_candle()
    assert set(world.kinds) == {"foreign_position"}
    assert world.alerts.of("foreign_position")
    assert world.ledger.signals()[-1].verdict is Verdict.REJECTED
    assert world.server.calls("POST orders") == 0
    world.account.close_by_hand(world.trade.id)
    world.close_candle()
    world.look()
    assert [position.units for position in world.ledger.open_positions()] == [world.trade.units]


def test_a_position_that_a_person_opens_beside_the_engines_own_is_left_alone(world: OandaWorld) -> None:
    ours = world.open_position()
    world.account.open_by_hand("EUR_USD", 1_000)
    for _ in range(HORIZON_BARS):
        world.close_candle()
    world.look()
    assert not ours.is_open, "the engine's own leaves at its horizon"
    assert world.trade.units == 1_000
    assert world.trade.client_id == ""


def test_a_position_that_a_person_opened_in_another_symbol_is_told_and_does_not_keep_the_engine_from_its_own(
    world: OandaWorld,
) -> None:
    world.start()
    world.account.open_by_hand("GBP_USD", 1_000)
    world.close_candle()
    world.look()
    assert "foreign_position" in world.kinds
    assert [trade.instrument for trade in world.account.open_trades] == ["GBP_USD", "EUR_USD"]


def test_a_limit_order_that_a_person_placed_does_not_keep_an_engine_from_starting(world: OandaWorld) -> None:
    world.open_position()
    world.account.wait_by_hand("EUR_USD", 1_000, "1.00000")
    world.start()
    assert [position.units for position in world.ledger.open_positions()] == [world.trade.units]


# The engine is down.


def test_a_stop_that_is_hit_while_the_engine_is_down_is_in_the_ledger_after_its_start(world: OandaWorld) -> None:
    trade = world.open_position()
    world.account.set_price("EUR_USD", "1.08000", "1.08010")  # far beyond the stop
    assert not trade.is_open
    world.start()
    fill = world.ledger.fills()[-1]
    assert (fill.reason, fill.price) == (FillReason.STOP, Decimal("1.08000"))
    (closed,) = world.ledger.positions()
    assert closed.profit == fill.profit == trade.realised
    assert world.alerts.of("fill")[-1].startswith("sell")
    before = world.server.calls("POST orders")
    world.look()
    assert world.server.calls("POST orders") == before, "there is nothing to close any more"
