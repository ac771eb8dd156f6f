"""A replay of the store: order, period, pace, months, and a store that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.feeds.port import CandleFeed, FeedCandles, FeedState, Origin
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.adapters.feeds.store_replay import StoreReplay
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.domain.market import MarketCandles
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting, StoreUnavailable
from tests.factories import make_series

HOUR = Timeframe("1h")
START = datetime(2017, 1, 30, tzinfo=UTC)
EUR = make_series(bars=60, start=START, seed=1)
JPY = make_series(bars=50, start=START + timedelta(hours=5), symbol="USDJPY", price=110.0, seed=2)


@pytest.fixture
def store(tmp_path: Path) -> CandleStore:
    store = CandleStore(tmp_path)
    store.append(EUR)
    store.append(JPY)
    return store


class Watch:
    """A clock that only sleeping moves, a little more than asked for."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds + 0.25

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)


def replayed(feed: CandleFeed) -> list[FeedCandles]:
    seen: list[FeedCandles] = []

    async def emit(candles: FeedCandles) -> None:
        seen.append(candles)
        await asyncio.sleep(0)

    asyncio.run(feed.run(emit))
    return seen


def closes_of(seen: Sequence[FeedCandles]) -> list[tuple[datetime, str]]:
    return [(to_datetime(candles.data.candles.close_times[-1]), candles.data.symbol) for candles in seen]


def test_candles_of_all_symbols_come_once_by_close_and_then_by_symbol(store: CandleStore) -> None:
    feed = StoreReplay(store, ["USDJPY", "EURUSD"], HOUR)
    seen = replayed(feed)
    assert closes_of(seen) == sorted((to_datetime(moment), series.symbol) for series in (EUR, JPY) for moment in series.close_times)
    assert {candles.origin for candles in seen} == {Origin.REPLAY}
    for series in (EUR, JPY):
        values = np.concatenate([each.data.candles.values for each in seen if each.data.symbol == series.symbol])
        assert values.tolist() == series.values.tolist()
    status = feed.status()
    assert (status.state, status.candles_emitted) == (FeedState.FINISHED, 110)
    assert status.last_candle == to_datetime(EUR.close_times[-1])
    assert (feed.symbols, feed.timeframe) == (("EURUSD", "USDJPY"), HOUR)


def test_period_bounds_the_opens_and_what_is_known_is_left_out(store: CandleStore) -> None:
    start, stop = START + timedelta(hours=20), START + timedelta(hours=23)
    done = {"EURUSD": START + timedelta(hours=22), "USDJPY": None}
    seen = replayed(StoreReplay(store, ["EURUSD", "USDJPY"], HOUR, start, stop, last_closes=done))
    hours = [(moment - START) // timedelta(hours=1) for moment, _ in closes_of(seen)]
    assert list(zip(hours, [symbol for _, symbol in closes_of(seen)], strict=True)) == [
        (21, "USDJPY"), (22, "USDJPY"), (23, "EURUSD"), (23, "USDJPY")
    ]  # fmt: skip


def test_pace_follows_the_closes_and_makes_up_for_sleeping_too_long(store: CandleStore) -> None:
    watch = Watch()
    feed = StoreReplay(store, ["EURUSD"], HOUR, START, START + timedelta(hours=5), 3600.0, watch.sleep_async, now_s=watch)
    assert len(replayed(feed)) == 5
    assert watch.slept == pytest.approx([1.0, 0.75, 0.75, 0.75])


def test_engines_replay_keeps_the_same_pace() -> None:
    watch = Watch()
    closes = [to_datetime(moment) for moment in make_series(bars=130).close_times]
    feed = ReplayFeed(
        (make_series(bars=130),), start=closes[110], stop=closes[114], clock=ReplayClock(closes[0]), speed=1800.0,
        sleep=watch.sleep, now_s=watch,
    )  # fmt: skip
    assert [closed[0].closed_at for closed in feed.closed_candles(after={})] == closes[110:114]
    assert watch.slept == pytest.approx([2.0, 1.75, 1.75])


def test_speed_of_zero_is_refused(store: CandleStore) -> None:
    with pytest.raises(BadSetting, match="speed: found 0; allowed: a number above 0"):
        StoreReplay(store, ["EURUSD"], HOUR, speed=0.0)


class CountingStore(CandleStore):
    """Remembers what is read, and does not answer at some of the calls."""

    def __init__(self, root: Path, silent_reads: Sequence[int] = ()) -> None:
        super().__init__(root)
        self.answers: list[MarketCandles] = []
        self.calls = 0
        self._silent_reads = silent_reads

    def read_market(
        self, symbol: str, timeframe: Timeframe, start: datetime | None = None, stop: datetime | None = None
    ) -> MarketCandles:
        self.calls += 1
        if self.calls in self._silent_reads:
            raise StoreUnavailable("s3://candles", "no route to host")
        data = super().read_market(symbol, timeframe, start, stop)
        self.answers.append(data)
        return data


def test_store_is_read_month_by_month_as_the_replay_goes_on(store: CandleStore, tmp_path: Path) -> None:
    assert store.has("EURUSD", HOUR)
    counting = CountingStore(tmp_path)
    read_before: list[int] = []

    async def emit(candles: FeedCandles) -> None:
        if candles.data.symbol == "EURUSD":
            read_before.append(len(counting.answers))
        await asyncio.sleep(0)

    asyncio.run(StoreReplay(counting, ["EURUSD"], HOUR).run(emit))
    assert [len(data) for data in counting.answers] == [48, 12]  # January ends after two days
    assert read_before == [1] * 48 + [2] * 12


def test_store_that_does_not_answer_is_asked_again_and_nothing_is_lost(store: CandleStore, tmp_path: Path) -> None:
    assert store.has("EURUSD", HOUR)
    watch = Watch()
    feed = StoreReplay(CountingStore(tmp_path, [1, 3, 4]), ["EURUSD"], HOUR, sleep=watch.sleep_async)
    states: list[tuple[FeedState, str]] = []
    plain_sleep = watch.sleep

    def sleep(seconds: float) -> None:
        states.append((feed.status().state, feed.status().problem))
        plain_sleep(seconds)

    watch.sleep = sleep
    assert len(replayed(feed)) == len(EUR)
    assert states == [(FeedState.WAITING, "candle store s3://candles: no route to host")] * 3
    assert (feed.status().state, feed.status().problem) == (FeedState.FINISHED, "")


def test_symbol_or_period_that_the_store_lacks_is_refused_with_what_it_holds(store: CandleStore) -> None:
    with pytest.raises(BadCandles, match="GBPUSD 1h; allowed: EURUSD 1h, USDJPY 1h"):
        replayed(StoreReplay(store, ["EURUSD", "GBPUSD"], HOUR))
    with pytest.raises(BadCandles, match=r"none of EURUSD 1h from 2018-01-01 00:00 .* holds 2017-01-30 00:00 to 2017-02-01 12:00"):
        replayed(StoreReplay(store, ["EURUSD"], HOUR, datetime(2018, 1, 1, tzinfo=UTC)))
