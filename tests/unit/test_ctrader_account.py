"""Which cTrader account is traded, what it tells, and its connections."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fxcast.adapters.brokers.ctrader import CTraderBroker
from fxcast.adapters.brokers.ctrader_connection import CTraderBrokerSettings
from fxcast.adapters.brokers.ctrader_messages import ACCESS_TOKEN, CLIENT_SECRET
from fxcast.adapters.clock import SystemClock
from fxcast.domain.order import OrderStatus
from fxcast.errors import BadCredentials, BadSetting, Disconnected, RateLimited
from fxcast.trading.ports import Broker
from tests.brokers.ctrader_account import CTraderAccount
from tests.brokers.ctrader_faults import Fault
from tests.brokers.ctrader_server import (
    CREDENTIALS,
    DEAL_LIST,
    NEW_ORDER,
    RECONCILE,
    RETRY_AFTER_S,
    TRADER,
    CTraderServer,
    put_credentials,
)
from tests.brokers.ctrader_trading import (
    OPEN,
    SYMBOLS,
    broker_of,
    intent_of,
    only_one,
)
from tests.waiting import wait_for


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
        server.when(RECONCILE, lambda account: account.close(*only_one(account)))  # after the profits, before the balance
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
        values: dict[str, Any] = {"account_id": 7, **changes}
        settings = CTraderBrokerSettings(**values)
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


class TestConnections:
    def test_a_lost_connection_is_replaced_by_the_next_call(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.quotes(["EURUSD"])
        server.drop()
        wait_for(lambda: not broker.is_connected)
        assert broker.quotes(["EURUSD"])["EURUSD"].bid == Decimal("1.10000")
        assert broker.place_order(intent_of()).status is OrderStatus.FILLED
        assert server.connects == 2

    def test_a_broker_that_is_gone_is_disconnected_until_it_is_back(self, broker: CTraderBroker, server: CTraderServer) -> None:
        broker.place_order(intent_of())
        server.stop()
        wait_for(lambda: not broker.is_connected)
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
        wait_for(lambda: not broker.is_connected)
        assert broker.positions() == ()
        assert server.connects == 2

    def test_a_silent_broker_is_noticed_without_a_question(self, server: CTraderServer) -> None:
        broker = broker_of(server, heartbeat_s=0.05, silence_s=0.5)
        broker.positions()
        wait_for(lambda: server.heartbeats >= 20)  # longer than the silence that would end it
        assert broker.is_connected
        assert server.connects == 1
        server.is_silent = True
        wait_for(lambda: not broker.is_connected)
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
        broker = broker_of(server, history_requests_per_s=4, first_history_days=1)  # one less: they may be held up on the way
        for _ in range(9):
            broker.transactions_since(0)
        broker.close()
        hasty = broker_of(server)  # a request for each week, and no pauses
        with pytest.raises(RateLimited):  # noqa: PT012 - which of them is one too many depends on the machine
            for _ in range(9):
                hasty.transactions_since(0)
        hasty.close()


def test_the_servers_credentials_are_put_where_clients_look() -> None:
    environment: dict[str, str] = {}
    put_credentials(environment)
    assert environment[ACCESS_TOKEN] == CREDENTIALS[ACCESS_TOKEN]


def _spot(number: int, price: int, at: datetime) -> dict[str, int]:
    return {"symbolId": number, "bid": price, "ask": price + 10, "timestamp": int(at.timestamp() * 1000)}
