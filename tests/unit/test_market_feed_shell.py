"""The market feed's shell without Ray: what is seen is stored, nothing is lost, and subscribers keep up or read the store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from actors.feed_channel import FeedChannel, News
from actors.market_feed import ENDED, FeedSettings, LastCloses, MarketFeedShell
from actors.subscription import Subscription
from fxcast.adapters.feeds.live import LiveSettings
from fxcast.adapters.feeds.port import Emit, FeedCandles, FeedState, FeedStatus, Origin
from fxcast.data.store import AppendResult, CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.market import MarketCandles, without_details
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCredentials, StoreUnavailable, Unavailable
from tests.factories import NOON, make_series
from tests.vendors.following import know_vendors
from tests.vendors.oanda import OandaServer
from tests.vendors.script import MINUTE, AtTick, OnConnect, OnHistory, Wrong, make_script
from tests.vendors.weekday import open_on_a_weekday

HOUR = Timeframe("1h")
EUR = make_series(bars=40, seed=1)
JPY = make_series(bars=40, symbol="USDJPY", price=110.0, seed=2)

Script = Callable[[Emit], Awaitable[None]]


def one(series: CandleSeries, start: int, stop: int | None = None) -> FeedCandles:
    data = without_details(series.slice(start, start + 1 if stop is None else stop))
    return FeedCandles(data=data, origin=Origin.LIVE)


class ScriptedFeed:
    """Implements the port: does what the script says."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._status = FeedStatus()

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("EURUSD", "USDJPY")

    @property
    def timeframe(self) -> Timeframe:
        return HOUR

    def status(self) -> FeedStatus:
        return self._status

    async def run(self, emit: Emit) -> None:
        self._status.state = FeedState.LIVE
        await self._script(emit)
        self._status.state = FeedState.FINISHED


async def both_series(emit: Emit) -> None:
    for position in range(40):
        for series in (EUR, JPY):
            await emit(one(series, position))
            await asyncio.sleep(0)


def settings_for(folder: Path, **given: Any) -> FeedSettings:
    symbols = ("EURUSD", "USDJPY")
    return FeedSettings(symbols=symbols, timeframe="1h", store=str(folder / "store"), source=str(folder / "source"), **given)


def shell_of(
    settings: FeedSettings, script: Script, pauses: Callable[[], Iterator[float]] = lambda: repeat(0.0)
) -> MarketFeedShell:
    def opened(settings: FeedSettings, last_closes: LastCloses) -> ScriptedFeed:
        del settings, last_closes
        return ScriptedFeed(script)

    return MarketFeedShell(settings, opened, pauses)


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.002)  # between looks at another thread


def ended(shell: MarketFeedShell) -> dict[str, Any]:
    wait_until(lambda: shell.status()["state"] in ENDED)
    return shell.status()


def asking(shell: MarketFeedShell) -> Callable[[str, int | None], News]:
    return lambda epoch, sequence: shell.candles_after(epoch, sequence, 0.05)


def subscription_to(shell: MarketFeedShell, folder: Path, **given: Any) -> Subscription:
    ask = given.pop("ask", asking(shell))
    store = CandleStore(folder / "store")
    return Subscription(ask, store, ("EURUSD", "USDJPY"), HOUR, sleep=lambda _: None, **given)


