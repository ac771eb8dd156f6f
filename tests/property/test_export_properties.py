"""What is exported comes back the same, and records of one series can be put together in any order."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fxcast.data.export import export_candles
from fxcast.data.importing.files import SourceFile
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.merge import merge
from fxcast.data.store import CandleStore
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray
from fxcast.domain.market import ASK, BID, DETAILS, MarketCandles, PriceSide, no_details
from fxcast.domain.timeframe import Timeframe, timeframes

QUOTES = [DETAILS.index(name) for name in (*BID, *ASK)]
SPREAD, TICK, REAL = (DETAILS.index(name) for name in ("spread", "tick_volume", "real_volume"))

seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(["quotes", "spread", "tick", "real"])


def times_of(timeframe: Timeframe, positions: Sequence[int]) -> TimeArray:
    """Return some of the timeframe's openings in the open market, through a change of daylight saving."""
    step = max(timeframe.step, np.timedelta64(3600, "s")) if timeframe.minutes > 60 else timeframe.step
    grid = np.datetime64("2017-03-08T00:00", "s") + np.arange(600) * step
    openings = np.unique(timeframe.opening(grid))
    openings = openings[open_mask(openings)]
    return openings[[position for position in positions if position < len(openings)]]


def candles_around(rng: np.random.Generator, count: int, price: float) -> FloatArray:
    """Return sound candles of arbitrary doubles, (count, 4), some of one price."""
    prices = price * np.exp(rng.normal(0, 0.01, (count, 4)))
    prices[rng.random(count) < 0.2] = np.round(price, 2)
    return np.column_stack([prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, 3]])


def known_rows(rng: np.random.Generator, count: int, known: bool) -> np.ndarray:
    """Tell which rows know something: most, or none."""
    return (rng.random(count) < 0.7) & known


def market(
    timeframe: Timeframe, positions: Sequence[int], known: frozenset[str], seed: int, symbol: str = "EURUSD"
) -> MarketCandles:
    """Build a sound series that knows some details of most of its candles."""
    rng = np.random.default_rng(seed)
    times = times_of(timeframe, positions)
    count = len(times)
    price = 110.0 if symbol.endswith("JPY") else 1.1
    details = no_details(count).copy()
    quoted = known_rows(rng, count, "quotes" in known)
    bid = candles_around(rng, count, price)
    details[:, QUOTES] = np.where(quoted[:, None], np.column_stack([bid, bid + rng.choice([0.0, 0.0003])]), np.nan)
    spread = details[:, QUOTES[-1]] - details[:, QUOTES[3]]
    given_spread = np.where(known_rows(rng, count, "spread" in known), rng.exponential(1e-4, count), np.nan)
    details[:, SPREAD] = np.where(quoted, spread, given_spread)
    for name, column in (("tick", TICK), ("real", REAL)):
        amounts = np.floor(rng.exponential(100, count)) if name == "tick" else rng.exponential(1e6, count)
        details[:, column] = np.where(known_rows(rng, count, name in known), amounts, np.nan)
    return with_details(symbol, timeframe, times, candles_around(rng, count, price), details, rng.exponential(10, count))


def with_details(
    symbol: str, timeframe: Timeframe, times: TimeArray, prices: FloatArray, details: FloatArray, unstated: FloatArray
) -> MarketCandles:
    """Put a series together; its volume is the tick volume, else the real one, else the unstated one."""
    volume = np.where(np.isnan(details[:, REAL]), unstated, details[:, REAL])
    volume = np.where(np.isnan(details[:, TICK]), volume, details[:, TICK])
    candles = CandleSeries(symbol=symbol, timeframe=timeframe, open_times=times, values=np.column_stack([prices, volume]))
    return MarketCandles(candles=candles, side=PriceSide.MID, details=details)


def same(one: MarketCandles, other: MarketCandles) -> bool:
    return (
        (one.symbol, one.timeframe, one.side) == (other.symbol, other.timeframe, other.side)
        and np.array_equal(one.open_times, other.open_times)
        and np.array_equal(one.candles.values, other.candles.values)
        and np.array_equal(one.details, other.details, equal_nan=True)
    )


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@settings(max_examples=60, deadline=None)
@given(
    timeframe=st.sampled_from(timeframes()),
    positions=st.lists(st.integers(0, 80), max_size=20, unique=True).map(sorted),
    known=st.frozensets(kinds),
    symbol=st.sampled_from(["EURUSD", "USDJPY"]),
    side=st.sampled_from(PriceSide),
    seed=seeds,
)
def test_import_of_an_export_is_the_identity(
    ending: str, timeframe: Timeframe, positions: list[int], known: frozenset[str], symbol: str, side: PriceSide, seed: int
) -> None:
    data = market(timeframe, positions, known, seed, symbol)
    data = MarketCandles(candles=data.candles, side=side, details=data.details)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new" / f"{symbol}{ending}"
        export_candles(data, path)
        source = SourceFile(path=path, is_parquet=ending == ".parquet")
        result = read_candles(source, ImportOptions(symbol=symbol, timeframe=timeframe, side=side))
    assert result.refused == ()
    assert same(result.data, data)


