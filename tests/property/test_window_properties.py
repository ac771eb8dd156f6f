"""No window looks ahead, whatever the series, its gaps and the moment."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fxcast.data.resample import resample
from fxcast.data.store import CandleStore
from fxcast.data.windows import known_at, last_close, stored_window, window_at, window_ends
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.market import without_details
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


# Around the turn of a month, in the week of the American clock's change, and over two months with a hole of one between them.
TURNS = (datetime(2024, 2, 29, 12, tzinfo=UTC), datetime(2024, 3, 8, 12, tzinfo=UTC), datetime(2024, 10, 31, 22, tzinfo=UTC))
stored_pairs = st.sampled_from([("1m", "1m"), ("1m", "5m"), ("5m", "1h"), ("15m", "4h"), ("1h", "4h"), ("1h", "1d"), ("4h", "1d")])


def stored_series(timeframe: Timeframe, start: datetime, seed: int, *, hole: bool) -> CandleSeries:
    """Ten days and at most 900 candles on the grid, with gaps; half of them two months earlier if there is to be a hole."""
    rng = np.random.default_rng(seed)
    bars = min(900, 10 * 1440 // timeframe.minutes)
    moments = to_datetime64(start) + (np.arange(bars) - bars // 2) * timeframe.step
    if hole:
        moments = np.concatenate([moments[: bars // 2] - np.timedelta64(60 * 86_400, "s"), moments[bars // 2 :]])
    opens = np.unique(timeframe.opening(moments))
    opens = opens[rng.random(len(opens)) < 0.9]
    closes = rng.uniform(1.0, 1.2, len(opens))
    values = np.column_stack([closes, closes * 1.01, closes * 0.99, closes, np.ones(len(opens))])
    return CandleSeries(symbol="EURUSD", timeframe=timeframe, open_times=opens, values=values)


def window_or_none(store: CandleStore, timeframe: Timeframe, moment: datetime, bars: int) -> list[object] | None:
    try:
        window = stored_window(store, "EURUSD", timeframe, moment, bars)
    except BadCandles:
        return None
    assert len(window) == bars
    return [window.open_times.tolist(), window.values.tolist()]


@settings(max_examples=60)
@given(
    pair=stored_pairs,
    start=st.sampled_from(TURNS),
    seed=st.integers(0, 2**32 - 1),
    hole=st.booleans(),
    bars=st.integers(1, 60),
    shares=st.lists(st.floats(0.2, 1.05), min_size=2, max_size=4),
)
@example(pair=("15m", "4h"), start=TURNS[2], seed=0, hole=False, bars=1, shares=[1.0, 0.75])  # the Sunday of the clock's way back
def test_window_of_the_store_is_what_closed_and_a_later_candle_changes_nothing(
    pair: tuple[str, str], start: datetime, seed: int, hole: bool, bars: int, shares: list[float]
) -> None:
    source, target = Timeframe(pair[0]), Timeframe(pair[1])
    series = stored_series(source, start, seed, hole=hole)
    first, last = to_datetime(series.open_times[0]), to_datetime(series.close_times[-1])
    with tempfile.TemporaryDirectory() as whole_folder, tempfile.TemporaryDirectory() as past_folder:
        whole, past = CandleStore(whole_folder), CandleStore(past_folder)
        whole.append(series)
        written = 0
        for moment in sorted(first + share * (last - first) for share in shares):  # mostly inside candles of both lengths
            closed = int((series.close_times <= to_datetime64(moment)).sum())
            if closed == 0:
                continue
            if closed > written:
                past.append(series.slice(written, closed))
                written = closed
            found = window_or_none(whole, target, moment, bars)
            assert found == window_or_none(past, target, moment, bars), "what comes later changes nothing"
            complete = resample(without_details(series.slice(0, closed)), target).complete.candles
            if len(complete) < bars:
                assert found is None
                continue
            assert found == [complete.open_times[-bars:].tolist(), complete.values[-bars:].tolist()]
            assert complete.close_times[-1] <= to_datetime64(moment)


def test_window_reads_no_month_that_it_does_not_need(tmp_path: Path) -> None:
    hour = Timeframe("1h")
    values = np.full((24 * 90, 5), 1.1)
    opens = to_datetime64(datetime(2024, 1, 1, tzinfo=UTC)) + np.arange(len(values)) * hour.step
    CandleStore(tmp_path).append(CandleSeries(symbol="EURUSD", timeframe=hour, open_times=opens, values=values))
    store = CandleStore(tmp_path)  # that has read nothing yet
    for february in (tmp_path / "EURUSD" / "1h").glob("2024-02*"):
        february.write_bytes(b"unreadable")
    assert len(stored_window(store, "EURUSD", hour, datetime(2024, 3, 20, tzinfo=UTC))) == CONTEXT_BARS
    with pytest.raises(BadCandles, match="2024-02"):
        stored_window(store, "EURUSD", hour, datetime(2024, 3, 2, tzinfo=UTC))


def test_stored_timeframe_is_preferred_and_the_longest_divisor_comes_next(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    opens = to_datetime64(FIRST) + np.arange(48) * Timeframe("1h").step
    for name, price, step in (("1m", 1.1, 60), ("15m", 1.2, 4), ("4h", 1.3, 1)):
        count = len(opens) * step if step > 1 else 12
        frame = Timeframe(name)
        store.append(
            CandleSeries(
                symbol="EURUSD",
                timeframe=frame,
                open_times=frame.opening(opens[:1])[0] + np.arange(count) * frame.step,
                values=np.full((count, 5), price),
            )
        )
    moment = FIRST + timedelta(days=1)
    assert stored_window(store, "EURUSD", Timeframe("4h"), moment, 2).closes.tolist() == [1.3, 1.3]
    assert stored_window(store, "EURUSD", Timeframe("1h"), moment, 2).closes.tolist() == [1.2, 1.2]
    assert stored_window(store, "EURUSD", Timeframe("5m"), moment, 2).closes.tolist() == [1.1, 1.1]
    assert last_close(store, "EURUSD", Timeframe("1h")) == FIRST + timedelta(hours=48)
    with pytest.raises(BadCandles, match="GBPUSD 1h"):
        stored_window(store, "GBPUSD", Timeframe("1h"), moment)
    with pytest.raises(BadCandles, match="0 of EURUSD 1h known at 2017-03-06T00:59:00"):
        stored_window(store, "EURUSD", Timeframe("1h"), FIRST + timedelta(minutes=59), 1)


def test_candle_whose_end_has_not_arrived_is_not_taken_for_a_closed_one(tmp_path: Path) -> None:
    """The store lags behind the market by a few seconds; at the full hour that is just when one looks."""
    store = CandleStore(tmp_path)
    minutes = stored_series(Timeframe("1m"), datetime(2024, 3, 5, 10, tzinfo=UTC), 0, hole=False)
    hour = to_datetime(Timeframe("1h").opening(minutes.open_times[-60:-59])[0])
    until = int(np.searchsorted(minutes.open_times, to_datetime64(hour + timedelta(minutes=45))))
    store.append(minutes.slice(0, until))
    just_after = hour + timedelta(hours=1, seconds=1)
    assert to_datetime(stored_window(store, "EURUSD", Timeframe("1h"), just_after, 3).close_times[-1]) == hour
    store.append(minutes)
    assert to_datetime(stored_window(store, "EURUSD", Timeframe("1h"), hour + timedelta(minutes=70), 3).open_times[-1]) == hour


def test_of_two_stored_timeframes_the_one_that_reaches_further_is_looked_at(tmp_path: Path) -> None:
    store = CandleStore(tmp_path)
    minutes = stored_series(Timeframe("1m"), datetime(2024, 3, 5, 10, tzinfo=UTC), 0, hole=False)
    store.append(resample(without_details(minutes.slice(0, 300)), Timeframe("1h")).complete.candles)
    store.append(minutes)
    window = stored_window(store, "EURUSD", Timeframe("1h"), to_datetime(minutes.close_times[-1]), 2)
    assert window.open_times[-1] > minutes.open_times[-121]
