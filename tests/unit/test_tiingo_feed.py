"""Tiingo's protocol, spoken with a server on loopback."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from fxcast.adapters.feeds.credentials import TIINGO_TOKEN, read_credential
from fxcast.adapters.feeds.port import Heartbeat
from fxcast.adapters.feeds.rest import VendorSettings
from fxcast.adapters.feeds.tiingo import TiingoFeed
from fxcast.adapters.feeds.vendors import open_vendor
from fxcast.domain.candle import to_datetime
from fxcast.domain.market import PriceSide
from fxcast.domain.tick import Tick
from fxcast.errors import BadCredentials, BadSetting, Disconnected, RateLimited
from tests.factories import NOON
from tests.ports import free_port
from tests.vendors.asking import first_messages, history
from tests.vendors.following import SimulatedClock, know_vendors
from tests.vendors.script import MINUTE, AtTick, Fault, OnConnect, OnHistory, Wrong, make_script
from tests.vendors.server import RETRY_AFTER_S
from tests.vendors.tiingo import TiingoServer

SCRIPT = make_script(minutes=12)
BEGIN = NOON + 10 * MINUTE


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    know_vendors(monkeypatch)


def serving(*faults: Fault, says_why: bool = False) -> TiingoServer:
    return TiingoServer(SCRIPT, begin=BEGIN, faults=faults, says_why=says_why)


def vendor_at(server: TiingoServer, now: datetime) -> TiingoFeed:
    return TiingoFeed(read_credential(TIINGO_TOKEN), server.settings(), SimulatedClock(now))


def test_updates_become_quotes_and_heartbeats_have_no_time() -> None:
    with serving() as server:
        messages = first_messages(open_vendor("tiingo", server.settings()), SCRIPT.symbols, 60)
    assert messages[:2] == [Heartbeat(time=None), Heartbeat(time=None)]
    quotes = [message for message in messages if isinstance(message, Tick)]
    start = SCRIPT.position(BEGIN)
    assert quotes == list(SCRIPT.ticks[start : start + len(quotes)])
    assert server.seen.symbols == list(SCRIPT.symbols)


def test_history_has_the_middle_only() -> None:
    with serving() as server:
        candles = history(open_vendor("tiingo", server.settings()), "EURUSD", NOON + MINUTE, NOON + 5 * MINUTE)
    expected = SCRIPT.candles("EURUSD", NOON + 5 * MINUTE)[1:5]
    assert [to_datetime(time) for time in candles.open_times] == [candle.open_time for candle in expected]
    assert np.array_equal(candles.candles.values, [(*candle.mid, 0.0) for candle in expected])
    assert candles.side is PriceSide.MID
    assert np.isnan(candles.details).all()


def test_history_has_no_candle_that_is_still_open() -> None:
    now = BEGIN + timedelta(seconds=30)
    with TiingoServer(SCRIPT, begin=now) as server:
        candles = history(vendor_at(server, now), "EURUSD", NOON + 8 * MINUTE, NOON + 20 * MINUTE)
    assert to_datetime(candles.open_times[-1]) == NOON + 9 * MINUTE


def test_a_long_history_is_asked_for_in_pages_of_days() -> None:
    with serving() as server:
        candles = history(open_vendor("tiingo", server.settings()), "EURUSD", NOON - timedelta(days=14), NOON + 5 * MINUTE)
    assert len(candles) == 5
    assert server.seen.history_requests == 3


def test_long_candles_are_put_together_from_hours_as_the_trading_day_goes() -> None:
    script = make_script(start=NOON + timedelta(minutes=110), minutes=80)  # 13:50 to 15:10; four hours of New York begin at 14:00
    with TiingoServer(script, begin=NOON + timedelta(hours=4)) as server:
        candles = history(
            vendor_at(server, NOON + timedelta(hours=9)), "EURUSD", NOON - 2 * timedelta(hours=1), NOON + timedelta(hours=6), "4h"
        )
    ticks = [tick for tick in script.ticks if tick.symbol == "EURUSD"]
    for row, (start, stop) in enumerate(((-2, 2), (2, 6))):
        mids = [(t.bid + t.ask) / 2 for t in ticks if timedelta(hours=start) <= t.time - NOON < timedelta(hours=stop)]
        assert to_datetime(candles.open_times[row]) == NOON + timedelta(hours=start)
        assert candles.candles.values[row, :4].tolist() == [mids[0], max(mids), min(mids), mids[-1]]
    assert len(candles) == 2


def test_a_time_without_candles_has_none() -> None:
    with serving() as server:
        vendor = open_vendor("tiingo", server.settings())
        for timeframe in ("1m", "4h"):
            assert len(history(vendor, "EURUSD", NOON - timedelta(days=3), NOON - timedelta(days=2), timeframe)) == 0


def test_what_can_not_be_read_is_counted_and_left_out() -> None:
    with serving(AtTick(wrong=Wrong.MALFORMED, after=timedelta(seconds=5), count=3)) as server:
        vendor = open_vendor("tiingo", server.settings())
        messages = first_messages(vendor, SCRIPT.symbols, 40)
    assert len(messages) == 40
    assert vendor.malformed == 3


def test_nothing_but_what_can_not_be_read_ends_the_connection() -> None:
    with serving(AtTick(wrong=Wrong.MALFORMED, after=timedelta(seconds=5), count=30)) as server:
        vendor = open_vendor("tiingo", server.settings(max_malformed=10))
        with pytest.raises(Disconnected, match="10 messages in a row"):
            first_messages(vendor, SCRIPT.symbols, 1000)


def test_a_wrong_token_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIINGO_TOKEN, "wrong-one")
    with serving() as server:
        vendor = open_vendor("tiingo", server.settings())
        with pytest.raises(BadCredentials, match=TIINGO_TOKEN) as of_connect:
            first_messages(vendor, SCRIPT.symbols, 1)
        with pytest.raises(BadCredentials, match=TIINGO_TOKEN) as of_history:
            history(vendor, "EURUSD", NOON, NOON + MINUTE)
    assert "wrong-one" not in str(of_connect.value) + str(of_history.value)


def test_a_symbol_that_it_does_not_know_is_a_wrong_setting() -> None:
    with serving() as server:
        vendor = open_vendor("tiingo", server.settings())
        with pytest.raises(BadSetting, match="XXXYYY"):
            first_messages(vendor, ("EURUSD", "XXXYYY"), 1)
        with pytest.raises(BadSetting, match="XXXYYY"):
            history(vendor, "XXXYYY", NOON, NOON + MINUTE)


@pytest.mark.parametrize("says_why", [False, True], ids=["in the handshake", "in a message"])
@pytest.mark.parametrize(
    ("wrong", "error"), [(Wrong.UNAUTHORIZED, BadCredentials), (Wrong.LIMITED, RateLimited), (Wrong.BROKEN, Disconnected)]
)
def test_each_refusal_is_its_own_error(wrong: Wrong, error: type[Exception], says_why: bool) -> None:
    with serving(OnConnect(wrong=wrong), OnHistory(wrong=wrong), says_why=says_why) as server:
        vendor = open_vendor("tiingo", server.settings(rate_limit_pause_s=30))
        with pytest.raises(error) as of_connect:
            first_messages(vendor, SCRIPT.symbols, 1000)
        with pytest.raises(error) as of_history:
            history(vendor, "EURUSD", NOON, NOON + MINUTE)
    if isinstance(of_connect.value, RateLimited) and isinstance(of_history.value, RateLimited):
        assert of_connect.value.retry_after_s == (30 if says_why else RETRY_AFTER_S)
        assert of_history.value.retry_after_s == RETRY_AFTER_S


@pytest.mark.parametrize("fault", [OnConnect(wrong=Wrong.CLOSE), AtTick(wrong=Wrong.DROP, after=timedelta(seconds=5))])
def test_a_connection_that_ends_is_a_lost_one(fault: Fault) -> None:
    with serving(fault) as server, pytest.raises(Disconnected):
        first_messages(open_vendor("tiingo", server.settings()), SCRIPT.symbols, 1000)


def test_a_server_that_is_not_there_is_a_lost_connection() -> None:
    port = free_port()
    vendor = open_vendor(
        "tiingo", VendorSettings(tiingo_stream_url=f"ws://127.0.0.1:{port}/fx", tiingo_rest_url=f"http://127.0.0.1:{port}")
    )
    with pytest.raises(Disconnected, match="ConnectionRefusedError"):
        first_messages(vendor, SCRIPT.symbols, 1)
    with pytest.raises(Disconnected, match="ConnectError"):
        history(vendor, "EURUSD", NOON, NOON + MINUTE)
