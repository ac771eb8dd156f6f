"""The market feed as an actor on Ray: every candle once, through kills and restarts, replayed and from a vendor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import ray
from ray.actor import ActorHandle

from actors.market_feed import ENDED, FeedSettings, MarketFeedActor, find_feed, start_feed
from actors.subscription import subscribe
from fxcast.adapters.feeds.credentials import OANDA_ACCOUNT, OANDA_TOKEN
from fxcast.adapters.feeds.live import LiveSettings
from fxcast.adapters.feeds.port import FeedCandles
from fxcast.cluster.local import REPOSITORY
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetup
from jobs.entry import INTERRUPTED
from jobs.stream import attach
from tests.factories import NOON, make_series
from tests.vendors import oanda
from tests.vendors.oanda import OandaServer
from tests.vendors.script import MINUTE, make_script
from tests.vendors.weekday import open_on_a_weekday
from tests.waiting import wait_for

MINUTES = Timeframe("1m")
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY")
BARS = 1_500
BEFORE = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a day of three symbols, across the turn of a month."""
    root = tmp_path_factory.mktemp("source")
    for seed, symbol in enumerate(SYMBOLS):
        CandleStore(root).append(
            make_series(bars=BARS, symbol=symbol, timeframe="1m", start=datetime(2017, 1, 31, tzinfo=UTC), seed=seed)
        )
    return root


@pytest.fixture(autouse=True)
def _no_feed_stays(dashboard_url: str) -> Iterator[None]:
    assert dashboard_url
    yield
    for provider in ("replay", "oanda"):
        feed = find_feed(provider)
        if feed is not None:
            ray.kill(feed, no_restart=True)
        wait_for(lambda provider=provider: find_feed(provider) is None)


