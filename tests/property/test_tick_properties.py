"""Candles do not depend on the order in which quotes arrive, nor on how often, within the allowance; and no quote is lost."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fxcast.data.ticks import CandleBuilder
from fxcast.domain.market import MarketCandles, concatenate
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from tests.factories import NOON

LATENESS = timedelta(seconds=2)
END = NOON + timedelta(hours=1)
MILLISECONDS = st.lists(st.integers(0, 300_000), min_size=1, max_size=60, unique=True)


def candles_of(arrivals: list[Tick]) -> tuple[MarketCandles | None, CandleBuilder]:
    """Build candles as a feed does: after each quote, close what ends before its time less the allowance."""
    builder = CandleBuilder("EURUSD", Timeframe("1m"))
    watermark = NOON - LATENESS
    parts: list[MarketCandles | None] = []
    for tick in arrivals:
        builder.add(tick)
        watermark = max(watermark, tick.time - LATENESS)
        parts.append(builder.close_before(watermark))
    parts.append(builder.close_before(END))
    closed = [part for part in parts if part is not None]
    return (concatenate(closed) if closed else None), builder


def make_ticks(milliseconds: list[int], seed: int) -> list[Tick]:
    rng = np.random.default_rng(seed)
    bids = np.round(1.1 + rng.normal(0, 1e-3, len(milliseconds)), 5)
    asks = np.round(bids + rng.uniform(0, 3e-4, len(milliseconds)), 5)
    return [
        Tick("EURUSD", NOON + timedelta(milliseconds=time), float(bid), float(ask))
        for time, bid, ask in zip(sorted(milliseconds), bids, asks, strict=True)
    ]


@given(milliseconds=MILLISECONDS, seed=st.integers(0, 2**32 - 1))
def test_any_order_and_any_repetition_within_the_allowance_give_the_same_candles(milliseconds: list[int], seed: int) -> None:
    ticks = make_ticks(milliseconds, seed)
    rng = np.random.default_rng(seed)
    repeated = ticks + [tick for tick in ticks if rng.random() < 0.5]
    # Arriving late by less than the allowance, quotes overtake each other by no more than it.
    delays = rng.uniform(0, LATENESS.total_seconds() * 0.999, len(repeated))
    order = sorted(range(len(repeated)), key=lambda place: repeated[place].time + timedelta(seconds=float(delays[place])))
    expected, _ = candles_of(ticks)
    found, builder = candles_of([repeated[place] for place in order])
    assert expected is not None
    assert found is not None
    assert np.array_equal(found.open_times, expected.open_times)
    assert np.array_equal(found.candles.values, expected.candles.values)
    assert np.array_equal(found.details, expected.details, equal_nan=True)
    assert (builder.duplicates, builder.late) == (len(repeated) - len(ticks), 0)


@given(milliseconds=MILLISECONDS, seed=st.integers(0, 2**32 - 1))
def test_every_quote_is_in_exactly_one_candle_or_counted(milliseconds: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ticks = [
        tick._replace(bid=tick.ask, ask=tick.bid) if rng.random() < 0.1 else tick
        for tick in make_ticks(milliseconds, seed)
        for _ in range(int(rng.integers(1, 3)))
    ]
    rng.shuffle(order := list(range(len(ticks))))
    found, builder = candles_of([ticks[place] for place in order])
    used = 0 if found is None else int(found.detail("tick_volume").sum())
    assert used + builder.duplicates + builder.late + builder.malformed == len(ticks)
