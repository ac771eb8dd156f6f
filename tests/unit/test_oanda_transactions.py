"""What happened on an account at OANDA, read from a server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.adapters.brokers.oanda import OandaBroker
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.domain.order import (
    Fill,
    FillReason,
    Financing,
    OrderStatus,
    Side,
)
from fxcast.errors import Disconnected, OutcomeUnknown
from tests.brokers.oanda_account import ACCOUNT, OandaAccount
from tests.brokers.oanda_server import TOKEN, Fault, OandaServer
from tests.brokers.oanda_trading import ENTRY, EXIT, broker_of, fills_of


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


def test_stop_and_target_belong_to_the_order_that_opened_the_position(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    server.account.set_price("EUR_USD", "1.09400", "1.09410")  # a gap through the stop
    broker.place_order(replace(ENTRY, client_order_id="entry-2", stop=Decimal("1.09000"), target=Decimal("1.10000")))
    server.account.set_price("EUR_USD", "1.10000", "1.10010")
    opened, stopped, opened_again, reached = fills_of(broker)
    assert (opened.client_order_id, opened.reason, opened.side, opened.profit) == ("entry-1", FillReason.MARKET, Side.BUY, 0)
    assert (stopped.client_order_id, stopped.reason, stopped.side) == ("entry-1", FillReason.STOP, Side.SELL)
    assert (stopped.price, stopped.profit) == (Decimal("1.09400"), Decimal(-61))
    assert opened_again.client_order_id == reached.client_order_id == "entry-2"
    assert (reached.reason, reached.profit) == (FillReason.TARGET, Decimal(59))


def test_a_fill_of_our_closing_order_is_that_orders(server: OandaServer, broker: OandaBroker) -> None:
    server.account.commission = Decimal("1.5")
    broker.place_order(ENTRY)
    broker.close_position(EXIT)
    opened, closed = fills_of(broker)
    assert (closed.client_order_id, closed.reason, closed.profit) == ("exit-1", FillReason.MARKET, Decimal(-1))
    assert opened.commission == closed.commission == Decimal("1.5")
    assert closed.filled_at - opened.filled_at < timedelta(minutes=1)
    assert closed.filled_at.utcoffset() == timedelta(0)


def test_what_a_person_and_the_broker_close_belongs_to_the_order_that_opened_it(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    server.account.close_by_hand(server.account.open_trades[0].id)
    broker.place_order(replace(ENTRY, client_order_id="entry-2"))
    server.account.close_out()
    _, by_hand, _, closed_out = fills_of(broker)
    assert (by_hand.client_order_id, by_hand.reason) == ("entry-1", FillReason.MANUAL)
    assert (closed_out.client_order_id, closed_out.reason) == ("entry-2", FillReason.MARGIN_CLOSEOUT)


def test_what_a_person_opens_belongs_to_no_order(server: OandaServer, broker: OandaBroker) -> None:
    server.account.open_by_hand("EUR_USD", 3_000)
    (fill,) = fills_of(broker)
    assert (fill.client_order_id, fill.reason, fill.units) == ("", FillReason.MANUAL, 3_000)
    (position,) = broker.positions()
    assert (position.client_order_id, position.stop, position.units) == ("", None, 3_000)


def test_netting_by_hand_is_a_fill_for_each_trade_and_none_is_lost_in_between(server: OandaServer, broker: OandaBroker) -> None:
    for number in (1, 2):
        broker.place_order(replace(ENTRY, client_order_id=f"entry-{number}"))
    server.account.open_by_hand("EUR_USD", -15_000)
    server.account.open_by_hand("EUR_USD", -8_000)
    first, rest, second_rest, opened = fills_of(broker)[2:]
    assert [(part.client_order_id, part.units) for part in (first, rest, second_rest, opened)] == [
        ("entry-1", 10_000),
        ("entry-2", 5_000),
        ("entry-2", 5_000),
        ("", 3_000),
    ]
    assert first.sequence < rest.sequence < second_rest.sequence < opened.sequence
    assert fills_of(broker, first.sequence) == [rest, second_rest, opened]
    assert fills_of(broker, second_rest.sequence) == [opened]
    assert fills_of(broker, opened.sequence) == []


def test_interest_is_booked_for_each_position(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    broker.place_order(replace(ENTRY, client_order_id="entry-2", symbol="GBPUSD", stop=Decimal("1.26"), target=None))
    server.account.open_by_hand("EUR_USD", 1_000)
    since = broker.transactions_since(0)[-1].sequence
    trades = server.account.open_trades
    server.account.book_interest(dict(zip([trade.id for trade in trades], ["-0.5100", "0.2200", "-0.0100"], strict=True)))
    booked = broker.transactions_since(since)
    assert all(isinstance(part, Financing) for part in booked)
    assert [(part.client_order_id, part.symbol, part.amount) for part in booked if isinstance(part, Financing)] == [
        ("entry-1", "EURUSD", Decimal("-0.51")),
        ("", "EURUSD", Decimal("-0.01")),
        ("entry-2", "GBPUSD", Decimal("0.22")),
    ]
    assert broker.transactions_since(booked[0].sequence) == booked[1:]


def test_interest_that_is_settled_with_a_trade_is_booked_with_its_fill(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    server.account.close_by_hand(server.account.open_trades[0].id)
    server.account.fills[-1]["tradesClosed"][0].update(financing="-0.3400", guaranteedExecutionFee="0.1000")
    *_, fill, interest = broker.transactions_since(0)
    assert isinstance(fill, Fill)
    assert isinstance(interest, Financing)
    assert (fill.commission, interest.amount, interest.client_order_id) == (Decimal("0.1"), Decimal("-0.34"), "entry-1")
    assert interest.sequence > fill.sequence


def test_transactions_come_in_order_however_they_are_cut_and_shuffled(server: OandaServer, broker: OandaBroker) -> None:
    for number in range(1, 8):
        broker.place_order(replace(ENTRY, client_order_id=f"entry-{number}"))
        server.account.close_by_hand(server.account.open_trades[0].id)
    expected = broker.transactions_since(0)
    server.shuffle, server.page = 20_240_105, 5
    other = broker_of(server)
    assert other.transactions_since(0) == expected
    found = other.order("entry-3")
    assert found is not None
    assert found.status is OrderStatus.FILLED


def test_a_broker_that_keeps_transactions_back_is_not_believed_that_an_order_never_came(
    server: OandaServer, broker: OandaBroker
) -> None:
    server.fail(Fault.DROP_AFTER)
    with pytest.raises(OutcomeUnknown):
        broker.place_order(ENTRY)
    server.page = 0
    with pytest.raises(Disconnected):
        broker.order("entry-1")
    with pytest.raises(Disconnected):
        broker.place_order(ENTRY)


def test_a_handled_transaction_is_not_looked_up_again_and_again(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    server.account.open_by_hand("GBP_USD", 1_000)
    newest = fills_of(broker)[-1].sequence
    server.account.set_price("EUR_USD", "1.09400", "1.09410")
    (stopped,) = fills_of(broker, newest)
    assert stopped.client_order_id == "entry-1"
    for _ in range(3):
        assert broker.transactions_since(stopped.sequence) == ()
    assert server.calls("GET trades") == 1


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.sampled_from(["buy", "sell", "close", "hand buy", "hand sell", "hand close", "rise", "fall", "interest"]), max_size=12
    ),
    cuts=st.integers(1, 4),
)
def test_the_transactions_account_for_the_balance_and_the_positions(steps: list[str], cuts: int) -> None:
    with pytest.MonkeyPatch.context() as environment, OandaServer(OandaAccount(commission=Decimal("0.25"))) as server:
        environment.setenv(OANDA_TOKEN, TOKEN)
        environment.setenv(OANDA_ACCOUNT, ACCOUNT)
        broker = broker_of(server)
        begin = broker.account().balance
        for number, step in enumerate(steps):
            act(server, broker, step, number)
        server.page = cuts
        transactions = broker.transactions_since(0)
        sequences = [transaction.sequence for transaction in transactions]
        assert sequences == sorted(set(sequences))
        booked = sum(
            (part.profit - part.commission if isinstance(part, Fill) else part.amount for part in transactions), Decimal(0)
        )
        assert begin + booked == broker.account().balance
        filled = sum((part.side.sign * part.units for part in transactions if isinstance(part, Fill)), Decimal(0))
        assert filled == sum((position.side.sign * position.units for position in broker.positions()), Decimal(0))
        for middle in sequences:
            assert [part.sequence for part in broker.transactions_since(middle)] == [each for each in sequences if each > middle]
        broker.close()


def act(server: OandaServer, broker: OandaBroker, step: str, number: int) -> None:
    account = server.account
    bid, ask = account.prices["EUR_USD"]
    match step:
        case "buy" | "sell":
            side = Side(step)
            stop = bid - side.sign * Decimal("0.005")
            broker.place_order(replace(ENTRY, client_order_id=f"order-{number}", side=side, stop=stop, target=None))
        case "close":
            broker.close_position(replace(EXIT, client_order_id=f"order-{number}", units=Decimal(4_000)))
        case "hand buy" | "hand sell":
            account.open_by_hand("EUR_USD", 7_000 if step == "hand buy" else -7_000)
        case "hand close" if account.open_trades:
            account.close_by_hand(account.open_trades[0].id)
        case "rise" | "fall":
            move = Decimal("0.003") if step == "rise" else Decimal("-0.003")
            account.set_price("EUR_USD", str(bid + move), str(ask + move))
        case "interest" if account.open_trades:
            account.book_interest({trade.id: "-0.1234" for trade in account.open_trades})
        case _:
            pass
