from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxcast.adapters.brokers.ctrader import CTraderBroker
from fxcast.adapters.brokers.ctrader_connection import CTraderBrokerSettings, Message
from fxcast.adapters.brokers.ctrader_messages import ACCESS_TOKEN, CLIENT_SECRET
from fxcast.adapters.brokers.ctrader_orders import outcome_of
from fxcast.adapters.clock import SystemClock
from fxcast.domain.order import (
    ChangeAnswer,
    Fill,
    FillReason,
    Financing,
    OrderIntent,
    OrderPurpose,
    OrderStatus,
    ProtectionChange,
    Side,
)
from fxcast.errors import BadCredentials, BadSetting, Disconnected, OutcomeUnknown, RateLimited
from fxcast.trading.ports import Broker
from tests.brokers.ctrader_account import CTraderAccount
from tests.brokers.ctrader_server import (
    AMEND,
    CLOSE,
    CREDENTIALS,
    DEAL_LIST,
    NEW_ORDER,
    ORDER_LIST,
    RECONCILE,
    RETRY_AFTER_S,
    TRADER,
    CTraderServer,
    Fault,
    put_credentials,
)
from tests.waiting import wait_for

SYMBOLS = ("EURUSD", "USDJPY", "EURGBP")
NAME = "EURUSD-20240304T1200"
OPEN, CLOSING = f"{NAME}-open", f"{NAME}-close"


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


def broker_of(server: CTraderServer, **changes: Any) -> CTraderBroker:
    return CTraderBroker(server.settings(**changes), SYMBOLS, SystemClock())


def intent_of(**changes: Any) -> OrderIntent:
    values: dict[str, Any] = {
        "client_order_id": OPEN,
        "signal_id": NAME,
        "symbol": "EURUSD",
        "side": Side.BUY,
        "units": Decimal(10_000),
        "purpose": OrderPurpose.OPEN,
        "stop": Decimal("1.09500"),
        "target": Decimal("1.11000"),
        "created_at": datetime(2024, 3, 4, 12, tzinfo=UTC),
    }
    return OrderIntent(**(values | changes))


def closing_of(**changes: Any) -> OrderIntent:
    values: dict[str, Any] = {
        "client_order_id": CLOSING,
        "side": Side.SELL,
        "purpose": OrderPurpose.CLOSE,
        "stop": None,
        "target": None,
    }
    return intent_of(**(values | changes))


def change_of(stop: str, target: str | None = "1.11000", client_order_id: str = OPEN) -> ProtectionChange:
    return ProtectionChange(
        change_id=f"{client_order_id}-p1",
        client_order_id=client_order_id,
        symbol="EURUSD",
        stop=Decimal(stop),
        target=None if target is None else Decimal(target),
        reason="trail",
        created_at=datetime(2024, 3, 4, 13, tzinfo=UTC),
    )


def fills_of(broker: Broker, sequence: int = 0) -> list[Fill]:
    return [each for each in broker.transactions_since(sequence) if isinstance(each, Fill)]


