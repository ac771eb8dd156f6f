"""Fills and interest at cTrader, and what its events tell."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxcast.adapters.brokers.ctrader import CTraderBroker
from fxcast.adapters.brokers.ctrader_connection import Message
from fxcast.adapters.brokers.ctrader_orders import outcome_of
from fxcast.domain.order import Fill, FillReason, Financing, Side
from tests.brokers.ctrader_account import CTraderAccount
from tests.brokers.ctrader_server import (
    CREDENTIALS,
    ORDER_LIST,
    CTraderServer,
)
from tests.brokers.ctrader_trading import (
    CLOSING,
    OPEN,
    broker_of,
    charge_swap,
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


class TestTransactions:
    def test_a_round_trip_is_booked_to_the_cent(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.account.commission_per_million = 30
        broker.place_order(intent_of())
        charge_swap(server, -42)
        server.move("EURUSD", "1.10500", "1.10510")
        broker.close_position(closing_of())
        opened, financing, closed = broker.transactions_since(0)
        assert isinstance(opened, Fill)
        assert isinstance(financing, Financing)
        assert isinstance(closed, Fill)
        assert (financing.amount, financing.client_order_id, financing.symbol) == (Decimal("-0.42"), OPEN, "EURUSD")
        assert (closed.client_order_id, closed.side, closed.profit) == (CLOSING, Side.SELL, Decimal("49.00"))
        assert closed.commission == Decimal("0.66")
        booked = closed.profit + financing.amount - closed.commission - opened.commission
        assert broker.account().balance == Decimal(100_000) + booked

    @pytest.mark.parametrize(
        ("bid", "ask", "reason", "price"),
        [
            ("1.09490", "1.09500", FillReason.STOP, "1.0949"),
            ("1.08000", "1.08010", FillReason.STOP, "1.08"),  # a gap through the stop
            ("1.11050", "1.11060", FillReason.TARGET, "1.11"),
        ],
    )
    def test_a_stop_is_told_from_a_target(
        self, broker: CTraderBroker, server: CTraderServer, bid: str, ask: str, reason: FillReason, price: str
    ) -> None:
        broker.place_order(intent_of())
        server.move("EURUSD", bid, ask)
        closed = fills_of(broker)[1]
        assert (closed.reason, closed.price, closed.client_order_id) == (reason, Decimal(price), OPEN)

    def test_what_a_person_does_is_told_apart(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        server.hands(lambda account: account.close(*only_one(account)))
        open_by_hand(server)
        server.hands(lambda account: account.close(*only_one(account)))
        told = [(fill.client_order_id, fill.reason) for fill in fills_of(broker)]
        assert told == [
            (OPEN, FillReason.MARKET),
            (OPEN, FillReason.MANUAL),
            ("", FillReason.MANUAL),
            ("", FillReason.MANUAL),
        ]

    def test_a_close_for_want_of_margin_is_told_apart(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        server.hands(lambda account: account.close(*only_one(account), is_stop_out=True))
        assert fills_of(broker)[1].reason is FillReason.MARGIN_CLOSEOUT

    def test_fills_while_nobody_was_there_are_told_to_a_successor(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        (opened,) = fills_of(broker)
        broker.close()
        server.move("EURUSD", "1.09000", "1.09010")
        successor = broker_of(server)
        (closed,) = fills_of(successor, opened.sequence)
        assert (closed.client_order_id, closed.reason) == (OPEN, FillReason.STOP)
        assert successor.transactions_since(closed.sequence) == ()
        successor.close()

    def test_each_transaction_has_a_higher_sequence_than_the_one_before(self, broker: CTraderBroker, server: CTraderServer) -> None:
        for number in range(3):
            broker.place_order(intent_of(client_order_id=f"{number}-open"))
            charge_swap(server, -7)
            broker.close_position(closing_of(client_order_id=f"{number}-close"))
        told = broker.transactions_since(0)
        sequences = [each.sequence for each in told]
        assert len(told) == 9
        assert sequences == sorted(set(sequences))
        for place, each in enumerate(told):
            assert broker.transactions_since(each.sequence) == told[place + 1 :]

    def test_months_of_fills_are_read_week_by_week_and_page_by_page(self, server: CTraderServer) -> None:
        begin = datetime.now(tz=UTC) - timedelta(days=27)
        server.account.page = 2
        for day in range(0, 27, 3):
            moment = begin + timedelta(days=day)
            server.account.now = lambda moment=moment: moment
            open_by_hand(server)
            server.hands(lambda account: account.close(*only_one(account)))
        server.account.now = lambda: datetime.now(tz=UTC)
        broker = broker_of(server)
        told = fills_of(broker)
        assert len(told) == 18
        assert [fill.filled_at.date() for fill in told] == [
            (begin + timedelta(days=day)).date() for day in range(0, 27, 3) for _ in range(2)
        ]
        assert server.count(ORDER_LIST) > 0
        assert len(fills_of(broker, told[9].sequence)) == 8
        broker.close()


class TestOutcome:
    @given(
        order=st.permutations(range(4)),
        named=st.sets(st.integers(0, 3), min_size=0),
    )
    def test_events_in_any_order_tell_the_same(self, order: list[int], named: set[int]) -> None:
        account = CTraderAccount(fill_share=50)
        request = {"symbolId": 101, "tradeSide": 1, "volume": 1_000_000, "clientOrderId": OPEN, "label": OPEN}
        events = account.place(request)
        stranger = CTraderAccount().place({**request, "clientOrderId": "other", "label": "other"})[-1]
        stranger["order"]["orderId"] = 1
        messages = [
            Message(2126, event, "mine" if place in named and place < 3 else "") for place, event in enumerate([*events, stranger])
        ]
        outcome = outcome_of([messages[place] for place in order], "mine", lambda each: each.client_order_id == OPEN)
        assert outcome.is_final
        assert outcome.order is not None
        assert (outcome.order.status.name, outcome.order.executed) == ("ORDER_STATUS_CANCELLED", 5_000)
        assert outcome.position is not None
        assert outcome.position.units == 5_000
