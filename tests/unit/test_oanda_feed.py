"""OANDA's protocol, spoken with a server on loopback."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.adapters.feeds.port import Heartbeat
from fxcast.adapters.feeds.rest import VendorSettings
from fxcast.adapters.feeds.vendors import open_vendor
from fxcast.domain.candle import to_datetime
from fxcast.domain.tick import Tick
from fxcast.errors import BadCredentials, BadSetting, Disconnected, RateLimited
from tests.factories import NOON
from tests.ports import free_port
from tests.vendors.asking import first_messages, history
from tests.vendors.following import know_vendors
from tests.vendors.oanda import OandaServer
from tests.vendors.script import MINUTE, AtTick, Fault, OnConnect, OnHistory, Wrong, make_script
from tests.vendors.server import RETRY_AFTER_S

SCRIPT = make_script(minutes=12)
BEGIN = NOON + 10 * MINUTE


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    know_vendors(monkeypatch)


def serving(*faults: Fault) -> OandaServer:
    return OandaServer(SCRIPT, begin=BEGIN, faults=faults)


def test_prices_become_quotes_and_heartbeats_tell_the_time() -> None:
    with serving() as server:
        messages = first_messages(open_vendor("oanda", server.settings()), SCRIPT.symbols, 60)
    assert messages[0] == Heartbeat(time=BEGIN)
    quotes = [message for message in messages if isinstance(message, Tick)]
    start = SCRIPT.position(BEGIN)
    assert quotes == list(SCRIPT.ticks[start : start + len(quotes)])
    assert server.seen.symbols == list(SCRIPT.symbols)


def test_a_price_that_can_not_be_traded_at_is_no_quote() -> None:
    with serving() as server:
        messages = first_messages(open_vendor("oanda", server.settings()), SCRIPT.symbols, 60)
    assert messages[1] == Heartbeat(time=BEGIN)  # the server sends one after each heartbeat
    assert max(message.ask - message.bid for message in messages if isinstance(message, Tick)) < 1


def test_history_has_bid_ask_and_tick_volume() -> None:
    with serving() as server:
        candles = history(open_vendor("oanda", server.settings()), "EURUSD", NOON + MINUTE, NOON + 5 * MINUTE)
    expected = SCRIPT.candles("EURUSD", NOON + 5 * MINUTE)[1:5]
    assert [to_datetime(time) for time in candles.open_times] == [candle.open_time for candle in expected]
    assert np.array_equal(candles.candles.values, [(*candle.mid, candle.quotes) for candle in expected])
    details = [(*c.bid, *c.ask, c.ask[3] - c.bid[3], c.quotes, np.nan) for c in expected]
    assert np.array_equal(candles.details, details, equal_nan=True)


def test_history_has_no_candle_that_is_still_open() -> None:
    script = make_script(minutes=12)
    with OandaServer(script, begin=BEGIN + timedelta(seconds=30)) as server:
        candles = history(open_vendor("oanda", server.settings()), "EURUSD", NOON + 8 * MINUTE, NOON + 20 * MINUTE)
    assert to_datetime(candles.open_times[-1]) == NOON + 9 * MINUTE


def test_a_long_history_is_asked_for_in_pages() -> None:
    with serving() as server:
        candles = history(open_vendor("oanda", server.settings()), "EURUSD", NOON - timedelta(days=14), NOON + 5 * MINUTE)
    assert len(candles) == 5
    assert server.seen.history_requests == 5  # 20,165 minutes


def test_a_time_without_candles_has_none() -> None:
    with serving() as server:
        assert len(history(open_vendor("oanda", server.settings()), "EURUSD", NOON - 5 * MINUTE, NOON)) == 0


def test_longer_candles_have_their_own_granularity() -> None:
    with serving() as server:
        candles = history(open_vendor("oanda", server.settings()), "EURUSD", NOON, NOON + 10 * MINUTE, "5m")
    assert [to_datetime(time) for time in candles.open_times] == [NOON, NOON + 5 * MINUTE]


def test_what_can_not_be_read_is_counted_and_left_out() -> None:
    with serving(AtTick(wrong=Wrong.MALFORMED, after=timedelta(seconds=5), count=3)) as server:
        vendor = open_vendor("oanda", server.settings())
        messages = first_messages(vendor, SCRIPT.symbols, 40)
    assert len(messages) == 40
    assert vendor.malformed == 3


def test_nothing_but_what_can_not_be_read_ends_the_connection() -> None:
    with serving(AtTick(wrong=Wrong.MALFORMED, after=timedelta(seconds=5), count=30)) as server:
        vendor = open_vendor("oanda", server.settings(max_malformed=10))
        with pytest.raises(Disconnected, match="10 messages in a row"):
            first_messages(vendor, SCRIPT.symbols, 1000)


@pytest.mark.parametrize("variable", [OANDA_TOKEN, OANDA_ACCOUNT])
def test_wrong_credentials_are_named_by_their_variable(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "wrong-one")
    with serving() as server, pytest.raises(BadCredentials, match=variable) as refused:
        first_messages(open_vendor("oanda", server.settings()), SCRIPT.symbols, 1)
    assert "wrong-one" not in str(refused.value)


def test_a_symbol_that_it_does_not_know_is_a_wrong_setting() -> None:
    with serving() as server:
        vendor = open_vendor("oanda", server.settings())
        with pytest.raises(BadSetting, match="XXXYYY"):
            first_messages(vendor, ("EURUSD", "XXXYYY"), 1)
        with pytest.raises(BadSetting, match="XXXYYY"):
            history(vendor, "XXXYYY", NOON, NOON + MINUTE)


@pytest.mark.parametrize(
    ("wrong", "error"), [(Wrong.UNAUTHORIZED, BadCredentials), (Wrong.LIMITED, RateLimited), (Wrong.BROKEN, Disconnected)]
)
def test_each_refusal_is_its_own_error(wrong: Wrong, error: type[Exception]) -> None:
    with serving(OnConnect(wrong=wrong), OnHistory(wrong=wrong)) as server:
        vendor = open_vendor("oanda", server.settings())
        with pytest.raises(error) as of_connect:
            first_messages(vendor, SCRIPT.symbols, 1)
        with pytest.raises(error) as of_history:
            history(vendor, "EURUSD", NOON, NOON + MINUTE)
    for raised in (of_connect.value, of_history.value):
        if isinstance(raised, RateLimited):
            assert raised.retry_after_s == RETRY_AFTER_S


@pytest.mark.parametrize("fault", [OnConnect(wrong=Wrong.CLOSE), AtTick(wrong=Wrong.DROP, after=timedelta(seconds=5))])
def test_a_stream_that_ends_is_a_lost_connection(fault: Fault) -> None:
    with serving(fault) as server, pytest.raises(Disconnected):
        first_messages(open_vendor("oanda", server.settings()), SCRIPT.symbols, 1000)


def test_a_server_that_is_not_there_is_a_lost_connection() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    vendor = open_vendor("oanda", VendorSettings(oanda_stream_url=nowhere, oanda_rest_url=nowhere))
    with pytest.raises(Disconnected, match="ConnectError"):
        first_messages(vendor, SCRIPT.symbols, 1)
    with pytest.raises(Disconnected, match="ConnectError"):
        history(vendor, "EURUSD", NOON, NOON + MINUTE)