# Putting records together


def partial(whole: MarketCandles, seed: int) -> MarketCandles:
    """Return some of the candles, with some of what is known of each."""
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero(rng.random(len(whole)) < 0.6)
    details = whole.details[kept].copy()
    details[rng.random(details.shape) < 0.4] = np.nan
    both = ~np.isnan(whole.details[kept][:, [TICK, REAL]]).any(axis=1)  # of which an unstated volume would be either
    unstated = np.where(both | (rng.random(len(kept)) < 0.5), 0.0, whole.candles.values[kept, 4])  # 0: not recorded
    prices = whole.candles.values[kept, :4]
    return with_details(whole.symbol, whole.timeframe, whole.open_times[kept], prices, details, unstated)


wholes = st.builds(
    market,
    st.just(Timeframe("1h")),
    st.lists(st.integers(0, 60), min_size=1, max_size=15, unique=True).map(sorted),
    st.frozensets(kinds),
    seeds,
)


@settings(max_examples=100, deadline=None)
@given(whole=wholes, parts=st.lists(seeds, min_size=2, max_size=4), order=st.randoms(use_true_random=False))
def test_merging_in_any_order_gives_the_same(whole: MarketCandles, parts: list[int], order: np.random.Generator) -> None:
    records = [partial(whole, seed) for seed in parts]
    shuffled = list(records)
    order.shuffle(shuffled)
    unions: list[MarketCandles] = []
    for sequence in (records, shuffled):
        union = sequence[0]
        for record in sequence[1:]:
            merged = merge(union, record)
            assert not merged.conflicting.any()
            union = merged.data
        unions.append(union)
    assert same(*unions)


@settings(max_examples=100, deadline=None)
@given(whole=wholes, seed=seeds)
def test_merging_again_adds_and_completes_nothing(whole: MarketCandles, seed: int) -> None:
    once = merge(partial(whole, seed), whole).data
    again = merge(once, whole)
    assert not (again.added | again.completed | again.conflicting).any()
    assert same(again.data, once)


@settings(max_examples=100, deadline=None)
@given(whole=wholes, one=seeds, other=seeds)
def test_details_complete_each_other(whole: MarketCandles, one: int, other: int) -> None:
    first, second = partial(whole, one), partial(whole, other)
    union = merge(first, second).data
    for record in (first, second):
        at = np.isin(union.open_times, record.open_times)
        known = ~np.isnan(record.details)
        assert np.array_equal(union.details[at][known], record.details[known])
    known_of_either = np.isin(union.open_times, first.open_times) | np.isin(union.open_times, second.open_times)
    assert known_of_either.all()


@settings(max_examples=100, deadline=None)
@given(whole=wholes, position=st.integers(0, 14), column=st.integers(0, 3))
def test_a_price_that_differs_conflicts_and_the_stored_candle_stays(whole: MarketCandles, position: int, column: int) -> None:
    at = position % len(whole)
    values = whole.candles.values.copy()
    values[at, :4] *= 1.001
    changed = with_details("EURUSD", whole.timeframe, whole.open_times, values[:, :4], whole.details, whole.candles.values[:, 4])
    assume(values[at, column] != whole.candles.values[at, column])
    merged = merge(whole, changed)
    assert np.flatnonzero(merged.conflicting).tolist() == [at]
    assert same(merged.data, whole)


@settings(max_examples=15, deadline=None)
@given(whole=wholes, one=seeds, other=seeds)
def test_the_store_follows_the_same_laws(whole: MarketCandles, one: int, other: int) -> None:
    records = [partial(whole, one), partial(whole, other), whole]
    read: list[MarketCandles] = []
    for sequence in (records, records[::-1]):
        with tempfile.TemporaryDirectory() as root:
            results = [CandleStore(root).append(record) for record in sequence]
            assert sum(result.added for result in results) == len(whole)
            assert all(result.conflicting == () for result in results)
            read.append(CandleStore(root).read_market("EURUSD", whole.timeframe))
    assert same(*read)
