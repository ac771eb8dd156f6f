"""Whatever goes wrong at a vendor, the candles handed out are those of an undisturbed day: each once, in order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from fxcast.adapters.feeds.live import LiveSettings
from fxcast.adapters.feeds.port import FeedState, Origin
from fxcast.adapters.feeds.vendors import VENDORS, open_vendor
from fxcast.errors import BadCredentials, BadSetting
from tests.factories import NOON
from tests.vendors.following import Followed, SimulatedClock, follow, know_vendors
from tests.vendors.oanda import OandaServer
from tests.vendors.script import MINUTE, AtTick, Fault, OnConnect, OnHistory, Script, Wrong, make_script
from tests.vendors.server import RETRY_AFTER_S, VendorServer
from tests.vendors.tiingo import TiingoServer

SCRIPT = make_script(minutes=20)
BEGIN = NOON + 5 * MINUTE + timedelta(seconds=20)
END = NOON + 18 * MINUTE
SETTLE_S = 2.0

# (faults, connects that they cost, reconnects that a feed counts)
FAULTS: dict[str, tuple[list[Fault], int, int]] = {
    "nothing": ([], 1, 0),
    "drop": ([AtTick(wrong=Wrong.DROP, after=5 * MINUTE, missed=3 * MINUTE)], 2, 1),
    "drop within a candle": ([AtTick(wrong=Wrong.DROP, after=5 * MINUTE, missed=timedelta(seconds=5))], 2, 1),
    "three drops": ([AtTick(wrong=Wrong.DROP, after=minute * MINUTE, missed=MINUTE) for minute in (2, 5, 9)], 4, 3),
    "duplicate": ([AtTick(wrong=Wrong.DUPLICATE, after=4 * MINUTE, count=200)], 1, 0),
    "reorder": ([AtTick(wrong=Wrong.REORDER, after=4 * MINUTE, count=200)], 1, 0),
    "delay": ([AtTick(wrong=Wrong.DELAY, after=5 * MINUTE)], 1, 0),
    "malformed": ([AtTick(wrong=Wrong.MALFORMED, after=5 * MINUTE, count=5)], 1, 0),
    "nothing but malformed": ([AtTick(wrong=Wrong.MALFORMED, after=5 * MINUTE, count=30)], 2, 1),
    "wrong subscription": ([AtTick(wrong=Wrong.UNEXPECTED, after=5 * MINUTE, count=5)], 1, 0),
    "429 on connecting": ([OnConnect(wrong=Wrong.LIMITED)], 2, 0),
    "500 on connecting": ([OnConnect(wrong=Wrong.BROKEN, numbers=(1, 2, 3))], 4, 0),
    "drop, then 500": ([AtTick(wrong=Wrong.DROP, after=5 * MINUTE), OnConnect(wrong=Wrong.BROKEN, numbers=(2, 3))], 4, 1),
    "429 of history": ([OnHistory(wrong=Wrong.LIMITED, numbers=(1, 3))], 1, 0),
    "500 of history": ([OnHistory(wrong=Wrong.BROKEN, numbers=(1, 2, 4))], 1, 0),
    "history that lags": ([OnHistory(wrong=Wrong.LAG, numbers=range(1, 8))], 1, 0),
}
# What only a silence of real time tells; a busy machine may see one more.
SILENCES: dict[str, list[Fault]] = {
    "half-open": [OnConnect(wrong=Wrong.SILENT)],
    "silent in mid-stream": [AtTick(wrong=Wrong.SILENT, after=5 * MINUTE, missed=2 * MINUTE)],
}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    know_vendors(monkeypatch)


def server_of(vendor: str, faults: Sequence[Fault], script: Script = SCRIPT) -> OandaServer | TiingoServer:
    server = OandaServer if vendor == "oanda" else TiingoServer
    return server(script, begin=BEGIN, faults=faults, in_step=True)


def followed_on(
    server: OandaServer | TiingoServer,
    settings: LiveSettings | None = None,
    last_closes: dict[str, datetime | None] | None = None,
) -> Followed:
    vendor = open_vendor("oanda" if isinstance(server, OandaServer) else "tiingo", server.settings())
    settings = LiveSettings(settle_s=SETTLE_S) if settings is None else settings
    clock = SimulatedClock(BEGIN)
    return follow(vendor, server.script, stop=END, clock=clock, server=server, settings=settings, last_closes=last_closes)


def assert_undisturbed(followed: Followed, server: VendorServer, *, first: datetime = NOON) -> None:
    """Compare with what the script says, to the last bit."""
    for symbol in server.script.symbols:
        expected = [c for c in server.script.candles(symbol, END) if c.close_time <= END and c.open_time >= first]
        open_times = followed.open_times(symbol)
        assert all(earlier < later for earlier, later in pairwise(open_times)), "each once and in order"
        assert [time for time in open_times if time + MINUTE <= END] == [candle.open_time for candle in expected]
        values = followed.values(symbol)[: len(expected)]
        assert np.array_equal(values[:, :4], [candle.mid for candle in expected])
        if isinstance(server, OandaServer):
            details = [(*c.bid, *c.ask, c.ask[3] - c.bid[3], c.quotes, np.nan) for c in expected]
            assert np.array_equal(followed.details(symbol)[: len(expected)], details, equal_nan=True)
            assert np.array_equal(values[:, 4], [candle.quotes for candle in expected])


def pauses_s(followed: Followed) -> list[float]:
    return [seconds for seconds in followed.clock.slept_s if seconds != SETTLE_S]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("vendor", VENDORS)
def test_after_a_fault_the_series_equals_the_undisturbed_one(vendor: str, fault: str) -> None:
    faults, connects, reconnects = FAULTS[fault]
    with server_of(vendor, faults) as server:
        followed = followed_on(server)
    assert_undisturbed(followed, server)
    assert server.seen.connects == connects
    assert followed.feed.status().reconnects == reconnects
    assert followed.count(Origin.LIVE) >= 8, "most of it was seen live"


@pytest.mark.parametrize("fault", SILENCES)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_silent_connection_is_a_dead_one_and_is_made_anew(vendor: str, fault: str) -> None:
    with server_of(vendor, SILENCES[fault]) as server:
        followed = followed_on(server, LiveSettings(silence_s=0.7, settle_s=SETTLE_S))
    assert_undisturbed(followed, server)
    assert 2 <= server.seen.connects <= 5


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_fault_is_counted(vendor: str) -> None:
    faults = [
        AtTick(wrong=Wrong.DUPLICATE, after=2 * MINUTE, count=7),
        AtTick(wrong=Wrong.MALFORMED, after=4 * MINUTE, count=5),
        AtTick(wrong=Wrong.UNEXPECTED, after=6 * MINUTE, count=3),
        AtTick(wrong=Wrong.LATE, after=8 * MINUTE),
    ]
    with server_of(vendor, faults) as server:
        status = followed_on(server).feed.status()
    assert (status.duplicate_ticks, status.malformed, status.unexpected, status.late_ticks) == (7, 5, 3, 1)
    late = SCRIPT.ticks[SCRIPT.position(BEGIN + 8 * MINUTE)]
    assert status.disputed == [f"{late.symbol} {late.time.replace(second=0, microsecond=0).isoformat()}"]


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_server_that_accepts_and_closes_meets_growing_pauses(vendor: str) -> None:
    with server_of(vendor, [OnConnect(wrong=Wrong.CLOSE, numbers=range(1, 6))]) as server:
        followed = followed_on(server)
    assert_undisturbed(followed, server)
    assert server.seen.connects == 6
    pauses = pauses_s(followed)
    assert all(2**count / 2 <= pause <= 2**count for count, pause in enumerate(pauses)), pauses
    assert len(pauses) == 5


@pytest.mark.parametrize("fault", [OnConnect(wrong=Wrong.LIMITED), OnHistory(wrong=Wrong.LIMITED)])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_that_asks_for_a_pause_gets_it(vendor: str, fault: Fault) -> None:
    with server_of(vendor, [fault]) as server:
        followed = followed_on(server)
    assert pauses_s(followed) == [RETRY_AFTER_S]


@pytest.mark.parametrize(
    "faults",
    [
        [OnConnect(wrong=Wrong.UNAUTHORIZED)],
        [OnHistory(wrong=Wrong.UNAUTHORIZED)],
        [AtTick(wrong=Wrong.DROP, after=3 * MINUTE), OnConnect(wrong=Wrong.UNAUTHORIZED, numbers=(2,))],
    ],
    ids=["on connecting", "of history", "on connecting again"],
)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_that_does_not_know_us_is_asked_no_more(vendor: str, faults: list[Fault]) -> None:
    with server_of(vendor, faults) as server:
        followed = followed_on(server)
    status = followed.feed.status()
    assert isinstance(followed.refusal, BadCredentials)
    assert status.state is FeedState.REFUSED
    assert status.problem.startswith(f"{vendor} does not accept FXCAST_{vendor.upper()}_TOKEN")
    assert server.seen.connects == len(faults)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_symbol_that_the_vendor_does_not_know_stops_the_feed(vendor: str) -> None:
    script = make_script(symbols=("EURUSD", "EURXXX"))
    with server_of(vendor, []) as server:
        asked = open_vendor(vendor, server.settings())
        followed = follow(asked, script, stop=END, clock=SimulatedClock(BEGIN))
    assert isinstance(followed.refusal, BadSetting)
    assert "EURXXX" in str(followed.refusal)
    assert followed.feed.status().state is FeedState.REFUSED


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_is_stored_already_does_not_come_again(vendor: str) -> None:
    stored = NOON + 3 * MINUTE
    with server_of(vendor, []) as server:
        followed = followed_on(server, last_closes=dict.fromkeys(SCRIPT.symbols, stored))
    assert_undisturbed(followed, server, first=stored)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_long_gap_is_handed_out_page_by_page(vendor: str) -> None:
    with server_of(vendor, []) as server:
        followed = followed_on(server, LiveSettings(page_candles=4, history=timedelta(minutes=7)))
    assert_undisturbed(followed, server)
    backfilled = [part for part in followed.parts_of("EURUSD") if part.origin is Origin.BACKFILL]
    assert max(len(part.data) for part in backfilled) <= 4


def test_28_pairs_come_through_a_drop() -> None:
    currencies = ("AUD", "CAD", "CHF", "EUR", "GBP", "JPY", "NZD", "USD")
    pairs = [base + quote for base in currencies for quote in currencies if base < quote]
    script = make_script(minutes=20, symbols=pairs, seed=1)
    with server_of("oanda", [AtTick(wrong=Wrong.DROP, after=5 * MINUTE, missed=3 * MINUTE)], script) as server:
        followed = followed_on(server)
    assert_undisturbed(followed, server)
    assert len(pairs) == 28
    assert server.seen.connects == 2
