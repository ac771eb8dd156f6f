"""Longer candles of shorter ones: whatever the series, its gaps, the weekend, and New York's clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.data.resample import resample
from fxcast.domain.calendar import NEW_YORK, is_open, open_mask
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.market import ASK, BID, DETAILS, MarketCandles, PriceSide
from fxcast.domain.timeframe import Timeframe, timeframes

# Mondays to Sundays around the changes of the American and the European clocks, Christmas, and a leap day.
STARTS = tuple(
    datetime(*day, tzinfo=UTC)
    for day in ((2024, 3, 4), (2024, 3, 25), (2024, 10, 28), (2024, 2, 26), (2023, 12, 18), (2025, 3, 3), (2026, 10, 26))
)
PAIRS = list(combinations(timeframes(), 2))
TRIPLES = list(combinations(timeframes(), 3))
pairs = st.sampled_from(PAIRS)
starts = st.sampled_from(STARTS)
seeds = st.integers(0, 2**32 - 1)
_TICKS_OF_PRICE = 1 << 14  # prices and volumes are exact in binary, so that sums are too


def market_of(timeframe: Timeframe, start: datetime, seed: int, *, days: int = 9) -> MarketCandles:
    """Candles on the grid at any time of the week, closed market included, with holes, and details known here and there."""
    rng = np.random.default_rng(seed)
    all_moments = to_datetime64(start) + np.arange(0, days * 1440) * np.timedelta64(60, "s")
    grid = np.unique(timeframe.opening(all_moments))
    kept = grid[rng.random(len(grid)) < rng.choice([0.02, 0.3, 1.0])]
    kept = kept if len(kept) else grid[:1]
    low, high = np.sort(rng.integers(_TICKS_OF_PRICE, 2 * _TICKS_OF_PRICE, (2, len(kept))), axis=0) / _TICKS_OF_PRICE
    inside = low + (high - low) * rng.integers(0, 5, (2, len(kept))) / 4
    values = np.column_stack([inside[0], high, low, inside[1], rng.integers(0, 1000, len(kept))]).astype(np.float64)
    details = rng.integers(1, 1000, (len(kept), len(DETAILS))).astype(np.float64)
    details[rng.random(details.shape) < rng.choice([0.0, 0.4, 0.95])] = np.nan
    details[:, rng.random(len(DETAILS)) < 0.2] = np.nan
    candles = CandleSeries(symbol="EURUSD", timeframe=timeframe, open_times=kept, values=values)
    return MarketCandles(candles=candles, side=PriceSide.MID, details=details)


def assert_same(one: MarketCandles, other: MarketCandles) -> None:
    assert (one.symbol, one.timeframe, one.side) == (other.symbol, other.timeframe, other.side)
    np.testing.assert_array_equal(one.open_times, other.open_times)
    np.testing.assert_array_equal(one.candles.values, other.candles.values)
    np.testing.assert_array_equal(one.details, other.details)


def known(column: Sequence[float]) -> list[float]:
    return [value for value in column if not np.isnan(value)]


def first(column: Sequence[float]) -> float:
    return (known(column) or [np.nan])[0]


def last(column: Sequence[float]) -> float:
    return (known(column) or [np.nan])[-1]


def highest(column: Sequence[float]) -> float:
    return max(known(column), default=np.nan)


def lowest(column: Sequence[float]) -> float:
    return min(known(column), default=np.nan)


def total(column: Sequence[float]) -> float:
    return sum(known(column)) if known(column) else np.nan


_RULES = dict(zip((*BID, *ASK, "spread", "tick_volume", "real_volume"), (first, highest, lowest, last) * 2 + (last, total, total)))  # noqa: B905 (eleven each)


def opening_by_the_wall_clock(moment: datetime, timeframe: Timeframe) -> datetime:
    """Where the grid has a candle open that holds a moment, by the clock on New York's wall; open market only."""
    if timeframe.minutes <= 60:
        return moment - timedelta(minutes=(moment.hour * 60 + moment.minute) % timeframe.minutes)
    local = moment.astimezone(NEW_YORK).replace(tzinfo=None)
    minutes = (local - local.replace(hour=17, minute=0)) // timedelta(minutes=1) % 1440
    opened = local - timedelta(minutes=minutes % timeframe.minutes)
    return opened.replace(tzinfo=NEW_YORK).astimezone(UTC)


