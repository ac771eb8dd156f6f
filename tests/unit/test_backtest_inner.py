"""Shorter candles inside the traded ones; ask candles, a spread of 0.00010 and a slippage of 0.00002, as in tests/paper_market.py.

The position is long from 1.10000, its stop 1.09500, its target 1.10500, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxcast.backtest.inner import InnerCandles, inner_series, observe_inside
from fxcast.data.resample import resample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import Candle, CandleSeries, to_datetime, to_datetime64
from fxcast.domain.market import MarketCandles, PriceSide, without_details
from fxcast.domain.order import Fill, FillReason, Side
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from fxcast.trading.fill_simulation import Book, observe
from tests.factories import HOUR, NOON, make_candle, make_intent, make_series
from tests.paper_market import CONFIG, configured, d, quoted, taken

QUARTER = timedelta(minutes=15)
ENTRY = make_intent(stop="1.09500", target="1.10500")
HOURLY = Timeframe("1h")

Prices = tuple[float, float, float, float]

UP_THEN_DOWN: Sequence[Prices] = (
    (1.1000, 1.1010, 1.0990, 1.1010),
    (1.1010, 1.1060, 1.1010, 1.1040),  # the target
    (1.1040, 1.1040, 1.0940, 1.0950),  # the stop
    (1.0950, 1.0990, 1.0950, 1.0980),
)
DOWN_THEN_UP: Sequence[Prices] = (
    (1.1000, 1.1010, 1.0990, 1.0990),
    (1.0990, 1.0990, 1.0940, 1.0960),  # the stop
    (1.0960, 1.1060, 1.0960, 1.1050),  # the target
    (1.1050, 1.1050, 1.0980, 1.0980),
)


def quarters(rows: Sequence[Prices], *, start: datetime = NOON, skip: Sequence[int] = ()) -> CandleSeries:
    """Candles of 15 minutes, without those at some positions."""
    kept = [place for place in range(len(rows)) if place not in skip]
    return CandleSeries(
        symbol="EURUSD",
        timeframe=Timeframe("15m"),
        open_times=np.array([to_datetime64(start + place * QUARTER) for place in kept], dtype="datetime64[s]"),
        values=np.array([(*rows[place], 1.0) for place in kept]).reshape(-1, 5),
    )


def hour_of(rows: Sequence[Prices], *, start: datetime = NOON) -> Candle:
    """The hour that they make up."""
    highs, lows = [row[1] for row in rows], [row[2] for row in rows]
    return make_candle(rows[0][0], max(highs), min(lows), rows[-1][3], open_time=start)


def fills(book: Book, candle: Candle, inner: InnerCandles | None, *, closed_at: datetime = NOON + HOUR) -> tuple[Fill, ...]:
    steps = observe_inside(book, "EURUSD", candle, closed_at, inner)
    return tuple(each for _, _, happened in steps for each in happened if isinstance(each, Fill))


# What it does to a trade


@pytest.mark.parametrize("rows", [UP_THEN_DOWN, DOWN_THEN_UP])
def test_hour_that_touches_stop_and_target_is_a_loss_where_nothing_shorter_is_there(rows: Sequence[Prices]) -> None:
    entry, exit_ = fills(taken(quoted(), ENTRY), hour_of(rows), None)
    assert (entry.reason, exit_.reason, exit_.price) == (FillReason.MARKET, FillReason.STOP, d("1.09498"))


def test_hour_is_a_win_where_the_minutes_show_that_the_target_came_first() -> None:
    inner = InnerCandles(quarters(UP_THEN_DOWN))
    entry, exit_ = fills(taken(quoted(), ENTRY), hour_of(UP_THEN_DOWN), inner)
    assert (exit_.reason, exit_.price, exit_.filled_at) == (FillReason.TARGET, d("1.10500"), NOON + 2 * QUARTER)
    assert exit_.profit == d("49.8")  # 10,000 × (1.10500 − 1.10002)
    assert (inner.resolved, inner.missing, inner.inconsistent) == (1, 0, 0)
    # The entry is the same as without: the hour's open is the first quarter's.
    assert entry == fills(taken(quoted(), ENTRY), hour_of(UP_THEN_DOWN), None)[0]


def test_hour_is_a_loss_where_the_minutes_show_that_the_stop_came_first() -> None:
    _, exit_ = fills(taken(quoted(), ENTRY), hour_of(DOWN_THEN_UP), InnerCandles(quarters(DOWN_THEN_UP)))
    assert (exit_.reason, exit_.price, exit_.filled_at) == (FillReason.STOP, d("1.09498"), NOON + 2 * QUARTER)


def test_short_position_wins_where_the_fall_came_first() -> None:
    short = make_intent(side=Side.SELL, stop="1.10500", target="1.09500")
    _, won = fills(taken(quoted(), short), hour_of(DOWN_THEN_UP), InnerCandles(quarters(DOWN_THEN_UP)))
    _, lost = fills(taken(quoted(), short), hour_of(UP_THEN_DOWN), InnerCandles(quarters(UP_THEN_DOWN)))
    assert (won.reason, lost.reason) == (FillReason.TARGET, FillReason.STOP)


def test_quarter_that_touches_both_is_a_loss_all_the_same() -> None:
    rows = ((1.1000, 1.1010, 1.0990, 1.1010), (1.1010, 1.1060, 1.0940, 1.1000), *[(1.1000, 1.1010, 1.0990, 1.1000)] * 2)
    _, exit_ = fills(taken(quoted(), ENTRY), hour_of(rows), InnerCandles(quarters(rows)))
    assert exit_.reason is FillReason.STOP


def test_gap_inside_the_hour_fills_the_stop_at_the_open_beyond_it() -> None:
    flat, fallen = (1.1000, 1.1010, 1.0990, 1.1000), (1.0930, 1.0940, 1.0920, 1.0930)
    rows = (flat, flat, fallen, fallen)
    _, alone = fills(taken(quoted(), ENTRY), hour_of(rows), None)
    _, inside = fills(taken(quoted(), ENTRY), hour_of(rows), InnerCandles(quarters(rows)))
    assert (alone.price, alone.filled_at) == (d("1.09498"), NOON + HOUR)  # the hour does not show the gap
    assert (inside.price, inside.filled_at) == (d("1.09288"), NOON + 2 * QUARTER)  # the open's bid 1.09290 − 0.00002


def test_late_order_meets_the_quarter_that_it_comes_in() -> None:
    book = taken(quoted(configured(latency_s=20 * 60)), ENTRY)
    rows = ((1.1000, 1.1000, 1.1000, 1.1000), (1.1000, 1.1003, 1.1000, 1.1003), *[(1.1003, 1.1040, 1.1003, 1.1040)] * 2)
    (alone,) = fills(book, hour_of(rows), None)
    (inside,) = fills(book, hour_of(rows), InnerCandles(quarters(rows)))
    assert (alone.price, inside.price) == (d("1.10136"), d("1.10012"))  # a third of the way to the high, and 0.00002
    assert alone.filled_at == inside.filled_at == NOON + timedelta(minutes=20)


def test_entry_that_the_hour_alone_would_cancel_is_filled_where_its_quarter_shows_a_good_price() -> None:
    intent = make_intent(stop="1.09500", target="1.10100")
    book = taken(quoted(configured(latency_s=20 * 60)), intent)
    rows = (*[(1.1000, 1.1000, 1.1000, 1.1000)] * 3, (1.1000, 1.1060, 1.1000, 1.1060))
    assert fills(book, hour_of(rows), None) == ()  # the open, moved by a third toward the high, has passed the target
    entry, exit_ = fills(book, hour_of(rows), InnerCandles(quarters(rows)))
    assert (entry.price, exit_.reason) == (d("1.10002"), FillReason.TARGET)


def test_hour_that_is_decided_at_its_open_is_not_looked_into() -> None:
    flat, fallen = (1.1000, 1.1010, 1.0990, 1.1000), (1.0900, 1.0910, 1.0890, 1.0900)
    book = taken(quoted(), ENTRY)
    inner = InnerCandles(quarters([flat] * 8 + [fallen] * 4))
    # An entry; then nothing; then a stop that the open has passed.
    for hour, (row, happens) in enumerate(((flat, 1), (flat, 0), (fallen, 1))):
        candle, closed_at = hour_of([row] * 4, start=NOON + hour * HOUR), NOON + (hour + 1) * HOUR
        (step,) = observe_inside(book, "EURUSD", candle, closed_at, inner)
        assert step == (candle, *observe(book, "EURUSD", candle, closed_at))
        assert len(step[2]) == happens
        book = step[1]
    assert (inner.resolved, inner.missing, inner.inconsistent) == (0, 0, 0)


def test_quarters_after_the_end_are_passed_over_but_for_the_last() -> None:
    steps = observe_inside(
        taken(quoted(), ENTRY), "EURUSD", hour_of(UP_THEN_DOWN), NOON + HOUR, InnerCandles(quarters(UP_THEN_DOWN))
    )
    assert [candle.open_time for candle, _, _ in steps] == [NOON, NOON + QUARTER, NOON + 3 * QUARTER]
    alone, _ = observe(taken(quoted(), ENTRY), "EURUSD", hour_of(UP_THEN_DOWN), NOON + HOUR)
    assert steps[-1][1].marks == alone.marks


# Which hours can be looked into


def test_missing_minutes_leave_the_hour_as_it_is() -> None:
    for place in range(4):
        inner = InnerCandles(quarters(UP_THEN_DOWN, skip=[place]))
        _, exit_ = fills(taken(quoted(), ENTRY), hour_of(UP_THEN_DOWN), inner)
        assert exit_.reason is FillReason.STOP
        assert (inner.resolved, inner.missing, inner.inconsistent) == (0, 1, 0)


def test_hour_before_between_or_after_the_shorter_candles_has_none() -> None:
    inner = InnerCandles(quarters(UP_THEN_DOWN))
    for start in (NOON - HOUR, NOON + HOUR, NOON - 2 * QUARTER, NOON + QUARTER):
        assert inner.of(hour_of(UP_THEN_DOWN, start=start), start + HOUR) == ()
    assert inner.missing == 4
    assert InnerCandles(quarters(())).of(hour_of(UP_THEN_DOWN), NOON + HOUR) == ()


@pytest.mark.parametrize("field", ["open", "high", "low", "close"])
def test_hour_with_other_prices_than_its_minutes_is_left_as_it_is(field: str) -> None:
    rows = [(1.1000, 1.1010, 1.0990, 1.1000)] * 4
    inner = InnerCandles(quarters(rows))
    whole = {"open": 1.1000, "high": 1.1010, "low": 1.0990, "close": 1.1000}
    for ticks, agrees in ((1, True), (-1, True), (2, False), (-2, False)):
        prices = {**whole, field: whole[field] + ticks * 0.00001}
        candle = Candle(open_time=NOON, volume=1.0, **prices)
        assert (len(inner.of(candle, NOON + HOUR)) == 4) is agrees
    assert (inner.resolved, inner.missing, inner.inconsistent) == (2, 0, 2)


def test_candle_that_is_not_longer_is_refused() -> None:
    inner = InnerCandles(quarters(UP_THEN_DOWN))
    with pytest.raises(BadCandles, match="one that is longer than 15m"):
        inner.of(make_candle(*UP_THEN_DOWN[0]), NOON + QUARTER)


@given(seed=st.integers(0, 1000), skipped=st.sets(st.integers(0, 95), max_size=20))
def test_looked_into_are_exactly_the_hours_that_are_whole_and_their_candles_come_back_once(seed: int, skipped: set[int]) -> None:
    whole = make_series(bars=96, timeframe="15m", start=NOON, seed=seed, range_width=0.0002)
    kept = [place for place in range(96) if place not in skipped]
    inner = InnerCandles(
        CandleSeries(symbol="EURUSD", timeframe=whole.timeframe, open_times=whole.open_times[kept], values=whole.values[kept])
    )
    hours = resample(without_details(whole), HOURLY).data.candles
    for hour in range(24):
        found = inner.of(hours.candle(hour), to_datetime(hours.close_times[hour]))
        expected = range(4 * hour, 4 * hour + 4)
        if skipped.intersection(expected):
            assert found == ()
        else:
            assert found == tuple((whole.candle(place), to_datetime(whole.close_times[place])) for place in expected)
    assert inner.resolved + inner.missing == 24


@given(seed=st.integers(0, 1000), stop_pips=st.integers(5, 60), target_pips=st.integers(5, 60), side=st.sampled_from(Side))
def test_trade_seen_from_inside_ends_no_later_and_no_worse(seed: int, stop_pips: int, target_pips: int, side: Side) -> None:
    whole = make_series(bars=96, timeframe="15m", start=NOON, seed=seed, range_width=0.0002)
    hours = resample(without_details(whole), HOURLY).data.candles
    pip = Decimal("0.0001") * side.sign
    intent = make_intent(side=side, stop=str(d("1.1") - stop_pips * pip), target=str(d("1.1") + target_pips * pip))
    ended: list[Fill | None] = []
    for inner in (None, InnerCandles(whole)):
        book = taken(quoted(CONFIG), intent)
        exits: list[Fill] = []
        for hour in range(24):
            steps = observe_inside(book, "EURUSD", hours.candle(hour), to_datetime(hours.close_times[hour]), inner)
            book = steps[-1][1]
            happened = [each for _, _, transactions in steps for each in transactions if isinstance(each, Fill)]
            exits += [each for each in happened if each.reason is not FillReason.MARKET]
        ended.append(exits[0] if exits else None)
    alone, inside = ended
    assert (alone is None) is (inside is None)
    if alone is not None and inside is not None:
        assert inside.filled_at <= alone.filled_at
        assert inside.profit >= alone.profit  # the walk has no gaps: each candle opens where the last one closed


# Which shorter candles the store has


def stored(root: Path, *series: MarketCandles) -> CandleStore:
    store = CandleStore(root)
    for each in series:
        store.append(each)
    return store


def lasting(timeframe: str, *, hours: int = 48, start: datetime = NOON, side: PriceSide = PriceSide.MID) -> MarketCandles:
    bars = hours * 60 // Timeframe(timeframe).minutes
    return without_details(make_series([1.1] * bars, timeframe=timeframe, start=start), side)


def test_longest_shorter_candles_are_taken(tmp_path: Path) -> None:
    store = stored(tmp_path, lasting("1h"), lasting("1m", hours=24), lasting("5m", hours=24), lasting("4h"))
    series = inner_series(store, "EURUSD", HOURLY, NOON + HOUR, NOON + 48 * HOUR)
    assert series is not None
    assert (series.timeframe, len(series)) == (Timeframe("5m"), 24 * 12)


def test_shorter_candles_reach_back_to_the_open_of_the_first_candle_that_closes_in_the_period(tmp_path: Path) -> None:
    series = inner_series(stored(tmp_path, lasting("1h"), lasting("5m")), "EURUSD", HOURLY, NOON + 5 * HOUR, NOON + 7 * HOUR)
    assert series is not None
    assert to_datetime(series.open_times[0]) == NOON + 4 * HOUR
    assert to_datetime(series.close_times[-1]) == NOON + 7 * HOUR


def test_shorter_candles_of_another_time_or_another_price_are_none(tmp_path: Path) -> None:
    store = stored(
        tmp_path,
        lasting("1h"),
        lasting("15m", start=NOON + 30 * 24 * HOUR),
        lasting("5m", side=PriceSide.ASK),
        lasting("1m", side=PriceSide.UNSTATED),
    )
    series = inner_series(store, "EURUSD", HOURLY, NOON, NOON + 48 * HOUR)
    assert series is not None
    assert series.timeframe == Timeframe("1m")
    assert inner_series(store, "EURUSD", Timeframe("1m"), NOON, NOON + 48 * HOUR) is None


def test_series_that_the_store_does_not_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCandles, match="EURUSD 4h"):
        inner_series(stored(tmp_path, lasting("1h")), "EURUSD", Timeframe("4h"), NOON, NOON + HOUR)
