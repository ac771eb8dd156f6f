"""What a feed publishes, as an engine sees it."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import repeat
from pathlib import Path

import pytest

from actors.subscribed_feed import SubscribedFeed
from fxcast.adapters.feeds.port import FeedCandles, Origin
from fxcast.data.resample import resample
from fxcast.data.store import CandleStore
from fxcast.data.windows import known_at
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.market import without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Disconnected
from fxcast.trading.ports import ClosedCandle
from tests.factories import make_series

EURO = make_series(bars=130, seed=1)
STERLING = make_series(bars=130, symbol="GBPUSD", price=1.3, seed=2)
CLOSES = [to_datetime(moment) for moment in EURO.close_times]


class Publisher:
    """Publishes what a test hands it; `None` ends a subscription as if the feed were gone."""

    def __init__(self) -> None:
        self.published: queue.Queue[FeedCandles | None] = queue.Queue()
        self.asked: list[dict[str, datetime]] = []
        self.away = False

    def subscribe(self, after: Mapping[str, datetime]) -> Iterator[FeedCandles]:
        self.asked.append(dict(after))
        if self.away:
            raise Disconnected("no feed runs")
        while (candles := self.published.get()) is not None:
            yield candles

    def publish(self, series: CandleSeries, first: int, last: int, origin: Origin = Origin.LIVE) -> None:
        self.published.put(FeedCandles(data=without_details(series.slice(first, last)), origin=origin))


@pytest.fixture
def store(tmp_path: Path) -> CandleStore:
    return CandleStore(tmp_path / "store")


def make_feed(publisher: Publisher, store: CandleStore, **options: object) -> SubscribedFeed:
    given = {"poll_s": 0.05, "pauses": lambda: repeat(0.01)} | options
    return SubscribedFeed(publisher.subscribe, store, ["EURUSD", "GBPUSD"], Timeframe("1h"), **given)  # pyright: ignore[reportArgumentType]  # named options


def stored(store: CandleStore, bars: int) -> None:
    for series in (EURO, STERLING):
        store.append(series.slice(0, bars))


def told(closed: tuple[ClosedCandle, ...]) -> list[tuple[str, datetime]]:
    return [(each.window.symbol, each.closed_at) for each in closed]


def next_moment(moments: Iterator[tuple[ClosedCandle, ...]]) -> tuple[ClosedCandle, ...]:
    return next(closed for closed in moments if closed)


def test_live_candle_comes_with_the_window_of_stored_and_new_candles(store: CandleStore) -> None:
    publisher = Publisher()
    stored(store, 120)
    moments = make_feed(publisher, store, timeframes=("4h",)).closed_candles(after={})
    assert next(moments) == (), "what was stored before a new engine began is none of its candles"
    publisher.publish(EURO, 120, 121)
    (closed,) = next_moment(moments)
    assert (closed.window.values == EURO.slice(21, 121).values).all()
    expected = resample(without_details(known_at(EURO, CLOSES[120])), Timeframe("4h")).complete.candles
    assert (closed.higher["4h"].values == expected.values).all()
    assert publisher.asked[0] == {"EURUSD": CLOSES[119], "GBPUSD": CLOSES[119]}


def test_candles_that_an_engine_missed_come_from_the_store_by_time_and_together(store: CandleStore) -> None:
    stored(store, 120)
    moments = make_feed(Publisher(), store).closed_candles(after={"EURUSD": CLOSES[116], "GBPUSD": CLOSES[117]})
    first, second, third = (next(moments) for _ in range(3))
    assert told(first) == [("EURUSD", CLOSES[117])]
    assert told(second) == [("EURUSD", CLOSES[118]), ("GBPUSD", CLOSES[118])]
    assert told(third) == [("EURUSD", CLOSES[119]), ("GBPUSD", CLOSES[119])]


def test_replayed_candles_wait_until_every_symbol_has_come_so_far(store: CandleStore) -> None:
    publisher = Publisher()
    moments = make_feed(publisher, store, poll_s=5.0, begin=CLOSES[0]).closed_candles(after={})
    publisher.publish(EURO, 0, 110, Origin.REPLAY)
    publisher.publish(STERLING, 0, 105, Origin.REPLAY)
    seen = [told(next_moment(moments)) for _ in range(6)]
    assert seen == [[("EURUSD", closed_at), ("GBPUSD", closed_at)] for closed_at in CLOSES[99:105]]


def test_feed_that_is_gone_is_told_and_asked_again_after_the_last_candle_seen(store: CandleStore) -> None:
    publisher, lost = Publisher(), list[str]()
    stored(store, 120)
    feed = make_feed(publisher, store, lost=lost.append)
    moments = feed.closed_candles(after={})
    publisher.publish(EURO, 120, 121)
    assert told(next_moment(moments)) == [("EURUSD", CLOSES[120])]
    publisher.away = True
    publisher.published.put(None)
    while len(publisher.asked) < 4:
        assert next(moments) == (), "time goes on without candles"
    publisher.away = False
    publisher.publish(EURO, 121, 122)
    assert told(next_moment(moments)) == [("EURUSD", CLOSES[121])]
    assert lost[:2] == ["the feed has ended", "no feed runs"]
    assert publisher.asked[-1]["EURUSD"] == CLOSES[120]
    feed.stop()


def test_first_window_waits_until_there_are_enough_candles(store: CandleStore) -> None:
    publisher = Publisher()
    moments = make_feed(publisher, store, begin=CLOSES[0]).closed_candles(after={})
    publisher.publish(EURO, 0, 99)
    assert next(moments) == ()
    publisher.publish(EURO, 99, 100)
    assert told(next_moment(moments)) == [("EURUSD", CLOSES[99])]


def test_window_of_a_handled_candle_is_read_from_the_store(store: CandleStore) -> None:
    stored(store, 120)
    feed = make_feed(Publisher(), store)
    window = feed.window("EURUSD", CLOSES[110])
    assert window is not None
    assert (window.values == EURO.slice(11, 111).values).all()
    assert feed.window("EURUSD", CLOSES[50]) is None


def test_stopped_feed_ends(store: CandleStore) -> None:
    feed = make_feed(Publisher(), store)
    moments = feed.closed_candles(after={})
    assert next(moments) == ()
    feed.stop()
    assert list(moments) == []
