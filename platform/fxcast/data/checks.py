"""What can be wrong with candles that are sound one by one: spikes, frozen prices, odd volumes, gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fxcast.domain.calendar import new_york_offset, open_mask, session_masks
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime
from fxcast.domain.timeframe import Timeframe

BoolArray = NDArray[np.bool_]

SPIKE_Z = 20.0  # of real candles, news and thin hours included, about one in fifty thousand is beyond
_OFF_RATIO = 1.5  # no rate of two currencies moves so far in one candle and back in the next: a decimal point gone wrong
_TENFOLD = 0.15  # of a decade: a ratio this near to a power of ten is a decimal point, or another unit
_LOCAL_BARS = 201
_VOLUME_Z = 8.0
_MAD_TO_STD = 1.4826
_FROZEN_MINUTES, _FROZEN_BARS = 30, 3
_HABIT = 0.6  # the share of days on which a minute is missing from which on the source is said never to have it
_DAY_MINUTES = 1440
_BRIEF_MINUTES = 5  # a quiet market has minutes without a quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """A candle that sticks out of both its neighbours; `z` in units of the usual range around it."""

    time: datetime
    price: float
    z: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A candle, by its open time, whose close lies more than half again above, or a third below, the close before it."""

    time: datetime
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A run of candles in the open market that all stand at one price."""

    start: datetime
    bars: int
    price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeOutlier:
    """A volume far from what is usual at its hour; `z` robust, of the logarithm."""

    time: datetime
    volume: float
    z: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Candles that the open market should have given and the series lacks; a weekend inside a gap counts nothing."""

    start: datetime
    missing_bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A time of day (minutes since midnight in New York, end excluded) that the source lacks on most days."""

    start_min: int
    end_min: int
    days: int

    def __str__(self) -> str:
        start, end = (f"{minute // 60 % 24:02}:{minute % 60:02}" for minute in (self.start_min, self.end_min))
        return f"{start} to {end} New York, on {self.days} days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How complete a series is.

    Attributes:
        expected, missing: Candles of the open market between first and last; those that are not there.
        gaps: Runs of missing candles, oldest first.
        brief: How many of them last at most five minutes, as a quiet market makes them.
        holes: Times of day that are missing on most days, and `in_holes` the gaps that lie in them.
        by_day: Present and expected candles by trading day (named by the day on which it ends).
        by_session: Share of the candles present while a session is open, in %.
    """

    expected: int
    missing: int
    gaps: tuple[Gap, ...]
    brief: int
    holes: tuple[Hole, ...]
    in_holes: int
    by_day: Mapping[date, tuple[int, int]]
    by_session: Mapping[str, float]

    @property
    def empty_days(self) -> tuple[date, ...]:
        """Trading days without a candle."""
        return tuple(day for day, (present, expected) in self.by_day.items() if expected and not present)


def far_off(values: FloatArray) -> BoolArray:
    """Tell which candles, (n, 5), reach to more than half again, or less than two thirds, of both neighbours' closes, (n,)."""
    off = np.zeros(len(values), dtype=bool)
    if len(values) < 3:
        return off
    closes = values[:, 3]
    above, below = np.maximum(closes[:-2], closes[2:]), np.minimum(closes[:-2], closes[2:])
    high, low = values[1:-1, 1], values[1:-1, 2]
    agree = above < below * _OFF_RATIO  # neighbours that differ themselves accuse nobody
    off[1:-1] = agree & ((high > above * _OFF_RATIO) | (low < below / _OFF_RATIO))
    return off