@pytest.mark.parametrize(("source", "middle", "target"), TRIPLES, ids=str)
@settings(max_examples=12)
@given(start=starts, seed=seeds)
def test_two_steps_give_the_same_candles_as_one(
    source: Timeframe, middle: Timeframe, target: Timeframe, start: datetime, seed: int
) -> None:
    data = market_of(source, start, seed)
    stepwise = resample(resample(data, middle).data, target)
    assert_same(stepwise.data, resample(data, target).data)


@given(pair=pairs, start=starts, seed=seeds)
def test_every_candle_is_what_its_members_say(pair: tuple[Timeframe, Timeframe], start: datetime, seed: int) -> None:
    source, target = pair
    data = market_of(source, start, seed, days=6)
    members: dict[datetime, list[int]] = {}
    for position, moment in enumerate(data.open_times):
        opened = to_datetime(moment)
        if is_open(opened):
            members.setdefault(opening_by_the_wall_clock(opened, target), []).append(position)
    made = resample(data, target).data
    found = {to_datetime(moment): position for position, moment in enumerate(made.open_times)}
    for opened, positions in members.items():
        rows, details = data.candles.values[positions], data.details[positions]
        at = found[opened]
        assert made.candles.values[at].tolist() == [
            rows[0, 0], max(rows[:, 1]), min(rows[:, 2]), rows[-1, 3], sum(rows[:, 4])
        ]  # fmt: skip
        expected = [_RULES[name](details[:, column].tolist()) for column, name in enumerate(DETAILS)]
        np.testing.assert_array_equal(made.details[at], expected)
    open_now = [opened for opened in found if is_open(opened)]
    assert set(open_now) == set(members), "no candle is invented, none is lost"


@given(pair=pairs, start=starts, seed=seeds)
def test_no_volume_is_lost(pair: tuple[Timeframe, Timeframe], start: datetime, seed: int) -> None:
    source, target = pair
    data = market_of(source, start, seed)
    made = resample(data, target).data
    assert made.candles.values[:, 4].sum() == data.candles.values[:, 4].sum()
    for name in ("tick_volume", "real_volume"):
        assert np.nansum(made.detail(name)) == np.nansum(data.detail(name))


@given(target=st.sampled_from(timeframes()), start=starts, seed=seeds)
def test_no_candle_reaches_across_the_weekend(target: Timeframe, start: datetime, seed: int) -> None:
    data = market_of(Timeframe("1m"), start, seed)
    opens = target.opening(data.open_times)
    trading = open_mask(data.open_times).tolist()
    for opened, was_open in {(to_datetime(at), open_now) for at, open_now in zip(opens, trading, strict=True)}:
        assert is_open(opened) == was_open, "one with trading holds none of the closed market, and the other way round"
        if was_open:
            assert is_open(opened + target.duration - timedelta(minutes=1)), "and it closes before or as the market does"
    assert (np.diff(opens) >= np.timedelta64(0, "s")).all()
    assert (data.candles.close_times <= opens + target.step).all(), "what it holds is known at its close"


@given(pair=pairs, start=starts, seed=seeds, minutes=st.integers(-60, 10 * 1440))
def test_looked_at_earlier_nothing_later_is_seen(
    pair: tuple[Timeframe, Timeframe], start: datetime, seed: int, minutes: int
) -> None:
    source, target = pair
    data, moment = market_of(source, start, seed), start + timedelta(minutes=minutes)
    closed = data.slice(0, int((data.candles.close_times <= to_datetime64(moment)).sum()))
    then = resample(data, target, as_of=moment)
    assert_same(then.data, resample(closed, target).data)
    complete = then.complete
    reached = then.data.candles.close_times <= to_datetime64(moment)
    assert_same(complete, then.data.slice(0, int(reached.sum())))
    assert then.last_is_partial == (not reached.all())
