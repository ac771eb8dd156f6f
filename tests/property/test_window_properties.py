"""No window looks ahead, whatever the series, its gaps and the moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fxcast.data.windows import known_at, window_at, window_ends
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

FIRST = datetime(2017, 3, 6, tzinfo=UTC)
timeframes = st.sampled_from(["1m", "5m", "15m", "1h", "4h"]).map(Timeframe)
bars_ahead = st.lists(st.integers(0, 80), min_size=1, max_size=40, unique=True).map(sorted)  # holes are gaps


def series_of(timeframe: Timeframe, bars: list[int], closes: np.ndarray) -> CandleSeries:
    return CandleSeries(
        symbol="EURUSD",
        timeframe=timeframe,
        open_times=to_datetime64(FIRST) + np.array(bars) * np.timedelta64(timeframe.minutes * 60, "s"),
        values=np.column_stack([closes, closes * 1.01, closes * 0.99, closes, np.ones(len(bars))]),
    )


def moment_of(timeframe: Timeframe, share: float) -> datetime:
    return FIRST + timedelta(seconds=share * 85 * timeframe.minutes * 60)


def closes_of(bars: list[int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1.0, 1.2, len(bars))


@given(timeframe=timeframes, bars=bars_ahead, share=st.floats(0, 1))
def test_no_window_holds_a_candle_that_closes_after_the_moment(timeframe: Timeframe, bars: list[int], share: float) -> None:
    series, moment = series_of(timeframe, bars, closes_of(bars, 1)), moment_of(timeframe, share)
    known = known_at(series, moment)
    closed = [bar for bar in bars if FIRST + (bar + 1) * timeframe.duration <= moment]
    assert len(known) == len(closed)
    assert all(FIRST + (bar + 1) * timeframe.duration <= moment for bar in bars[: len(known)])
    for size in range(1, len(closed) + 1):
        window = window_at(series, moment, bars=size)
        assert window.open_times.tolist() == series.open_times[len(closed) - size : len(closed)].tolist()


@given(timeframe=timeframes, bars=bars_ahead, share=st.floats(0, 1), cut=st.booleans(), size=st.integers(1, 5))
def test_changing_or_dropping_what_comes_later_changes_nothing(
    timeframe: Timeframe, bars: list[int], share: float, cut: bool, size: int
) -> None:
    moment = moment_of(timeframe, share)
    later = np.array([FIRST + (bar + 1) * timeframe.duration > moment for bar in bars])
    before = series_of(timeframe, bars, closes_of(bars, 1))
    if cut:
        kept = [bar for bar, is_later in zip(bars, later, strict=True) if not is_later]
        after = series_of(timeframe, kept, closes_of(bars, 1)[~later])
    else:
        after = series_of(timeframe, bars, np.where(later, closes_of(bars, 2), closes_of(bars, 1)))
    assert windows_seen(before, moment, size) == windows_seen(after, moment, size)


def windows_seen(series: CandleSeries, moment: datetime, size: int) -> list[tuple[list[datetime], list[list[float]]]]:
    seen = [known_at(series, moment)]
    try:
        seen.append(window_at(series, moment, bars=size))
    except BadCandles as error:
        assert len(seen[0]) < size, error  # noqa: PT017 (the error itself is not what is tested)
    return [(window.open_times.tolist(), window.values.tolist()) for window in seen]


@given(total=st.integers(0, 400), future_bars=st.integers(1, 64), bounds=st.tuples(st.integers(0, 400), st.integers(0, 400)))
def test_training_windows_and_their_outcomes_stay_inside_the_period(total: int, future_bars: int, bounds: tuple[int, int]) -> None:
    start, stop = sorted(min(bound, total) for bound in bounds)
    series = series_of(Timeframe("1h"), list(range(total)), np.full(total, 1.1))
    ends = set(window_ends(series, future_bars=future_bars, start=start, stop=stop).tolist())
    assert ends == {end for end in range(total) if end - CONTEXT_BARS + 1 >= start and end + future_bars < stop}