def decimal_levels(values: FloatArray) -> tuple[NDArray[np.int64], BoolArray]:
    """Find prices that jump by a power of ten, as where the unit changes or a decimal point slips.

    Args:
        values: Candles, (n, 5).

    Returns:
        By how many powers of ten each close lies above the first one, (n,), moves of the market left out; and which candles have
        such a jump within themselves, (n,).
    """
    levels, prices = np.zeros(len(values), dtype=np.int64), values[:, :4]
    if not len(values) or prices.max() < prices.min() * 10 ** (1 - _TENFOLD):  # as nearly always
        return levels, np.zeros(len(values), dtype=bool)
    logs = np.log10(prices)
    levels[1:] = np.cumsum(_powers(np.diff(logs[:, 3])))
    return levels, np.any(_powers(logs - logs[:, 3:]) != 0, axis=1)


def _powers(decades: FloatArray) -> NDArray[np.int64]:
    whole = np.round(decades)
    return np.where(np.abs(decades - whole) < _TENFOLD, whole, 0).astype(np.int64)


def find_jumps(series: CandleSeries) -> tuple[Jump, ...]:
    """Return the closes that lie more than half again above, or a third below, those before them."""
    closes = series.closes
    jumps = np.flatnonzero(np.abs(np.diff(np.log(closes))) > np.log(_OFF_RATIO)) + 1
    return tuple(
        Jump(time=to_datetime(series.open_times[at]), before=float(closes[at - 1]), after=float(closes[at])) for at in jumps
    )


def spike_scores(values: FloatArray) -> FloatArray:
    """Return how far each candle, (n, 5), sticks out of both its neighbours, in units of the usual range around it, (n,)."""
    scores = np.zeros(len(values))
    if len(values) < 3:
        return scores
    high, low = values[:, 1], values[:, 2]
    up = high[1:-1] - np.maximum(high[:-2], high[2:])
    down = np.minimum(low[:-2], low[2:]) - low[1:-1]
    scale = _local_median(np.maximum(high - low, np.abs(np.diff(values[:, 3], prepend=values[0, 3]))))
    # A frozen market's range is nothing; a hundred-thousandth of the price is the least that is quoted.
    floor = values[1:-1, 3] * 1e-5
    scores[1:-1] = np.maximum(np.maximum(up, down), 0.0) / np.maximum(scale[1:-1], floor)
    return scores


def find_spikes(series: CandleSeries) -> tuple[Spike, ...]:
    """Return the candles that stick out of both neighbours by more than `SPIKE_Z`."""
    scores = spike_scores(series.values)
    found: list[Spike] = []
    for at in np.flatnonzero(scores > SPIKE_Z):
        before, (high, low) = series.values[at - 1], series.values[at, 1:3]
        price = high if high - before[1] > before[2] - low else low
        found.append(Spike(time=to_datetime(series.open_times[at]), price=float(price), z=float(scores[at])))
    return tuple(found)