class TestAccount:
    def test_a_broker_is_one_of_the_port(self, broker: CTraderBroker) -> None:
        port: Broker = broker
        assert port.positions() == ()

    def test_the_account_is_told_in_its_currency(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.account.commission_per_million = 30
        broker.place_order(intent_of())
        account = broker.account()
        # 10,000 units lose a spread of 1 pip, and have cost 30 per million of what they are worth
        assert (account.currency, account.balance) == ("USD", Decimal("100000.00"))
        assert account.open_profit == Decimal("-1.00") - Decimal("0.33")
        assert account.margin_used == Decimal("366.68")

    def test_an_account_that_changes_while_it_is_read_is_read_again(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        before = server.count(TRADER)
        real = broker._trader
        looks: list[int] = []

        def trader(session: Any) -> Any:
            looks.append(1)
            if len(looks) == 2:  # between the profits and the balance
                server.hands(lambda account: account.close(*_only(account)))
            return real(session)

        broker._trader = trader  # type: ignore[method-assign]  # the moment between two requests
        account = broker.account()
        assert account.open_profit == 0
        assert account.balance == Decimal("99999.00")
        assert server.count(TRADER) - before == 3

    def test_instruments_are_in_units_and_prices(self, broker: CTraderBroker) -> None:
        found = broker.instruments(["EURUSD", "USDJPY"])
        assert (found["EURUSD"].pip, found["EURUSD"].tick) == (Decimal("0.0001"), Decimal("0.00001"))
        assert (found["USDJPY"].pip, found["USDJPY"].tick) == (Decimal("0.01"), Decimal("0.001"))
        assert (found["EURUSD"].lot_step, found["EURUSD"].min_units) == (1000, 1000)
        assert found["EURUSD"].max_units == 10_000_000
        assert found["EURUSD"].min_stop_distance == Decimal("0.00005")

    def test_the_lower_leverage_of_account_and_symbol_makes_the_margin(self, broker: CTraderBroker) -> None:
        found = broker.instruments(["EURUSD", "USDJPY"])
        assert found["EURUSD"].margin_rate == 1 / Decimal(30)
        assert found["USDJPY"].margin_rate == 1 / Decimal(20)

    def test_a_symbol_that_is_not_traded_is_refused_by_name(self, broker: CTraderBroker) -> None:
        with pytest.raises(BadSetting, match="USDMXN"):
            broker.instruments(["EURUSD", "USDMXN"])

    def test_quotes_have_both_sides_and_their_time(self, broker: CTraderBroker, server: CTraderServer) -> None:
        quote = broker.quotes(["EURUSD"])["EURUSD"]
        assert (quote.bid, quote.ask) == (Decimal("1.10000"), Decimal("1.10010"))
        server.move("EURUSD", "1.10100", "1.10112")
        wait_for(lambda: broker.quotes(["EURUSD"])["EURUSD"].bid == Decimal("1.10100"))
        assert broker.quotes(["EURUSD"])["EURUSD"].at >= quote.at

    def test_an_older_price_that_comes_late_changes_nothing(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.quotes(["EURUSD"])
        number, now = server.account.symbols["EURUSD"], datetime.now(tz=UTC)
        server.say(2131, _spot(number, 115_000, now + timedelta(seconds=5)))
        server.say(2131, _spot(number, 90_000, now - timedelta(seconds=5)))
        server.move("USDJPY", "151.000", "151.010")
        wait_for(lambda: broker.quotes(["EURUSD"])["EURUSD"].bid != Decimal("1.10000"))
        broker.account()  # whatever was sent before has been read
        assert broker.quotes(["EURUSD"])["EURUSD"].bid == Decimal("1.15000")

    def test_rates_lead_to_the_account_through_other_pairs(self, broker: CTraderBroker) -> None:
        rates = broker.rates()
        assert rates.currency == "USD"
        assert rates.convert(Decimal(100), "USD") == 100
        assert rates.convert(Decimal(100), "EUR") == Decimal("110.005")
        assert abs(rates.convert(Decimal(15_000), "JPY") - 100) < Decimal("0.01")
        assert rates.convert(Decimal(100), "GBP") == Decimal("129.406")


class TestWhichAccount:
    @pytest.mark.parametrize("changes", [{"account_id": None}, {"environment": "live"}])
    def test_an_account_that_is_not_clearly_meant_is_refused(self, changes: dict[str, Any]) -> None:
        settings = CTraderBrokerSettings(**({"account_id": 7} | changes))
        with pytest.raises(BadSetting, match=r"account_id|allow_live"):
            CTraderBroker(settings, SYMBOLS, SystemClock())

    def test_a_live_account_is_named_loudly(self) -> None:
        with CTraderServer(CTraderAccount(is_live=True)) as server:
            broker = broker_of(server, environment="live", allow_live=True)
            assert broker.describe() == "LIVE account 20123456 (Loopback 5012345) at cTrader: REAL MONEY"
            broker.close()

    def test_a_demo_account_is_named(self, broker: CTraderBroker) -> None:
        assert broker.describe() == "demo account 20123456 (Loopback 5012345) at cTrader: no real money"

    @pytest.mark.parametrize(("is_live", "environment"), [(True, "demo"), (False, "live")])
    def test_an_account_of_the_other_environment_is_refused(self, is_live: bool, environment: str) -> None:
        with CTraderServer(CTraderAccount(is_live=is_live)) as server:
            broker = broker_of(server, environment=environment, allow_live=True)
            with pytest.raises(BadSetting, match="environment: found"):
                broker.positions()

    def test_an_account_that_the_token_does_not_reach_is_refused(self, server: CTraderServer) -> None:
        with pytest.raises(BadSetting, match=r"found 7; allowed by FXCAST_CTRADER_ACCESS_TOKEN: \[20123456\]"):
            broker_of(server, account_id=7).account()

    def test_a_token_that_only_views_is_refused(self, server: CTraderServer) -> None:
        server.scope = 0
        with pytest.raises(BadCredentials, match="not to trade"):
            broker_of(server).account()

    @pytest.mark.parametrize("variable", sorted(CREDENTIALS))
    def test_wrong_credentials_are_refused_without_repeating_them(
        self, server: CTraderServer, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        monkeypatch.setenv(variable, "wrong-one")
        with pytest.raises(BadCredentials, match=variable) as caught:
            broker_of(server).account()
        assert "wrong-one" not in str(caught.value)

    def test_missing_credentials_are_named(self, server: CTraderServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(CLIENT_SECRET)
        with pytest.raises(BadCredentials, match=f"{CLIENT_SECRET} is not set"):
            broker_of(server).account()

    def test_credentials_are_never_logged(
        self, server: CTraderServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        broker = broker_of(server)
        broker.place_order(intent_of())
        broker.close()
        said = caplog.text + "".join(capsys.readouterr())
        assert not [value for value in CREDENTIALS.values() if value in said]

    def test_a_certificate_of_an_unknown_authority_is_refused(self, server: CTraderServer) -> None:
        with pytest.raises(Disconnected, match="SSLCertVerificationError"):
            broker_of(server, ca_file=None).account()

    def test_certificates_that_are_none_are_refused(self, server: CTraderServer) -> None:
        with pytest.raises(BadSetting, match="ca_file"):
            broker_of(server, ca_file=server.ca_file.with_name("none.pem")).account()


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


class TestConnections:
    def test_a_lost_connection_is_replaced_by_the_next_call(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.quotes(["EURUSD"])
        server.drop()
        wait_for(lambda: broker._connection is not None and not broker._connection.is_open)
        assert broker.quotes(["EURUSD"])["EURUSD"].bid == Decimal("1.10000")
        assert broker.place_order(intent_of()).status is OrderStatus.FILLED
        assert server.connects == 2

    def test_a_broker_that_is_gone_is_disconnected_until_it_is_back(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        server.stop()
        wait_for(lambda: broker._connection is not None and not broker._connection.is_open)
        with pytest.raises(Disconnected):
            broker.positions()
        with pytest.raises(Disconnected):
            broker.place_order(intent_of(client_order_id="other-open"))
        server.start()
        assert [each.client_order_id for each in broker.positions()] == [OPEN]
        assert broker.order("other-open") is None

    def test_a_name_that_does_not_resolve_is_disconnected(self, server: CTraderServer) -> None:
        with pytest.raises(Disconnected):
            broker_of(server, url="wss://no-such-host.invalid:5036").positions()

    @pytest.mark.parametrize("fault", [Fault.SILENT_BEFORE, Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.SESSION_OVER])
    def test_a_question_without_an_answer_is_disconnected_and_asked_anew(self, server: CTraderServer, fault: Fault) -> None:
        broker = broker_of(server, request_timeout_s=1)
        broker.place_order(intent_of())
        server.plan(fault, RECONCILE)
        with pytest.raises(Disconnected):
            broker.positions()
        assert len(broker.positions()) == 1
        assert server.connects == 2
        broker.close()

    @pytest.mark.parametrize("event", [2148, 2147, 2164])
    def test_a_session_that_is_ended_is_begun_anew(self, broker: CTraderBroker, server: CTraderServer, event: int) -> None:
        broker.positions()
        server.say(event, {"reason": "maintenance"})
        wait_for(lambda: broker._connection is not None and not broker._connection.is_open)
        assert broker.positions() == ()
        assert server.connects == 2

    def test_a_silent_broker_is_noticed_without_a_question(self, server: CTraderServer) -> None:
        broker = broker_of(server, heartbeat_s=0.05, silence_s=0.5)
        broker.positions()
        connection = broker._connection
        assert connection is not None
        wait_for(lambda: server.heartbeats >= 20)  # longer than the silence that would end it
        assert connection.is_open
        server.is_silent = True
        wait_for(lambda: not connection.is_open)
        server.is_silent = False
        assert broker.positions() == ()
        broker.close()

    def test_a_request_too_many_is_limited_and_did_nothing(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.plan(Fault.LIMITED, NEW_ORDER)
        with pytest.raises(RateLimited):
            broker.place_order(intent_of())
        assert broker.order(OPEN) is None
        server.plan(Fault.BLOCKED, DEAL_LIST)
        with pytest.raises(RateLimited) as caught:
            broker.transactions_since(0)
        assert caught.value.retry_after_s == RETRY_AFTER_S
        assert broker.place_order(intent_of()).status is OrderStatus.FILLED

    def test_requests_of_the_past_are_paced_so_that_none_is_refused(self, server: CTraderServer) -> None:
        server.limits_history = True
        broker = broker_of(server, history_requests_per_s=4)  # one less, since they may be held up on the way
        for _ in range(9):
            broker.transactions_since(0)
        broker.close()
        hasty = broker_of(server)
        with pytest.raises(RateLimited):
            for _ in range(9):
                hasty.transactions_since(0)
        hasty.close()


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
        _open_by_hand(server)
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
        server.hands(lambda account: account.close(*_only(account)))
        assert [(fill.client_order_id, fill.reason) for fill in fills_of(broker)][1:] == [(OPEN, FillReason.MANUAL)]

    def test_the_same_close_again_closes_no_more(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of(units=Decimal(20_000)))
        first = broker.close_position(closing_of())
        assert broker.close_position(closing_of()) == first
        assert server.count(CLOSE) == 1
        assert broker.positions()[0].units == 10_000


class TestTransactions:
    def test_a_round_trip_is_booked_to_the_cent(self, broker: CTraderBroker, server: CTraderServer) -> None:
        server.account.commission_per_million = 30
        broker.place_order(intent_of())
        _charge(server, -42)
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
        server.hands(lambda account: account.close(*_only(account)))
        _open_by_hand(server)
        server.hands(lambda account: account.close(*_only(account)))
        told = [(fill.client_order_id, fill.reason) for fill in fills_of(broker)]
        assert told == [
            (OPEN, FillReason.MARKET),
            (OPEN, FillReason.MANUAL),
            ("", FillReason.MANUAL),
            ("", FillReason.MANUAL),
        ]

    def test_a_close_for_want_of_margin_is_told_apart(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        server.hands(lambda account: account.close(*_only(account), is_stop_out=True))
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
            _charge(server, -7)
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
            _open_by_hand(server)
            server.hands(lambda account: account.close(*_only(account)))
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


def test_the_servers_credentials_are_put_where_clients_look() -> None:
    environment: dict[str, str] = {}
    put_credentials(environment)
    assert environment[ACCESS_TOKEN] == CREDENTIALS[ACCESS_TOKEN]


def _spot(number: int, price: int, at: datetime) -> dict[str, int]:
    return {"symbolId": number, "bid": price, "ask": price + 10, "timestamp": int(at.timestamp() * 1000)}


def _only(account: CTraderAccount) -> tuple[int, int]:
    (held,) = account.positions.values()
    return held.position_id, held.volume


def _open_by_hand(server: CTraderServer) -> None:
    server.hands(lambda account: account.place({"symbolId": account.symbols["EURUSD"], "tradeSide": 1, "volume": 500_000}))


def _charge(server: CTraderServer, cents: int) -> None:
    with server.lock:
        for held in server.account.positions.values():
            held.swap += cents
