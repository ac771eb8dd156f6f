"""Orders, stops and closing at cTrader."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from fxcast.adapters.brokers.ctrader import CTraderBroker
from fxcast.domain.order import ChangeAnswer, FillReason, OrderStatus, Side
from fxcast.errors import OutcomeUnknown, RateLimited
from tests.brokers.ctrader_faults import Fault
from tests.brokers.ctrader_server import (
    AMEND,
    CLOSE,
    CREDENTIALS,
    NEW_ORDER,
    ORDER_LIST,
    CTraderServer,
)
from tests.brokers.ctrader_trading import (
    CLOSING,
    OPEN,
    broker_of,
    change_of,
    closing_of,
    fills_of,
    intent_of,
    only_one,
    open_by_hand,
)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in CREDENTIALS.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture
def server() -> Iterator[CTraderServer]:
    with CTraderServer() as running:
        yield running


@pytest.fixture
def broker(server: CTraderServer) -> Iterator[CTraderBroker]:
    made = broker_of(server)
    yield made
    made.close()


class TestOrders:
    @pytest.mark.parametrize("names", [False, True])
    @pytest.mark.parametrize("slashes", [False, True])
    def test_an_order_is_filled_and_protected(self, names: bool, slashes: bool) -> None:
        with CTraderServer(names=names, slashes=slashes) as server:
            broker = broker_of(server)
            answer = broker.place_order(intent_of())
            assert (answer.status, answer.filled_units, answer.client_order_id) == (OrderStatus.FILLED, 10_000, OPEN)
            (held,) = broker.positions()
            assert (held.client_order_id, held.symbol, held.side, held.units) == (OPEN, "EURUSD", Side.BUY, 10_000)
            assert (held.entry_price, held.stop, held.target) == (Decimal("1.1001"), Decimal("1.095"), Decimal("1.11"))
            (fill,) = fills_of(broker)
            assert (fill.client_order_id, fill.reason, fill.price, fill.units) == (
                OPEN,
                FillReason.MARKET,
                Decimal("1.1001"),
                10_000,
            )
            assert (fill.profit, fill.commission) == (0, 0)
            assert broker.order(OPEN) == answer
            assert broker.open_orders() == ()
            broker.close()

    def test_a_position_has_a_stop_from_the_first_moment(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        order = next(payload for kind, payload in server.seen if kind == NEW_ORDER)
        assert (order["relativeStopLoss"], order["relativeTakeProfit"]) == (510, 990)
        assert "stopLoss" not in order

    def test_slippage_does_not_move_the_stop(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.account.slippage = Decimal("0.00030")
        broker.place_order(intent_of())
        (held,) = broker.positions()
        assert (held.entry_price, held.stop, held.target) == (Decimal("1.1004"), Decimal("1.095"), Decimal("1.11"))

    def test_without_slippage_nothing_is_set_again(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        assert server.count(AMEND) == 0

    def test_a_sold_yen_pair_is_protected_in_its_own_ticks(self, broker: CTraderBroker) -> None:
        intent = intent_of(symbol="USDJPY", side=Side.SELL, stop=Decimal("150.777"), target=None)
        assert broker.place_order(intent).status is OrderStatus.FILLED
        (held,) = broker.positions()
        assert (held.symbol, held.side, held.stop, held.target) == ("USDJPY", Side.SELL, Decimal("150.777"), None)

    def test_a_position_that_is_busy_is_asked_again(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.account.slippage = Decimal("0.00030")
        server.plan(Fault.BUSY, AMEND)
        broker.place_order(intent_of())
        assert broker.positions()[0].stop == Decimal("1.095")
        assert server.count(AMEND) == 2

    @pytest.mark.parametrize("fault", [Fault.SILENT_BEFORE, Fault.DROP_BEFORE, Fault.LIMITED, Fault.REJECTED])
    def test_a_stop_that_can_not_be_set_exactly_holds_at_its_distance(self, server: CTraderServer, fault: Fault) -> None:
        server.account.slippage = Decimal("0.00030")
        server.plan(fault, AMEND, "TRADING_BAD_STOPS")
        broker = broker_of(server, request_timeout_s=0.5)
        assert broker.place_order(intent_of()).status is OrderStatus.FILLED
        (held,) = broker.positions()
        assert held.stop == Decimal("1.0953")  # as far from the fill as it was from the quote
        assert broker.modify_order(change_of("1.095")) == ChangeAnswer(accepted=True)
        assert broker.positions()[0].stop == Decimal("1.095")
        broker.close()

    @pytest.mark.parametrize("changes", [{"stop": Decimal("1.10020")}, {"target": Decimal("1.10005")}])
    def test_an_order_whose_stop_or_target_is_passed_is_not_sent(
        self, broker: CTraderBroker, server: CTraderServer, changes: dict[str, Decimal]
    ) -> None:
        answer = broker.place_order(intent_of(**changes))
        assert answer.status is OrderStatus.REJECTED
        assert "TRADING_BAD_STOPS" in answer.reason
        assert server.count(NEW_ORDER) == 0

    def test_an_id_that_is_too_long_is_not_sent(self, broker: CTraderBroker, server: CTraderServer) -> None:
        answer = broker.place_order(intent_of(client_order_id="E" * 51))
        assert (answer.status, answer.reason) == (OrderStatus.REJECTED, "the id has 51 characters; allowed: 50")
        assert server.count(NEW_ORDER) == 0

    def test_what_the_broker_refuses_is_rejected_with_its_words(self, broker: CTraderBroker, server: CTraderServer) -> None:
        answer = broker.place_order(intent_of(units=Decimal(9_000_000)))
        assert (answer.status, answer.reason) == (
            OrderStatus.REJECTED,
            "NOT_ENOUGH_MONEY: Not enough funds to allocate margin",
        )
        assert broker.order(OPEN) == answer
        assert fills_of(broker) == []
        assert server.count(NEW_ORDER) == 1
        assert broker.place_order(intent_of()) == answer  # the same id is the same order
        assert server.count(NEW_ORDER) == 1

    def test_an_order_in_a_closed_market_is_rejected(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.account.is_market_open = False
        assert "MARKET_CLOSED" in broker.place_order(intent_of()).reason

    def test_an_order_that_is_rejected_after_it_was_taken_is_rejected(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.plan(Fault.REJECTED, NEW_ORDER, "MAX_EXPOSURE_REACHED")
        answer = broker.place_order(intent_of())
        assert (answer.status, answer.reason, answer.filled_units) == (OrderStatus.REJECTED, "MAX_EXPOSURE_REACHED", 0)

    def test_a_requote_fills_nothing(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.plan(Fault.REQUOTE, NEW_ORDER)
        answer = broker.place_order(intent_of())
        assert (answer.status, answer.reason, answer.filled_units) == (OrderStatus.CANCELLED, "no deal: REJECTED", 0)
        assert broker.positions() == ()
        assert fills_of(broker) == []

    def test_a_partial_fill_is_told_and_protected(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.account.fill_share, server.account.slippage = 60, Decimal("0.00010")
        answer = broker.place_order(intent_of())
        assert (answer.status, answer.filled_units) == (OrderStatus.CANCELLED, 6_000)
        (held,) = broker.positions()
        assert (held.units, held.stop) == (6_000, Decimal("1.095"))
        assert [fill.units for fill in fills_of(broker)] == [6_000]
        again = broker.order(OPEN)
        assert again is not None
        assert (again.status, again.filled_units) == (OrderStatus.CANCELLED, 6_000)

    def test_an_order_that_is_not_filled_in_time_is_accepted_and_followed(self, server: CTraderServer) -> None:
        broker = broker_of(server, order_timeout_s=0.3)
        server.plan(Fault.UNFILLED, NEW_ORDER)
        assert broker.place_order(intent_of()).status is OrderStatus.ACCEPTED
        server.run_late()
        found = broker.order(OPEN)
        assert found is not None
        assert found.status is OrderStatus.FILLED
        assert broker.positions()[0].stop == Decimal("1.095")
        broker.close()

    @pytest.mark.parametrize("fault", [Fault.REVERSED, Fault.TWICE, Fault.UNNAMED, Fault.GARBAGE])
    def test_the_order_in_which_events_come_does_not_matter(
        self, broker: CTraderBroker, server: CTraderServer, fault: Fault
    ) -> None:
        server.account.slippage = Decimal("0.00010")
        server.plan(fault, NEW_ORDER)
        server.plan(fault, AMEND)
        answer = broker.place_order(intent_of())
        assert (answer.status, answer.filled_units) == (OrderStatus.FILLED, 10_000)
        assert broker.positions()[0].stop == Decimal("1.095")
        server.plan(fault, CLOSE)
        assert broker.close_position(closing_of()).status is OrderStatus.FILLED
        assert [fill.client_order_id for fill in fills_of(broker)] == [OPEN, CLOSING]


class TestUnknownOutcomes:
    @pytest.mark.parametrize("fault", [Fault.SILENT_AFTER, Fault.DROP_AFTER, Fault.UNKNOWN_AFTER])
    def test_an_order_without_an_answer_is_unknown_and_found_out(self, server: CTraderServer, fault: Fault) -> None:
        broker = broker_of(server, order_timeout_s=0.5)
        server.plan(fault, NEW_ORDER)
        with pytest.raises(OutcomeUnknown, match=OPEN):
            broker.place_order(intent_of())
        found = broker.order(OPEN)
        assert found is not None
        assert (found.status, found.filled_units) == (OrderStatus.FILLED, 10_000)
        assert broker.place_order(intent_of()) == found
        assert server.count(NEW_ORDER) == 1
        assert broker.positions()[0].stop == Decimal("1.095")
        broker.close()

    @pytest.mark.parametrize("fault", [Fault.SILENT_BEFORE, Fault.DROP_BEFORE])
    def test_an_order_that_never_came_is_not_found(self, server: CTraderServer, fault: Fault) -> None:
        broker = broker_of(server, order_timeout_s=0.5)
        server.plan(fault, NEW_ORDER)
        with pytest.raises(OutcomeUnknown):
            broker.place_order(intent_of())
        assert broker.order(OPEN) is None
        assert broker.place_order(intent_of()).status is OrderStatus.FILLED
        assert len(broker.positions()) == 1
        broker.close()

    def test_an_order_that_may_still_come_is_not_said_to_be_missing(self, server: CTraderServer) -> None:
        broker = broker_of(server, order_timeout_s=0.3, settle_s=600)
        server.plan(Fault.LATE, NEW_ORDER)
        with pytest.raises(OutcomeUnknown):
            broker.place_order(intent_of())
        with pytest.raises(OutcomeUnknown, match="too early"):
            broker.order(OPEN)
        with pytest.raises(OutcomeUnknown, match="too early"):
            broker.place_order(intent_of())
        server.run_late()
        found = broker.order(OPEN)
        assert found is not None
        assert found.status is OrderStatus.FILLED
        assert server.count(NEW_ORDER) == 1
        broker.close()

    def test_an_order_of_another_process_is_not_sent_again(self, broker: CTraderBroker, server: CTraderServer) -> None:
        first = broker.place_order(intent_of())
        successor = broker_of(server)
        assert successor.place_order(intent_of()) == first
        assert server.count(NEW_ORDER) == 1
        assert len(server.account.positions) == 1
        successor.close()

    def test_the_position_tells_of_an_order_that_the_list_lacks(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        server.account.lagging = True
        successor = broker_of(server)
        found = successor.order(OPEN)
        assert found is not None
        assert (found.status, found.filled_units) == (OrderStatus.FILLED, 10_000)
        successor.close()

    def test_once_the_past_is_known_new_orders_are_sent_without_a_look(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        before = server.count(ORDER_LIST)
        broker.place_order(intent_of(client_order_id="next-open"))
        assert server.count(ORDER_LIST) == before
        broker.place_order(intent_of(client_order_id="next-open"))
        assert server.count(NEW_ORDER) == 2

    def test_right_after_the_start_each_order_is_looked_for(self, server: CTraderServer) -> None:
        broker = broker_of(server, settle_s=600)
        broker.place_order(intent_of())
        before = server.count(ORDER_LIST)
        broker.place_order(intent_of(client_order_id="next-open"))
        assert server.count(ORDER_LIST) == before + 1
        broker.close()

    @pytest.mark.parametrize("fault", [Fault.SILENT_AFTER, Fault.DROP_AFTER, Fault.UNKNOWN_AFTER])
    def test_a_close_without_an_answer_is_found_out(self, server: CTraderServer, fault: Fault) -> None:
        broker = broker_of(server, order_timeout_s=0.5)
        broker.place_order(intent_of(units=Decimal(20_000)))
        server.plan(fault, CLOSE)
        with pytest.raises(OutcomeUnknown):
            broker.close_position(closing_of())
        found = broker.order(CLOSING)
        assert found is not None
        assert (found.status, found.filled_units) == (OrderStatus.FILLED, 10_000)
        assert broker.close_position(closing_of()) == found
        assert server.count(CLOSE) == 1
        assert broker.positions()[0].units == 10_000
        assert [(fill.client_order_id, fill.reason) for fill in fills_of(broker)][1:] == [(CLOSING, FillReason.MARKET)]
        broker.close()

    def test_a_close_of_a_process_that_was_killed_is_found_out(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        broker.close_position(closing_of())
        successor = broker_of(server)
        found = successor.order(CLOSING)
        assert found is not None
        assert found.status is OrderStatus.FILLED
        assert fills_of(successor)[1].client_order_id == CLOSING
        successor.close()

    def test_a_close_that_never_came_is_not_found_while_the_position_is_open(self, server: CTraderServer) -> None:
        broker = broker_of(server, order_timeout_s=0.3)
        broker.place_order(intent_of())
        server.plan(Fault.SILENT_BEFORE, CLOSE)
        with pytest.raises(OutcomeUnknown):
            broker.close_position(closing_of())
        assert broker.order(CLOSING) is None
        assert broker.close_position(closing_of()).status is OrderStatus.FILLED
        assert broker.positions() == ()
        broker.close()

    def test_a_change_without_an_answer_may_be_sent_again(self, server: CTraderServer) -> None:
        broker = broker_of(server, request_timeout_s=0.5)
        broker.place_order(intent_of())
        server.plan(Fault.SILENT_AFTER, AMEND)
        with pytest.raises(OutcomeUnknown):
            broker.modify_order(change_of("1.09700"))
        assert broker.modify_order(change_of("1.09700")) == ChangeAnswer(accepted=True)
        assert server.count(AMEND) == 1
        assert broker.positions()[0].stop == Decimal("1.097")
        broker.close()


class TestProtectionAndClosing:
    def test_a_change_sets_stop_and_target_exactly(self, broker: CTraderBroker) -> None:
        broker.place_order(intent_of())
        assert broker.modify_order(change_of("1.09700", None)) == ChangeAnswer(accepted=True)
        (held,) = broker.positions()
        assert (held.stop, held.target) == (Decimal("1.097"), None)

    def test_the_same_change_again_sends_nothing(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        for _ in range(2):
            assert broker.modify_order(change_of("1.09700")).accepted
        assert server.count(AMEND) == 1

    def test_a_change_that_the_broker_refuses_is_an_answer(self, broker: CTraderBroker) -> None:
        broker.place_order(intent_of())
        assert broker.modify_order(change_of("1.20000")) == ChangeAnswer(accepted=False, reason="TRADING_BAD_STOPS")
        assert broker.modify_order(change_of("1.09", client_order_id="none-open")).reason.startswith("POSITION_NOT_FOUND")

    def test_a_close_never_opens_the_other_way(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        assert broker.close_position(closing_of(units=Decimal(50_000))).filled_units == 10_000
        assert broker.positions() == ()
        answer = broker.close_position(closing_of(client_order_id=f"{CLOSING}-2"))
        assert (answer.status, answer.reason.split(":")[0]) == (OrderStatus.REJECTED, "POSITION_NOT_FOUND")
        assert server.account.positions == {}

    def test_of_two_positions_of_a_symbol_the_engines_is_closed(self, broker: CTraderBroker, server: CTraderServer) -> None:
        open_by_hand(server)
        broker.place_order(intent_of())
        broker.close_position(closing_of())
        assert [each.client_order_id for each in broker.positions()] == [""]

    def test_a_position_that_is_closed_by_its_stop_meanwhile_rejects_the_close(
        self, broker: CTraderBroker, server: CTraderServer
    ) -> None:
        broker.place_order(intent_of())
        server.plan(Fault.REJECTED, CLOSE, "POSITION_NOT_FOUND")
        assert broker.close_position(closing_of()).status is OrderStatus.REJECTED

    def test_a_refused_close_is_not_taken_for_what_a_person_does_later(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        server.plan(Fault.LIMITED, CLOSE)
        with pytest.raises(RateLimited):
            broker.close_position(closing_of())
        server.hands(lambda account: account.close(*only_one(account)))
        assert [(fill.client_order_id, fill.reason) for fill in fills_of(broker)][1:] == [(OPEN, FillReason.MANUAL)]

    def test_the_same_close_again_closes_no_more(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of(units=Decimal(20_000)))
        first = broker.close_position(closing_of())
        assert broker.close_position(closing_of()) == first
        assert server.count(CLOSE) == 1
        assert broker.positions()[0].units == 10_000
