"""A replay hands past candles out as if they closed now."""

from __future__ import annotations

from fxcast.adapters.clock import ReplayClock, SystemClock
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.domain.candle import to_datetime
from tests.factories import HOUR, make_series

SERIES = make_series(bars=130)
CLOSES = [to_datetime(moment) for moment in SERIES.close_times]


def test_candles_of_the_period_come_once_and_move_the_clock() -> None:
    clock = ReplayClock(CLOSES[0])
    feed = ReplayFeed(SERIES, start=CLOSES[110], stop=CLOSES[115], clock=clock)
    seen = list[tuple[object, object]]()
    for closed in feed.closed_candles(after=None):
        seen.append((closed.closed_at, clock.now()))
        assert len(closed.window) == 100
    assert seen == [(moment, moment) for moment in CLOSES[110:115]]


def test_candles_after_a_moment_are_strictly_after_it() -> None:
    feed = ReplayFeed(SERIES, start=CLOSES[110], stop=CLOSES[115], clock=ReplayClock(CLOSES[0]))
    assert [closed.closed_at for closed in feed.closed_candles(after=CLOSES[112])] == CLOSES[113:115]
    assert list(feed.closed_candles(after=CLOSES[114])) == []


def test_first_candle_is_the_first_with_a_full_window() -> None:
    feed = ReplayFeed(SERIES, start=CLOSES[0], stop=CLOSES[-1] + HOUR, clock=ReplayClock(CLOSES[0]))
    assert [closed.closed_at for closed in feed.closed_candles(after=None)] == CLOSES[99:]


def test_replay_clock_never_goes_back() -> None:
    clock = ReplayClock(CLOSES[5])
    clock.advance_to(CLOSES[3])
    assert clock.now() == CLOSES[5]


def test_system_clock_is_in_utc() -> None:
    offset = SystemClock().now().utcoffset()
    assert offset is not None
    assert not offset
