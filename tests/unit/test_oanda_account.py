"""What an account at OANDA is and holds, and whose it is, read from a server on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal

import pytest

from fxcast.adapters.brokers.oanda import OandaBroker, OandaBrokerSettings
from fxcast.adapters.brokers.oanda_read import read_positions
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.domain.order import (
    BrokerOrder,
    OrderStatus,
    Side,
)
from fxcast.errors import BadCredentials, BadSetting, Unavailable
from tests.brokers.oanda_account import ACCOUNT, LIVE_ACCOUNT, OandaAccount
from tests.brokers.oanda_server import TOKEN, Fault, OandaServer
from tests.brokers.oanda_trading import ENTRY, broker_of


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


def test_the_account_is_read(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    account = broker.account()
    assert (account.currency, account.balance, account.open_profit) == ("USD", Decimal(100_000), Decimal(-1))
    assert account.margin_used == server.account.margin_used > 0


def test_instruments_tell_pip_tick_lot_and_margin(broker: OandaBroker) -> None:
    instruments = broker.instruments(["EURUSD", "USDJPY"])
    yen = instruments["USDJPY"]
    assert (yen.pip, yen.tick, yen.lot_step, yen.min_units) == (Decimal("0.01"), Decimal("0.001"), 1, 1)
    assert (yen.margin_rate, yen.max_units) == (Decimal("0.02"), 100_000_000)
    assert instruments["EURUSD"].tick == Decimal("0.00001")


def test_a_symbol_that_the_broker_lacks_is_named(broker: OandaBroker) -> None:
    with pytest.raises(BadSetting, match="EURXXX"):
        broker.instruments(["EURUSD", "EURXXX"])
    with pytest.raises(BadSetting, match="EURXXX"):
        broker.quotes(["EURXXX"])


def test_a_halted_market_has_no_quote(server: OandaServer, broker: OandaBroker) -> None:
    server.account.halted.add("USD_JPY")
    quotes = broker.quotes(["EURUSD", "USDJPY"])
    assert quotes.keys() == {"EURUSD"}
    assert (quotes["EURUSD"].bid, quotes["EURUSD"].ask) == (Decimal("1.10000"), Decimal("1.10010"))


def test_rates_convert_to_the_accounts_currency(server: OandaServer, broker: OandaBroker) -> None:
    rates = broker.rates()
    assert rates.currency == "USD"
    assert rates.worth == {currency: server.account.rates.worth[currency] for currency in ("EUR", "JPY", "USD")}


def test_open_orders_are_not_the_stops_and_targets(server: OandaServer, broker: OandaBroker) -> None:
    broker.place_order(ENTRY)
    order = server.account.wait_by_hand("EUR_USD", 1_000, "1.05000")
    assert broker.open_orders() == (BrokerOrder(client_order_id="", broker_order_id=order["id"], status=OrderStatus.ACCEPTED),)


def test_trades_of_one_order_are_one_position_with_the_looser_stop() -> None:
    trade = {"instrument": "EUR_USD", "openTime": "2024-01-05T12:00:00.000000000Z", "clientExtensions": {"id": "entry-1"}}
    one = {**trade, "id": "3", "currentUnits": "1000", "price": "1.10000", "stopLossOrder": {"price": "1.09000"}}
    other = {**trade, "id": "5", "currentUnits": "3000", "price": "1.10400", "stopLossOrder": {"price": "1.08000"}}
    bare = {**trade, "id": "7", "currentUnits": "4000", "price": "1.10300"}
    (position,) = read_positions({"trades": [one, other]})
    assert (position.units, position.entry_price, position.stop) == (4000, Decimal("1.10300"), Decimal("1.08000"))
    (position,) = read_positions({"trades": [one, other, bare]})
    assert (position.units, position.stop) == (8000, None)


@pytest.mark.parametrize("kind", ["guaranteedStopLossOrder", "trailingStopLossOrder"])
def test_other_kinds_of_stops_are_stops(kind: str) -> None:
    stop = {"price": "1.09", "trailingStopValue": "1.09"}
    trade = {
        "id": "3",
        "instrument": "EUR_USD",
        "openTime": "2024-01-05T12:00:00Z",
        "currentUnits": "-1",
        "price": "1.1",
        kind: stop,
    }
    (position,) = read_positions({"trades": [trade]})
    assert (position.stop, position.side) == (Decimal("1.09"), Side.SELL)


def test_live_trading_needs_its_flag_and_an_account_id() -> None:
    with pytest.raises(BadSetting, match="allow_live must be true"):
        OandaBroker(OandaBrokerSettings(environment="live", account_id=LIVE_ACCOUNT), ("EURUSD",))
    with pytest.raises(BadSetting, match="account_id must be given"):
        OandaBroker(OandaBrokerSettings(environment="live", allow_live=True), ("EURUSD",))
    with pytest.raises(BadSetting, match="live host"):
        OandaBroker(OandaBrokerSettings(rest_url="https://api-fxtrade.oanda.com"), ("EURUSD",))


def test_it_says_loudly_which_account_it_trades(broker: OandaBroker) -> None:
    assert broker.describe() == f"practice account {ACCOUNT} (Primary, USD) at OANDA: no real money"
    with OandaServer(OandaAccount(account_id=LIVE_ACCOUNT)) as live:
        broker = broker_of(live, environment="live", allow_live=True, account_id=LIVE_ACCOUNT)
        assert broker.describe() == f"LIVE account {LIVE_ACCOUNT} (Primary, USD) at OANDA: REAL MONEY"


def test_credentials_that_are_missing_or_wrong_are_refused(server: OandaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fail(Fault.UNAUTHORIZED)
    with pytest.raises(BadCredentials):
        broker_of(server).place_order(ENTRY)
    monkeypatch.setenv(OANDA_TOKEN, "another")
    with pytest.raises(BadCredentials, match=OANDA_TOKEN):
        broker_of(server).account()
    monkeypatch.delenv(OANDA_TOKEN)
    with pytest.raises(BadCredentials, match=OANDA_TOKEN):
        broker_of(server)


@pytest.mark.parametrize("fault", list(Fault))
def test_neither_token_nor_account_is_in_an_error_or_a_log(
    server: OandaServer, broker: OandaBroker, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail(fault)
    with pytest.raises((Unavailable, BadCredentials)) as raised:
        broker.place_order(ENTRY)
    told = f"{raised.value!r} {raised.value} {raised.value.__cause__!r} {caplog.text} {broker!r}"
    assert TOKEN not in told
    assert ACCOUNT not in told