def closes_by_symbol(seen: Sequence[FeedCandles]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for candles in seen:
        found.setdefault(candles.data.symbol, []).extend(candles.data.candles.closes.tolist())
    return found


WHOLE = {"EURUSD": EUR.closes.tolist(), "USDJPY": JPY.closes.tolist()}


def test_every_candle_is_stored_and_published_once_and_in_order(tmp_path: Path) -> None:
    go = threading.Event()

    async def when_told(emit: Emit) -> None:
        await asyncio.to_thread(go.wait)
        await both_series(emit)

    shell = shell_of(settings_for(tmp_path), when_told)
    first, second = (subscription_to(shell, tmp_path) for _ in range(2))
    go.set()
    seen = list(first)
    assert closes_by_symbol(seen) == closes_by_symbol(list(second)) == WHOLE
    status = ended(shell)
    assert (status["state"], status["problem"], status["stored"], status["pending"]) == ("finished", "", 80, 0)
    store = CandleStore(tmp_path / "store")
    for series in (EUR, JPY):
        assert store.read(series.symbol, HOUR).values.tolist() == series.values.tolist()


def test_what_a_subscriber_sees_is_in_the_store_already(tmp_path: Path) -> None:
    shell = shell_of(settings_for(tmp_path), both_series)
    store = CandleStore(tmp_path / "store")
    found = 0
    for candles in subscription_to(shell, tmp_path):
        stored = store.read(candles.data.symbol, HOUR)
        assert np.isin(candles.data.open_times, stored.open_times).all()
        found += len(candles.data)
    assert found == 80


def test_store_that_does_not_answer_holds_everything_back_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, plain = threading.Event(), CandleStore.append
    full.set()

    def append(store: CandleStore, data: MarketCandles | CandleSeries) -> AppendResult:
        if full.is_set():
            raise StoreUnavailable("/candles", "No space left on device")
        return plain(store, data)

    monkeypatch.setattr(CandleStore, "append", append)
    handed_out: list[int] = []

    async def counted(emit: Emit) -> None:
        for position in range(40):
            await emit(one(EUR, position))
            handed_out.append(position)
            await asyncio.sleep(0)

    shell = shell_of(settings_for(tmp_path, most_pending=7), counted, lambda: repeat(0.001))
    wait_until(lambda: shell.status()["state"] == "waiting" and len(handed_out) == 7)
    status = shell.status()
    assert status["problem"] == "candle store /candles: No space left on device"
    assert (status["stored"], status["pending"]) == (0, 7), "the feed waits once so many are pending"
    assert shell.candles_after("", None, 0.0).last == 0, "nothing is published before it is stored"
    full.clear()
    assert ended(shell)["stored"] == 40
    assert CandleStore(tmp_path / "store").read("EURUSD", HOUR).values.tolist() == EUR.values.tolist()
    assert shell.candles_after("", None, 0.0).last == 40


def test_stored_candle_that_differs_stays_and_is_what_subscribers_see(tmp_path: Path) -> None:
    other = EUR.values[3:4].copy()
    other[0] *= 1.5
    stored = CandleSeries(symbol="EURUSD", timeframe=HOUR, open_times=EUR.open_times[3:4], values=other)
    CandleStore(tmp_path / "store").append(stored)

    async def five(emit: Emit) -> None:
        await emit(one(EUR, 0, 3))
        await emit(one(EUR, 3, 5))

    shell = shell_of(settings_for(tmp_path), five)
    status = ended(shell)
    assert (status["stored"], status["conflicting"]) == (4, 1)
    epoch = shell.candles_after("", None, 0.0).epoch
    seen = [published.candles for published in shell.candles_after(epoch, 0, 0.0).published]
    assert closes_by_symbol(seen) == {"EURUSD": [*EUR.closes[:3], stored.closes[0], EUR.closes[4]]}


def test_refused_feed_says_why_and_keeps_what_it_had(tmp_path: Path) -> None:
    async def refused(emit: Emit) -> None:
        await emit(one(EUR, 0, 5))
        raise BadCredentials("oanda does not accept FXCAST_OANDA_TOKEN (HTTP 401)")

    status = ended(shell_of(settings_for(tmp_path), refused))
    assert (status["state"], status["stored"]) == ("refused", 5)
    assert status["problem"] == "oanda does not accept FXCAST_OANDA_TOKEN (HTTP 401)"


def test_unforeseen_error_is_named_without_its_text(tmp_path: Path) -> None:
    async def broken(emit: Emit) -> None:
        await emit(one(EUR, 0))
        raise ValueError("wss://vendor/?token=secret")

    status = ended(shell_of(settings_for(tmp_path), broken))
    assert (status["state"], status["problem"], status["stored"]) == ("failed", "ValueError", 1)


def test_stopped_feed_stores_what_it_handed_out(tmp_path: Path) -> None:
    handed_out = threading.Event()

    async def endless(emit: Emit) -> None:
        await emit(one(EUR, 0, 30))
        handed_out.set()
        await asyncio.Event().wait()

    shell = shell_of(settings_for(tmp_path), endless)
    assert handed_out.wait(60)
    shell.stop()
    status = shell.status()
    assert (status["state"], status["stored"], status["pending"]) == ("stopped", 30, 0)
    assert closes_by_symbol(list(subscription_to(shell, tmp_path, after=to_datetime(EUR.open_times[0])))) == {
        "EURUSD": EUR.closes[:30].tolist()
    }


def test_feed_whose_store_is_away_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def append(store: CandleStore, data: MarketCandles | CandleSeries) -> AppendResult:
        del store, data
        raise StoreUnavailable("/candles", "gone")

    monkeypatch.setattr(CandleStore, "append", append)
    shell = shell_of(settings_for(tmp_path), both_series, lambda: repeat(60.0))
    wait_until(lambda: shell.status()["state"] == "waiting")
    shell.stop()
    assert (shell.status()["state"], shell.status()["problem"]) == ("stopped", "candle store /candles: gone")


def test_feed_goes_on_after_the_last_stored_candle_of_each_symbol(tmp_path: Path) -> None:
    CandleStore(tmp_path / "store").append(EUR.slice(0, 12))
    asked: list[LastCloses] = []

    async def nothing(emit: Emit) -> None:
        del emit
        await asyncio.sleep(0)

    def opened(settings: FeedSettings, last_closes: LastCloses) -> ScriptedFeed:
        del settings
        asked.append(last_closes)
        return ScriptedFeed(nothing)

    assert ended(MarketFeedShell(settings_for(tmp_path), opened))["state"] == "finished"
    assert asked == [{"EURUSD": to_datetime(EUR.close_times[11]), "USDJPY": None}]


def test_subscriber_too_far_behind_reads_the_store_and_sees_every_candle_once(tmp_path: Path) -> None:
    resume = threading.Event()

    async def in_two_halves(emit: Emit) -> None:
        await emit(one(EUR, 0, 10))
        await asyncio.to_thread(resume.wait)
        for position in range(10, 40):
            await emit(one(EUR, position))

    shell = shell_of(settings_for(tmp_path, kept_candles=5), in_two_halves)
    answers: list[News] = []

    def ask(epoch: str, sequence: int | None) -> News:
        answers.append(asking(shell)(epoch, sequence))
        return answers[-1]

    following = iter(subscription_to(shell, tmp_path, ask=ask, after=to_datetime(EUR.open_times[0])))
    wait_until(lambda: shell.status()["stored"] == 10)
    seen = [next(following)]
    resume.set()
    ended(shell)
    seen += following
    assert closes_by_symbol(seen) == {"EURUSD": EUR.closes.tolist()}
    assert any(answer.is_behind for answer in answers)


def test_restarted_feed_is_not_mistaken_for_the_old_one(tmp_path: Path) -> None:
    async def first_half(emit: Emit) -> None:
        await emit(one(EUR, 0, 20))
        await asyncio.Event().wait()

    async def second_half(emit: Emit) -> None:  # as many numbers again, and meaning other candles
        await emit(one(EUR, 20, 40))

    shells = [shell_of(settings_for(tmp_path), first_half)]
    wait_until(lambda: shells[0].status()["stored"] == 20)

    def ask(epoch: str, sequence: int | None) -> News:
        if len(shells) == 1 and sequence is not None:  # killed and started again, all between two questions
            shells.append(shell_of(settings_for(tmp_path), second_half))
            ended(shells[1])
            raise Unavailable("restarting")
        return asking(shells[-1])(epoch, sequence)

    seen = list(subscription_to(shells[0], tmp_path, ask=ask, after=to_datetime(EUR.open_times[0])))
    assert closes_by_symbol(seen) == {"EURUSD": EUR.closes.tolist()}
    shells[0].stop()


def test_channel_answers_from_within_a_batch_and_keeps_what_it_promised() -> None:
    channel = FeedChannel(kept_candles=6)
    start = channel.after("", None, 0.0)
    assert (start.last, start.published, start.is_behind) == (0, (), False)
    channel.publish([one(EUR, 0, 5), one(JPY, 0, 3)])
    news = channel.after(start.epoch, 2, 0.0)
    assert [(published.sequence, len(published.candles.data)) for published in news.published] == [(3, 3), (6, 3)]
    assert closes_by_symbol([news.published[0].candles]) == {"EURUSD": EUR.closes[2:5].tolist()}
    assert (news.last, news.is_over) == (8, False)
    channel.publish([one(EUR, 5, 11)])
    assert channel.after(start.epoch, 2, 0.0).is_behind
    assert not channel.after(start.epoch, 8, 0.0).is_behind
    assert channel.after("another life", 14, 0.0).is_behind
    channel.end()
    assert channel.after(start.epoch, 14, 60.0).is_over


def test_vendor_that_fails_and_a_store_that_fails_leave_the_series_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_vendors(monkeypatch)
    script = make_script(minutes=20)
    appends, plain = count(1), CandleStore.append

    def append(store: CandleStore, data: MarketCandles | CandleSeries) -> AppendResult:
        if next(appends) % 3 == 1:
            raise StoreUnavailable("/candles", "No space left on device")
        return plain(store, data)

    monkeypatch.setattr(CandleStore, "append", append)
    faults = [
        OnConnect(wrong=Wrong.BROKEN),
        OnHistory(wrong=Wrong.BROKEN, numbers=(2,)),
        AtTick(wrong=Wrong.DUPLICATE, after=2 * MINUTE, count=20),
        AtTick(wrong=Wrong.DROP, after=5 * MINUTE, missed=3 * MINUTE),
        AtTick(wrong=Wrong.DROP, after=12 * MINUTE),
    ]
    with OandaServer(script, begin=NOON, faults=faults) as server:
        settings = FeedSettings(
            provider="oanda",
            symbols=script.symbols,
            store=str(tmp_path / "store"),
            vendor=server.settings(),
            live=LiveSettings(settle_s=0.0, lateness_s=0.0, first_pause_s=0.01, longest_pause_s=0.05),
        )
        shell = MarketFeedShell(settings, open_on_a_weekday, pauses=lambda: repeat(0.0))
        expected = {symbol: script.candles(symbol, NOON + 20 * MINUTE) for symbol in script.symbols}
        seen: dict[str, list[float]] = {symbol: [] for symbol in script.symbols}
        whole = Subscription(asking(shell), CandleStore(tmp_path / "store"), script.symbols, Timeframe("1m"), after=NOON)
        for candles in whole:
            seen[candles.data.symbol] += candles.data.candles.closes.tolist()
            if all(len(seen[symbol]) >= len(expected[symbol]) for symbol in seen):
                break
        shell.stop()
    for symbol, candles in expected.items():
        stored = CandleStore(tmp_path / "store").read(symbol, Timeframe("1m"))
        assert [to_datetime(moment) for moment in stored.open_times] == [candle.open_time for candle in candles]
        np.testing.assert_allclose(stored.values[:, :4], [candle.mid for candle in candles], rtol=1e-9)
        assert seen[symbol] == stored.closes.tolist()
    status = shell.status()
    assert (status["state"], status["conflicting"]) == ("stopped", 0)
    assert status["reconnects"] >= 2


def test_settings_that_can_not_be_meant_are_refused() -> None:
    for given, message in (
        ({"provider": "replay"}, "source: missing"),
        ({"provider": "oanda", "speed": 2.0}, "speed is for the provider replay"),
        ({"source": "runs/store"}, "source and store are the same"),
        ({"source": "a", "timeframe": "2h"}, "1m, 5m, 15m, 1h, 4h, 1d"),
        ({"source": "a", "symbols": ("eurusd",)}, "six capital letters"),
    ):
        with pytest.raises(ValidationError, match=message):
            FeedSettings.model_validate(given)
