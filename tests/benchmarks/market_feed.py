"""Replay a day of 1-minute candles of 28 pairs through the feed actor on Ray: python -m tests.benchmarks.market_feed."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import ray

from actors.market_feed import FeedSettings, start_feed
from actors.subscription import subscribe
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe
from tests.benchmarks.result import Against, Figure
from tests.factories import make_series

_COMMAND = "python -m tests.benchmarks.market_feed"
_FOLDER = REPOSITORY / "runs" / "bench"
_CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")
_PAIRS = tuple(base + quote for at, base in enumerate(_CURRENCIES) for quote in _CURRENCIES[at + 1 :])
_DAY = datetime(2024, 3, 5, 22, tzinfo=UTC)  # 17:00 in New York
_BARS = 1440
_CANDLES = _BARS * len(_PAIRS)
_SAMPLE = 5  # candles of each pair that are appended one by one, for comparison
_MINUTE = Timeframe("1m")


def fill(root: Path) -> None:
    """Store a day of every pair."""
    store = CandleStore(root)
    for seed, pair in enumerate(_PAIRS):
        store.append(make_series(bars=_BARS, symbol=pair, timeframe="1m", start=_DAY, seed=seed))


def replay(source: Path, target: Path) -> float:
    """Replay through the actor to a subscriber in this process; return the seconds from its start to the last candle seen.

    Raises:
        AssertionError: If a candle was lost, on the way or in the store.
    """
    with ray_session(num_cpus=2):
        started = time.perf_counter()
        feed = start_feed(FeedSettings(symbols=_PAIRS, store=str(target), source=str(source)))
        seen = sum(len(candles.data) for candles in subscribe(feed, after=_DAY))
        taken_s = time.perf_counter() - started
        ray.kill(feed, no_restart=True)
    assert seen == _CANDLES, f"{_CANDLES - seen} candles did not arrive"
    for pair in _PAIRS:
        given, stored = (CandleStore(root).read(pair, _MINUTE) for root in (source, target))
        assert stored.open_times.tolist() == given.open_times.tolist(), f"{pair} lacks candles in the store"
        assert stored.values.tolist() == given.values.tolist(), f"{pair} differs in the store"
    return taken_s


def append_one_by_one(source: Path, target: Path) -> float:
    """Return the seconds that a day takes if each candle is appended as it comes, from the first of each pair."""
    reading, writing = CandleStore(source), CandleStore(target)
    series = [reading.read_market(pair, _MINUTE) for pair in _PAIRS]
    started = time.perf_counter()
    for bar in range(_SAMPLE):
        for data in series:
            writing.append(data.slice(bar, bar + 1))
    return (time.perf_counter() - started) * _BARS / _SAMPLE


def main() -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fill(root / "source")
        plain_s = append_one_by_one(root / "source", root / "plain")
        taken_s = replay(root / "source", root / "store")
    one_by_one = Against(name="appended one by one, without the actor", value=plain_s)
    figure = Figure(name="market_feed_day_of_28_pairs", value=taken_s, unit="s", against=one_by_one, command=_COMMAND)
    figure.publish(_FOLDER)
    live = _CANDLES / 86_400
    print(f"{_CANDLES:,} candles, none lost: {_CANDLES / taken_s:,.0f} a second; a live market gives {live:.2f} a second")


if __name__ == "__main__":
    main()