def status_of(feed: ActorHandle[Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", ray.get(feed.status.remote(), timeout=60))


def closes_of(seen: Sequence[FeedCandles]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for candles in seen:
        found.setdefault(candles.data.symbol, []).extend(candles.data.candles.closes.tolist())
    return found


def stored(root: Path) -> dict[str, CandleSeries]:
    return {symbol: CandleStore(root).read(symbol, MINUTES) for symbol in SYMBOLS}


def assert_same_candles(root: Path, source: Path) -> None:
    for symbol, series in stored(source).items():
        found = stored(root)[symbol]
        np.testing.assert_array_equal(found.open_times, series.open_times)
        np.testing.assert_array_equal(found.values, series.values)


def test_replay_of_several_symbols_reaches_store_and_subscriber_whole_and_a_second_feed_is_refused(
    source: Path, tmp_path: Path
) -> None:
    settings = FeedSettings(symbols=SYMBOLS, store=str(tmp_path), source=str(source))
    feed = start_feed(settings)
    with pytest.raises(BadSetup, match="a feed of replay runs already; attach to it with --attach, or stop it first with --stop"):
        start_feed(settings)
    seen = list(subscribe(feed, after=BEFORE))
    assert closes_of(seen) == {symbol: series.closes.tolist() for symbol, series in stored(source).items()}
    assert_same_candles(tmp_path, source)
    status = status_of(feed)
    assert (status["state"], status["candles_emitted"], status["stored"]) == ("finished", 3 * BARS, 3 * BARS)


def test_killed_feed_loses_nothing_and_its_subscriber_sees_every_candle_once(source: Path, tmp_path: Path) -> None:
    # Slow enough to be killed in the middle, in batches small enough to leave the series at different lengths.
    settings = FeedSettings(symbols=SYMBOLS, store=str(tmp_path), source=str(source), most_pending=100, kept_candles=50)
    feed = start_feed(settings)
    seen: list[FeedCandles] = []
    following = threading.Thread(target=lambda: seen.extend(subscribe(feed, after=BEFORE)), daemon=True)
    following.start()
    wait_for(lambda: status_of(feed)["stored"] >= BARS // 2)
    killed = status_of(feed)
    assert killed["state"] not in ENDED, "it is killed in the middle"

    os.kill(killed["pid"], signal.SIGKILL)
    following.join(120)

    assert not following.is_alive()
    status = status_of(feed)
    assert status["state"] == "finished"
    assert status["pid"] != killed["pid"]
    assert status["stored"] < 3 * BARS, "it went on where it was"
    assert_same_candles(tmp_path, source)
    assert closes_of(seen) == {symbol: series.closes.tolist() for symbol, series in stored(source).items()}


def test_live_feed_of_a_vendor_stores_what_its_subscriber_sees(tmp_path: Path) -> None:
    script = make_script(minutes=12)
    with OandaServer(script, begin=NOON) as server:
        settings = FeedSettings(
            provider="oanda",
            symbols=script.symbols,
            store=str(tmp_path),
            vendor=server.settings(),
            live=LiveSettings(settle_s=0.0, lateness_s=0.0, first_pause_s=0.01, longest_pause_s=0.05),
        )
        environment = {OANDA_TOKEN: oanda.TOKEN, OANDA_ACCOUNT: oanda.ACCOUNT, "PYTHONPATH": f"{REPOSITORY}/platform:{REPOSITORY}"}
        feed = MarketFeedActor.options(num_cpus=0.1, runtime_env={"env_vars": environment}).remote(settings, open_on_a_weekday)
        last = {symbol: script.candles(symbol, NOON + 12 * MINUTE)[-2].open_time for symbol in script.symbols}
        seen: dict[str, list[float]] = {symbol: [] for symbol in script.symbols}
        for candles in subscribe(feed, after=NOON):
            seen[candles.data.symbol] += candles.data.candles.closes.tolist()
            if candles.data.symbol in last and candles.data.open_times[-1] >= np.datetime64(
                last[candles.data.symbol].replace(tzinfo=None)
            ):
                del last[candles.data.symbol]
            if not last:
                break
        status = status_of(feed)
        ray.get(feed.stop.remote(), timeout=60)
        ray.kill(feed)
    for symbol in script.symbols:
        series = CandleStore(tmp_path).read(symbol, MINUTES)
        known = {candle.open_time.replace(tzinfo=None): candle.mid for candle in script.candles(symbol, NOON + 12 * MINUTE)}
        assert len(series) >= 10
        np.testing.assert_allclose(series.values[:, :4], [known[moment] for moment in series.open_times.tolist()], rtol=1e-9)
        assert seen[symbol] == series.closes[: len(seen[symbol])].tolist()
    assert oanda.TOKEN not in str(status)


def start_job(*options: str) -> subprocess.Popen[str]:
    """Start the job as another person on the same cluster would."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.stream", *options],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "platform", "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_job_streams_a_replay_to_its_end(source: Path, tmp_path: Path) -> None:
    job = start_job("--symbols", '["EURUSD"]', "--source", str(source), "--store", str(tmp_path))
    output, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors
    assert f"finished: {BARS:,} candles, {BARS:,} stored" in output


def test_job_leaves_a_feed_that_it_is_attached_to_and_stops_one_when_told(source: Path, tmp_path: Path) -> None:
    feed = start_feed(FeedSettings(symbols=SYMBOLS, store=str(tmp_path), source=str(source), speed=1.0))
    attached = start_job("--attach")
    assert attached.stdout is not None
    assert attached.stdout.readline() == "attached to the feed of replay; Ctrl-C leaves it running\n"
    assert attached.stdout.readline().startswith("replay: ")
    attached.send_signal(signal.SIGINT)
    _, errors = attached.communicate(timeout=120)
    assert attached.returncode == INTERRUPTED, errors
    assert status_of(feed)["state"] not in ENDED

    output, errors = (stopping := start_job("--stop")).communicate(timeout=120)
    assert (stopping.returncode, output) == (0, "feed of replay stopped; what it handed out is in the store\n"), errors
    wait_for(lambda: find_feed("replay") is None)
    with pytest.raises(BadSetup, match="no feed of replay runs on the cluster at"):
        attach("replay")
