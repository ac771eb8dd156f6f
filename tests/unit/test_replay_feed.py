"""A replay hands past candles out as if they closed now."""

from __future__ import annotations

import pytest

from fxcast.adapters.clock import ReplayClock, SystemClock
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.data.resample import resample
from fxcast.data.windows import known_at
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.market import without_details
from fxcast.domain.timeframe import Timeframe
from tests.factories import HOUR, make_series

SERIES = make_series(bars=130)
CLOSES = [to_datetime(moment) for moment in SERIES.close_times]


def make_feed(*series: CandleSeries, first: int, last: int, clock: ReplayClock | None = None) -> ReplayFeed:
    clock = ReplayClock(CLOSES[0]) if clock is None else clock
    return ReplayFeed(series or (SERIES,), start=CLOSES[first], stop=CLOSES[last], clock=clock)


def test_candles_of_the_period_come_once_and_move_the_clock() -> None:
    clock = ReplayClock(CLOSES[0])
    seen = list[tuple[object, object]]()
    for closed in make_feed(first=110, last=115, clock=clock).closed_candles(after={}):
        assert len(closed) == 1
        seen.append((closed[0].closed_at, clock.now()))
        assert len(closed[0].window) == 100
    assert seen == [(moment, moment) for moment in CLOSES[110:115]]


def test_candles_after_a_moment_are_strictly_after_it() -> None:
    feed = make_feed(first=110, last=115)
    assert [closed[0].closed_at for closed in feed.closed_candles(after={"EURUSD": CLOSES[112]})] == CLOSES[113:115]
    assert list(feed.closed_candles(after={"EURUSD": CLOSES[114]})) == []


def test_first_candle_is_the_first_with_a_full_window() -> None:
    feed = ReplayFeed((SERIES,), start=CLOSES[0], stop=CLOSES[-1] + HOUR, clock=ReplayClock(CLOSES[0]))
    assert [closed[0].closed_at for closed in feed.closed_candles(after={})] == CLOSES[99:]


def test_candles_of_several_symbols_that_close_together_come_together() -> None:
    other = make_series(bars=112, symbol="GBPUSD", seed=2)  # its last candles are missing
    feed = make_feed(other, SERIES, first=110, last=114)
    symbols = [tuple(each.window.symbol for each in closed) for closed in feed.closed_candles(after={})]
    assert symbols == [("EURUSD", "GBPUSD"), ("EURUSD", "GBPUSD"), ("EURUSD",), ("EURUSD",)]


def test_each_symbol_goes_on_after_its_own_last_candle() -> None:
    other = make_series(bars=130, symbol="GBPUSD", seed=2)
    feed = make_feed(other, SERIES, first=110, last=114)
    after = {"EURUSD": CLOSES[111], "GBPUSD": CLOSES[112]}
    symbols = [tuple(each.window.symbol for each in closed) for closed in feed.closed_candles(after=after)]
    assert symbols == [("EURUSD",), ("EURUSD", "GBPUSD")]


def test_window_of_a_handled_candle_is_the_one_it_came_with() -> None:
    feed = make_feed(first=110, last=112)
    for closed in feed.closed_candles(after={}):
        window = feed.window("EURUSD", closed[0].closed_at)
        assert window is not None
        assert (window.values == closed[0].window.values).all()
    assert feed.window("EURUSD", CLOSES[98]) is None


@pytest.mark.parametrize("resumed", [False, True], ids=["from the start", "after a restart"])
def test_longer_candles_beside_a_window_are_those_that_resampling_calls_complete(resumed: bool) -> None:
    feed = ReplayFeed((SERIES,), start=CLOSES[104], stop=CLOSES[125], clock=ReplayClock(CLOSES[0]), timeframes=("4h",))
    for closed in feed.closed_candles(after={"EURUSD": CLOSES[115]} if resumed else {}):
        known = known_at(SERIES, closed[0].closed_at)
        expected = resample(without_details(known), Timeframe("4h")).complete.candles
        assert (closed[0].higher["4h"].open_times == expected.open_times).all()
        assert (closed[0].higher["4h"].values == expected.values).all()


def test_replay_clock_never_goes_back() -> None:
    clock = ReplayClock(CLOSES[5])
    clock.advance_to(CLOSES[3])
    assert clock.now() == CLOSES[5]


def test_system_clock_is_in_utc() -> None:
    offset = SystemClock().now().utcoffset()
    assert offset is not None
    assert not offset
