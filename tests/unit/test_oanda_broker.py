"""OANDA as a broker: orders and changes of protection, spoken with a server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from fxcast.adapters.brokers.oanda import OandaBroker
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.domain.order import (
    ChangeAnswer,
    OrderStatus,
    Side,
)
from fxcast.errors import Disconnected, OutcomeUnknown, RateLimited, Unavailable
from tests.brokers.oanda_account import ACCOUNT, Json
from tests.brokers.oanda_server import RETRY_AFTER_S, TOKEN, Fault, OandaServer
from tests.brokers.oanda_trading import CHANGE, ENTRY, EXIT, LOST_AFTER, LOST_BEFORE, broker_of
from tests.ports import free_port


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OANDA_TOKEN, TOKEN)
    monkeypatch.setenv(OANDA_ACCOUNT, ACCOUNT)


@pytest.fixture
def server() -> Iterator[OandaServer]:
    with OandaServer() as running:
        yield running


@pytest.fixture
def broker(server: OandaServer) -> Iterator[OandaBroker]:
    opened = broker_of(server)
    yield opened
    opened.close()


def test_an_entry_opens_a_position_with_its_stop_and_target_at_the_broker(server: OandaServer, broker: OandaBroker) -> None:
    placed = broker.place_order(ENTRY)
    assert placed.status is OrderStatus.FILLED
    assert placed.filled_units == ENTRY.units
    (position,) = broker.positions()
    assert (position.client_order_id, position.symbol, position.side, position.units) == ("entry-1", "EURUSD", Side.BUY, 10_000)
    assert (position.entry_price, position.stop, position.target) == (Decimal("1.10010"), ENTRY.stop, ENTRY.target)
    (trade,) = server.account.open_trades
    assert (trade.client_id, trade.stop, trade.target) == ("entry-1", ENTRY.stop, ENTRY.target)


def test_prices_are_sent_with_the_digits_of_the_instrument(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(replace(ENTRY, symbol="USDJPY", side=Side.SELL, stop=Decimal("150.51234"), target=Decimal(149)))
    (trade,) = server.account.open_trades
    assert (str(trade.stop), str(trade.target)) == ("150.512", "149.000")
    assert trade.units == -ENTRY.units


def test_the_same_order_again_returns_the_first_ones_state_and_executes_nothing(server: OandaServer, broker: OandaBroker) -> None:
    placed = broker.place_order(ENTRY)
    assert broker.place_order(ENTRY) == placed
    assert broker_of(server).place_order(ENTRY) == placed  # as after a restart
    assert server.calls("POST orders") == 1


def test_an_order_is_found_after_its_position_was_closed(server: OandaServer, broker: OandaBroker) -> None:
    placed = broker.place_order(ENTRY)
    server.account.close_by_hand(server.account.open_trades[0].id)
    assert broker_of(server).order("entry-1") == placed
    assert broker_of(server).place_order(ENTRY) == placed
    assert not server.account.open_trades


def test_an_order_that_never_came_is_none(broker: OandaBroker) -> None:
    assert broker.order("entry-1") is None


def test_an_order_further_back_than_the_lookback_is_not_found(server: OandaServer, broker: OandaBroker) -> None:
    placed = broker.place_order(ENTRY)
    for _ in range(5):
        server.account.add("TRANSFER_FUNDS", amount="1")
    assert broker_of(server, lookback_transactions=9).order("entry-1") == placed
    assert broker_of(server, lookback_transactions=5).order("entry-1") is None


@pytest.mark.parametrize("fault", LOST_AFTER)
def test_an_order_whose_answer_was_lost_is_unknown_and_then_found(server: OandaServer, broker: OandaBroker, fault: Fault) -> None:
    server.fail(fault)
    with pytest.raises(OutcomeUnknown):
        broker.place_order(ENTRY)
    found = broker.order("entry-1")
    assert found is not None
    assert found.status is OrderStatus.FILLED
    assert broker.place_order(ENTRY) == found
    assert len(server.account.open_trades) == 1


@pytest.mark.parametrize("fault", LOST_BEFORE)
def test_an_order_that_was_lost_on_its_way_is_unknown_and_can_be_sent_again(
    server: OandaServer, broker: OandaBroker, fault: Fault
) -> None:
    server.fail(fault)
    with pytest.raises(OutcomeUnknown):
        broker.place_order(ENTRY)
    assert broker.order("entry-1") is None
    assert broker.place_order(ENTRY).status is OrderStatus.FILLED
    assert len(server.account.open_trades) == 1


@pytest.mark.parametrize("both_late", [True, False])
def test_an_order_that_comes_late_opens_no_second_position(server: OandaServer, broker: OandaBroker, both_late: bool) -> None:
    server.fail(Fault.LATE)
    with pytest.raises(OutcomeUnknown):
        broker.place_order(ENTRY)
    if both_late:
        server.fail(Fault.LATE)
        with pytest.raises(OutcomeUnknown):
            broker.place_order(ENTRY)
    else:
        assert broker.place_order(ENTRY).status is OrderStatus.FILLED
    server.run_late()
    assert len(server.account.fills) == 1
    found = broker.order("entry-1")
    assert found is not None
    assert found.status is OrderStatus.FILLED


def test_an_order_that_lost_the_race_with_its_own_first_request_is_answered_with_the_first_ones_state(
    server: OandaServer, broker: OandaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = server.account.order

    def with_another_before(request: Json, *, refuse: str = "", cancel: str = "", most: Decimal | None = None) -> Json:
        answered(request)
        return answered(request, refuse=refuse, cancel=cancel, most=most)

    monkeypatch.setattr(server.account, "order", with_another_before)
    placed = broker.place_order(ENTRY)
    assert placed.status is OrderStatus.FILLED
    assert server.account.transactions[-1]["reason"] == "CLIENT_TRADE_ID_ALREADY_EXISTS"
    assert len(server.account.open_trades) == 1


def test_a_rejected_order_stays_rejected(server: OandaServer, broker: OandaBroker) -> None:
    server.reject_next = "ACCOUNT_LOCKED"
    placed = broker.place_order(ENTRY)
    assert (placed.status, placed.reason) == (OrderStatus.REJECTED, "ACCOUNT_LOCKED")
    assert broker.place_order(ENTRY) == placed == broker.order("entry-1")
    assert not server.account.open_trades


def test_an_order_that_never_became_one_is_rejected_with_the_brokers_words(server: OandaServer, broker: OandaBroker) -> None:
    broker.instruments(["EURUSD"])
    del server.account.prices["EUR_USD"]
    placed = broker.place_order(ENTRY)
    assert (placed.status, placed.reason) == (OrderStatus.REJECTED, "Invalid value specified for 'order.instrument'")


@pytest.mark.parametrize("reason", ["BOUNDS_VIOLATION", "MARKET_HALTED", "INSUFFICIENT_MARGIN"])
def test_an_order_whose_price_moved_away_is_cancelled_with_the_reason(
    server: OandaServer, broker: OandaBroker, reason: str
) -> None:
    server.cancel_next = reason
    placed = broker.place_order(ENTRY)
    assert (placed.status, placed.reason, placed.filled_units) == (OrderStatus.CANCELLED, reason, 0)
    assert broker.order("entry-1") == placed
    assert not broker.positions()


def test_a_stop_on_the_wrong_side_of_the_price_opens_nothing(broker: OandaBroker) -> None:
    placed = broker.place_order(replace(ENTRY, stop=Decimal("1.10005")))
    assert (placed.status, placed.reason) == (OrderStatus.CANCELLED, "STOP_LOSS_ON_FILL_LOSS")
    assert not broker.positions()


def test_of_too_large_an_order_all_or_nothing_is_filled_by_default(server: OandaServer, broker: OandaBroker) -> None:
    server.most_units_next = 4_000
    placed = broker.place_order(ENTRY)
    assert (placed.status, placed.filled_units) == (OrderStatus.CANCELLED, 0)


def test_a_partial_fill_is_a_cancelled_order_with_the_units_that_were_filled(server: OandaServer) -> None:
    broker = broker_of(server, time_in_force="IOC")
    server.most_units_next = 4_000
    placed = broker.place_order(ENTRY)
    assert (placed.status, placed.filled_units) == (OrderStatus.CANCELLED, 4_000)
    assert placed.reason == "4000 of 10000 units were filled"
    assert broker.order("entry-1") == placed
    assert [position.units for position in broker.positions()] == [4_000]


def test_the_broker_asks_for_a_pause(server: OandaServer, broker: OandaBroker) -> None:
    server.fail(Fault.LIMITED)
    with pytest.raises(RateLimited) as limited:
        broker.place_order(ENTRY)
    assert limited.value.retry_after_s == RETRY_AFTER_S
    assert not server.account.open_trades
    server.fail(Fault.LIMITED, "summary", "GET")
    with pytest.raises(RateLimited):
        broker.account()


def test_a_closing_order_closes_and_never_opens_the_other_way(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    closed = broker.close_position(EXIT)
    assert (closed.status, closed.filled_units) == (OrderStatus.FILLED, EXIT.units)
    again = broker.close_position(replace(EXIT, client_order_id="exit-2"))
    assert again.status is OrderStatus.CANCELLED
    assert again.reason
    assert not server.account.open_trades


def test_a_part_of_a_position_is_closed_once(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    part = replace(EXIT, units=Decimal(4_000))
    server.fail(Fault.DROP_AFTER)
    with pytest.raises(OutcomeUnknown):
        broker.close_position(part)
    assert broker.close_position(part).status is OrderStatus.FILLED
    assert [position.units for position in broker.positions()] == [6_000]


def test_nothing_was_sent_where_nobody_listens(server: OandaServer) -> None:
    broker = broker_of(server, rest_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Disconnected):
        broker.place_order(ENTRY)


def test_an_order_that_could_not_leave_was_not_sent(server: OandaServer, broker: OandaBroker) -> None:
    broker.instruments(["EURUSD"])
    gone = broker_of(server, rest_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Disconnected):
        gone._calls.command("POST", "orders", {}, lambda _code, _answer: None)  # pyright: ignore[reportPrivateUsage]  # past the question


@pytest.mark.parametrize("fault", [*LOST_BEFORE, Fault.GARBAGE_AFTER])
def test_a_question_without_an_answer_is_a_lost_connection(server: OandaServer, broker: OandaBroker, fault: Fault) -> None:
    server.fail(fault, "openTrades", "GET")
    with pytest.raises(Disconnected):
        broker.positions()
    assert broker.positions() == ()


def test_a_change_replaces_stop_and_target_and_again_changes_nothing(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    assert broker.modify_order(CHANGE) == ChangeAnswer(accepted=True)
    (position,) = broker.positions()
    assert (position.stop, position.target) == (CHANGE.stop, CHANGE.target)
    before = server.account.last_id
    assert broker.modify_order(CHANGE) == ChangeAnswer(accepted=True)
    assert server.account.last_id == before


def test_a_target_can_be_taken_away_and_a_stop_that_a_person_took_away_comes_back(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    server.account.set_stop_by_hand(server.account.open_trades[0].id, None)
    assert broker.positions()[0].stop is None
    assert broker.modify_order(replace(CHANGE, target=None)).accepted
    (position,) = broker.positions()
    assert (position.stop, position.target) == (CHANGE.stop, None)


@pytest.mark.parametrize("fault", LOST_AFTER)
def test_a_change_whose_answer_was_lost_can_be_sent_again(server: OandaServer, broker: OandaBroker, fault: Fault) -> None:
    broker.place_order(ENTRY)
    server.fail(fault, "trades", "PUT")
    with pytest.raises(OutcomeUnknown):
        broker.modify_order(CHANGE)
    assert broker.modify_order(CHANGE).accepted
    assert server.account.open_trades[0].stop == CHANGE.stop


def test_a_refused_change_is_an_answer(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    server.refuse_change_next = "STOP_LOSS_ORDER_GUARANTEED_REQUIRED"
    assert broker.modify_order(CHANGE) == ChangeAnswer(accepted=False, reason="STOP_LOSS_ORDER_GUARANTEED_REQUIRED")


def test_a_position_that_is_gone_can_not_be_changed(server: OandaServer, broker: OandaBroker) -> None:
    gone = ChangeAnswer(accepted=False, reason="the position is gone")
    assert broker.modify_order(CHANGE) == gone
    broker.place_order(ENTRY)
    server.account.set_price("EUR_USD", "1.09000", "1.09010")
    assert broker.modify_order(CHANGE) == gone


def test_a_404_of_something_on_the_way_does_not_mean_that_a_position_is_gone(server: OandaServer) -> None:
    broker = broker_of(server, rest_url=f"{server.url}/no/such/place")
    with pytest.raises(Unavailable):
        broker.modify_order(CHANGE)
