"""Quotes become candles by their own time; each candle comes once, when no earlier quote is expected."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from fxcast.data.ticks import CandleBuilder, Fate
from fxcast.domain.candle import to_datetime
from fxcast.domain.market import DETAILS, PriceSide
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from tests.factories import NOON

MINUTE = timedelta(minutes=1)


def tick(seconds: float, bid: float, ask: float) -> Tick:
    return Tick("EURUSD", NOON + timedelta(seconds=seconds), bid, ask)


def make_builder(*ticks: Tick, timeframe: str = "1m") -> CandleBuilder:
    builder = CandleBuilder("EURUSD", Timeframe(timeframe))
    for one in ticks:
        builder.add(one)
    return builder


def test_a_candle_holds_the_middle_and_both_sides() -> None:
    builder = make_builder(tick(1, 1.0, 1.2), tick(20, 1.4, 1.5), tick(30, 0.8, 1.1), tick(59.9, 1.1, 1.3))
    closed = builder.close_before(NOON + MINUTE)
    assert closed is not None
    assert closed.side is PriceSide.MID
    assert [to_datetime(time) for time in closed.open_times] == [NOON]
    assert closed.candles.values[0].tolist() == pytest.approx([1.1, 1.45, 0.95, 1.2, 4])
    known: dict[str, float] = dict(zip(DETAILS, closed.details[0].tolist(), strict=True))
    assert [known[f"bid_{price}"] for price in ("open", "high", "low", "close")] == [1.0, 1.4, 0.8, 1.1]
    assert [known[f"ask_{price}"] for price in ("open", "high", "low", "close")] == [1.2, 1.5, 1.1, 1.3]
    assert known["spread"] == pytest.approx(0.2)
    assert known["tick_volume"] == 4
    assert np.isnan(known["real_volume"])


def test_a_candle_is_handed_out_at_its_close_and_not_again() -> None:
    builder = make_builder(tick(1, 1.0, 1.2))
    assert builder.close_before(NOON + timedelta(seconds=59)) is None
    assert builder.close_before(NOON + MINUTE) is not None
    assert builder.close_before(NOON + 5 * MINUTE) is None


def test_several_candles_may_be_open_and_a_time_without_quotes_has_none() -> None:
    builder = make_builder(tick(185, 1.3, 1.4), tick(1, 1.0, 1.2), tick(61, 1.1, 1.2))
    closed = builder.close_before(NOON + 4 * MINUTE)
    assert closed is not None
    assert [to_datetime(time) for time in closed.open_times] == [NOON, NOON + MINUTE, NOON + 3 * MINUTE]


def test_the_earliest_quote_opens_and_the_latest_closes_whatever_came_first() -> None:
    builder = make_builder(tick(30, 1.3, 1.3), tick(10, 1.1, 1.1), tick(50, 1.2, 1.2), tick(40, 1.4, 1.4))
    closed = builder.close_before(NOON + MINUTE)
    assert closed is not None
    assert closed.candles.values[0].tolist() == [1.1, 1.4, 1.1, 1.2, 4]


def test_of_quotes_of_the_same_time_the_first_that_came_is_the_earliest() -> None:
    builder = make_builder(tick(10, 1.1, 1.1), tick(10, 1.2, 1.2), tick(10, 1.3, 1.3))
    closed = builder.close_before(NOON + MINUTE)
    assert closed is not None
    assert closed.candles.values[0, [0, 3]].tolist() == [1.1, 1.3]


def test_a_quote_that_comes_twice_counts_once() -> None:
    builder = make_builder(tick(10, 1.1, 1.2), tick(20, 1.2, 1.3))
    assert builder.add(tick(10, 1.1, 1.2)) is Fate.DUPLICATE
    closed = builder.close_before(NOON + MINUTE)
    assert closed is not None
    assert closed.detail("tick_volume").tolist() == [2]
    assert builder.duplicates == 1


def test_a_quote_for_a_closed_candle_is_late_and_its_candle_disputed() -> None:
    builder = make_builder(tick(10, 1.1, 1.2))
    builder.close_before(NOON + 2 * MINUTE)
    assert builder.add(tick(11, 1.1, 1.3)) is Fate.LATE
    assert builder.add(tick(70, 1.1, 1.3)) is Fate.LATE, "closed, though it had no quotes"
    assert builder.late == 2
    assert list(builder.disputed) == [NOON, NOON + MINUTE]
    assert builder.close_before(NOON + 9 * MINUTE) is None


@pytest.mark.parametrize(
    ("bid", "ask"),
    [(1.2, 1.1), (float("nan"), 1.1), (1.1, float("nan")), (1.1, float("inf")), (0.0, 1.1), (-1.1, 1.1), (1e-9, 1.0), (1.0, 1e9)],
)
def test_a_quote_that_is_no_price_is_refused(bid: float, ask: float) -> None:
    builder = CandleBuilder("EURUSD", Timeframe("1m"))
    assert builder.add(tick(1, bid, ask)) is Fate.MALFORMED
    assert builder.malformed == 1
    assert builder.close_before(NOON + MINUTE) is None


def test_a_watermark_that_goes_back_does_nothing() -> None:
    builder = make_builder(tick(61, 1.1, 1.2))
    builder.close_before(NOON + MINUTE)
    assert builder.close_before(NOON) is None
    assert builder.add(tick(1, 1.1, 1.2)) is Fate.LATE


@pytest.mark.parametrize(
    ("timeframe", "opens"),
    [("5m", "2017-03-07T12:00"), ("1h", "2017-03-07T12:00"), ("4h", "2017-03-07T10:00"), ("1d", "2017-03-06T22:00")],
)
def test_long_candles_open_as_the_trading_day_does(timeframe: str, opens: str) -> None:
    builder = make_builder(tick(1, 1.1, 1.2), timeframe=timeframe)
    closed = builder.close_before(NOON + timedelta(days=1))
    assert closed is not None
    assert to_datetime(closed.open_times[0]) == datetime.fromisoformat(f"{opens}+00:00")