def find_frozen(series: CandleSeries) -> tuple[Frozen, ...]:
    """Return the runs of candles at one price that last half an hour or more, three candles at least, in the open market."""
    values = series.values
    flat = (values[:, :4] == values[:, :1]).all(axis=1) & open_mask(series.open_times)
    starts_run = np.ones(len(series), dtype=bool)
    follows = np.diff(series.open_times) == series.timeframe.step
    starts_run[1:] = ~(flat[1:] & flat[:-1] & follows & (values[1:, 3] == values[:-1, 3]))
    starts = np.flatnonzero(starts_run)
    lengths = np.diff(np.append(starts, len(series)))
    enough = max(_FROZEN_BARS, _FROZEN_MINUTES // series.timeframe.minutes)
    return tuple(
        Frozen(start=to_datetime(series.open_times[start]), bars=int(length), price=float(values[start, 3]))
        for start, length in zip(starts, lengths, strict=True)
        if length >= enough and flat[start]
    )


def find_volume_outliers(series: CandleSeries) -> tuple[VolumeOutlier, ...]:
    """Return the volumes far from what is usual at their hour of the day; none if the series has none."""
    volumes = series.values[:, 4]
    if not (volumes > 0).any():
        return ()
    logs = np.log1p(volumes)
    hours = (series.open_times.astype("datetime64[s]").astype(np.int64) // 3600) % 24
    scores = np.zeros(len(series))
    for hour in np.unique(hours):
        here = hours == hour
        median = np.median(logs[here])
        spread = _MAD_TO_STD * np.median(np.abs(logs[here] - median))
        scores[here] = (logs[here] - median) / max(float(spread), 0.1)
    return tuple(
        VolumeOutlier(time=to_datetime(series.open_times[at]), volume=float(volumes[at]), z=float(scores[at]))
        for at in np.flatnonzero(np.abs(scores) > _VOLUME_Z)
    )


def measure_coverage(times: TimeArray, timeframe: Timeframe) -> Coverage:
    """Compare open times, (n,), with the FX calendar; a candle belongs to the open market if that is open at its open."""
    grid = _grid(times, timeframe)
    expected = grid[open_mask(grid)]
    present = np.isin(expected, times, assume_unique=True)
    missing_at = np.flatnonzero(~present)
    runs = np.split(missing_at, np.flatnonzero(np.diff(missing_at) > 1) + 1) if len(missing_at) else []
    gaps = tuple(Gap(start=to_datetime(expected[int(run[0])]), missing_bars=len(run)) for run in runs)
    holes, in_hole = _holes(expected, present, timeframe)
    days, day_of = np.unique(Timeframe("1d").opening(expected), return_inverse=True)
    by_day = zip(days, np.bincount(day_of, weights=present), np.bincount(day_of), strict=True) if len(days) else ()
    sessions = session_masks(expected)
    return Coverage(
        expected=len(expected),
        missing=len(missing_at),
        gaps=gaps,
        brief=sum(gap.missing_bars * timeframe.minutes <= _BRIEF_MINUTES for gap in gaps),
        holes=holes,
        in_holes=sum(bool(in_hole[run].all()) for run in runs),
        by_day={(to_datetime(day + np.timedelta64(20, "h"))).date(): (int(here), int(of)) for day, here, of in by_day},
        by_session={name: 100.0 * float(present[mask].mean()) for name, mask in sessions.items() if mask.any()},
    )


def _grid(times: TimeArray, timeframe: Timeframe) -> TimeArray:
    """Return all times between first and last at which a candle can open."""
    if not len(times):
        return times
    if timeframe.minutes <= 60:
        return np.arange(times[0], times[-1] + timeframe.step, timeframe.step)
    hours = np.arange(times[0], times[-1] + np.timedelta64(1, "h"), np.timedelta64(1, "h"))
    return np.unique(timeframe.opening(hours))


def _holes(expected: TimeArray, present: BoolArray, timeframe: Timeframe) -> tuple[tuple[Hole, ...], BoolArray]:
    """Find the times of day that are missing on most days, and tell which expected candles lie in them."""
    in_hole = np.zeros(len(expected), dtype=bool)
    if timeframe.minutes >= 60 or not len(expected):
        return (), in_hole
    local = (expected + new_york_offset(expected)).astype("datetime64[s]").astype(np.int64) // 60 % _DAY_MINUTES
    days = np.bincount(local, minlength=_DAY_MINUTES)
    missing = np.bincount(local[~present], minlength=_DAY_MINUTES)
    habit = (missing > _HABIT * days) & (days >= 5)
    minutes = np.flatnonzero(habit)
    in_hole = habit[local]
    runs = np.split(minutes, np.flatnonzero(np.diff(minutes) > timeframe.minutes) + 1) if len(minutes) else []
    holes = tuple(
        Hole(start_min=int(run[0]), end_min=int(run[-1]) + timeframe.minutes, days=int(missing[run].max())) for run in runs
    )
    return holes, in_hole


def _local_median(values: FloatArray) -> FloatArray:
    window = min(_LOCAL_BARS, len(values))
    return pd.Series(values).rolling(window, center=True, min_periods=1).median().to_numpy()
