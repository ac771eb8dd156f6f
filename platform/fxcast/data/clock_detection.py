"""Find out what clock a series is stamped by: compare its returns with those of a series whose clock is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fxcast.data.importing.clocks import NEW_YORK_CLOSE, SourceClock
from fxcast.data.week import check_weeks
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray
from fxcast.errors import BadCandles

_OFFSETS_H = range(-12, 15)
_ENOUGH_RETURNS = 100  # of a month, to say anything of it
_CLEAR = 0.25  # a month whose best correlation is lower tells nothing
_CLEARLY_RIGHT = 0.9  # of the months
_TIE = 0.005  # a clock that is wrong for a single week of a year costs the correlation more
_CLOCKS = (
    NEW_YORK_CLOSE, "UTC", "Europe/London", "Europe/Berlin", "Europe/Helsinki", "America/New_York", "America/Chicago", "Asia/Tokyo",
    "Australia/Sydney", *(f"{hours:+03d}:00" for hours in _OFFSETS_H if hours),
)  # fmt: skip


ReturnsAt = Callable[[np.ndarray], FloatArray]  # of a reference, over the candles that end at some times


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetPeriod:
    """Months in a row in which the same offset fits best; months are `YYYY-MM`."""

    first: str
    last: str
    offset_h: int
    correlation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFit:
    """How well a clock fits: the correlation of returns, signless, over all of the series."""

    clock: str
    correlation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDetection:
    """What the comparison says.

    Attributes:
        reference: What was compared with.
        fits: All clocks tried, the best first.
        periods: The offset from UTC that fits best, month by month; a clock that was changed shows here.
        best: The clock, None if none is clear.
        tied: Where several fit alike and give the rows different times: those that the weeks leave open, one for each answer.
    """

    reference: str
    fits: tuple[ClockFit, ...]
    periods: tuple[OffsetPeriod, ...]
    best: str | None
    tied: tuple[str, ...] = ()


def detect_clock(local_times: TimeArray, closes: FloatArray, step: np.timedelta64, reference: CandleSeries) -> ClockDetection:
    """Compare a series of an unknown clock with a reference in UTC.

    Where clocks fit alike, as those that differ in summer do by a reference of the winter, the FX week decides, over all rows.

    Args:
        local_times: Open times as written, (n,), increasing.
        closes: Closing prices, (n,).
        step: Length of a candle.
        reference: The same pair, or one that moves with it or against it; the same length of candle or a shorter one.

    Raises:
        BadCandles: If the reference's candles are longer, or too few of both are of one time.
    """
    if reference.timeframe.step > step:
        raise BadCandles("reference", f"candles of {reference.timeframe}", "candles of the same length as the series, or shorter")
    if not len(reference):
        raise BadCandles("reference", f"no candle of {reference.symbol} {reference.timeframe}", "candles of a known clock")
    length_s = int(step.astype("timedelta64[s]").astype(np.int64))
    seconds = local_times.astype("datetime64[s]").astype(np.int64)
    follows = np.diff(seconds) == length_s
    ends, returns = (seconds[1:] + length_s)[follows], np.diff(np.log(closes))[follows]
    known_ends = reference.close_times.astype(np.int64)
    logs = np.log(reference.closes)

    def reference_returns(utc_ends: np.ndarray) -> FloatArray:
        """The reference's return over the candle that ends then, NaN where it has no price at either end."""
        return _at(known_ends, logs, utc_ends) - _at(known_ends, logs, utc_ends - length_s)

    months = ends.astype("datetime64[s]").astype("datetime64[M]")
    by_month = [(str(month), np.flatnonzero(months == month)) for month in np.unique(months)]
    best_of_month: list[tuple[str, int, float]] = []
    shifted = {hours: reference_returns(ends - hours * 3600) for hours in _OFFSETS_H}
    for month, rows in by_month:
        fits = {hours: _correlation(returns[rows], other[rows]) for hours, other in shifted.items()}
        hours = max(fits, key=lambda each: fits[each])
        if fits[hours] >= _CLEAR:
            best_of_month.append((month, hours, fits[hours]))
    if not best_of_month:
        raise BadCandles(
            "reference",
            f"{reference.symbol} {reference.timeframe}, which moves with the series at no offset",
            "one that moves with it, or against it, in the same months",
        )
    clocks = sorted((_fit(name, ends, returns, reference_returns) for name in _CLOCKS), key=lambda fit: -fit.correlation)
    right = {fit.clock: _months_right(fit.clock, best_of_month, by_month, ends) for fit in clocks}  # each (months,)
    candidates = clocks
    if right[clocks[0].clock].mean() < _CLEARLY_RIGHT:
        candidates = _changed_clocks(right, [month for month, _, _ in best_of_month], ends, returns, reference_returns)
    left = _resolve(candidates, local_times, step)
    best = left[0] if len(left) == 1 else None
    if best is not None:
        first = next(fit for fit in candidates if fit.clock == best)
        clocks = [first, *(fit for fit in clocks if fit.clock != best)]
    return ClockDetection(
        reference=f"{reference.symbol} {reference.timeframe}",
        fits=tuple(clocks),
        periods=tuple(_periods(best_of_month)),
        best=best,
        tied=tuple(left) if len(left) > 1 else (),
    )


def _at(times: np.ndarray, values: FloatArray, wanted: np.ndarray) -> FloatArray:
    position = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
    return np.where(times[position] == wanted, values[position], np.nan)


def _correlation(one: FloatArray, other: FloatArray) -> float:
    both = ~np.isnan(other)
    if both.sum() < _ENOUGH_RETURNS or one[both].std() == 0 or other[both].std() == 0:
        return 0.0
    return abs(float(np.corrcoef(one[both], other[both])[0, 1]))


def _fit(name: str, ends: np.ndarray, returns: FloatArray, reference_returns: ReturnsAt) -> ClockFit:
    utc, _ = SourceClock(name).to_utc(ends.astype("datetime64[s]"))
    exists = ~np.isnat(utc)
    return ClockFit(clock=name, correlation=_correlation(returns[exists], reference_returns(utc[exists].astype(np.int64))))


def _resolve(fits: Sequence[ClockFit], local_times: TimeArray, step: np.timedelta64) -> list[str]:
    """Return one clock for each answer, in the order of the fits, that correlation and the FX week leave; none of no fits."""
    answers: dict[bytes, tuple[str, TimeArray]] = {}
    for fit in fits:
        if fits[0].correlation - fit.correlation <= _TIE:
            times, _ = SourceClock(fit.clock).to_utc(local_times.astype("datetime64[s]"))
            answers.setdefault(times.tobytes(), (fit.clock, times))
    names = [name for name, _ in answers.values()]
    if len(names) < 2:
        return names
    possible = [name for name, times in answers.values() if check_weeks(np.unique(times[~np.isnat(times)]), step).is_possible]
    return possible or names


def _months_right(
    name: str, best: Sequence[tuple[str, int, float]], by_month: Sequence[tuple[str, np.ndarray]], ends: np.ndarray
) -> NDArray[np.bool_]:
    """Tell for each month whether the offset that fits best is one that the clock has then, (months,)."""
    rows = dict(by_month)
    right: list[bool] = []
    for month, hours, _ in best:
        local = ends[rows[month]].astype("datetime64[s]")
        utc, _ = SourceClock(name).to_utc(local)
        exists = ~np.isnat(utc)
        offsets = np.unique((local[exists] - utc[exists]).astype(np.int64) // 3600)
        right.append(hours in offsets)
    return np.array(right)


def _changed_clocks(
    right: Mapping[str, NDArray[np.bool_]],
    months: Sequence[str],
    ends: np.ndarray,
    returns: FloatArray,
    reference_returns: ReturnsAt,
) -> list[ClockFit]:
    """Look for two clocks, one after the other, that fit all months; the change falls on a Sunday, when nobody trades.

    Returns:
        Those that change on the Sunday that fits best, the best first; none if two clocks don't fit either.
    """
    zones = [name for name in right if name[0] not in "+-"]  # fixed offsets would fit every half year on their own
    pairs = [
        (int(right[one][:at].sum() + right[other][at:].sum()), one, other, at)
        for one in zones
        for other in zones
        if one != other
        for at in range(1, len(months))
    ]
    most = max(pairs)[0] if pairs else 0
    if not pairs or most < _CLEARLY_RIGHT * len(months):
        return []

    def correlation(pair: tuple[int, str, str, int]) -> float:
        _, one, other, at = pair
        return _fit(f"{one} until {months[at]}-01, {other}", ends, returns, reference_returns).correlation

    # Zones that differ for a few weeks a year are right in the same months; the returns tell them apart.
    near = [pair for pair in pairs if pair[0] >= most - 1]
    _, earlier, later, change = max(near, key=correlation)
    around = np.datetime64(months[change], "D")
    sundays = [day for day in np.arange(around - 45, around + 45) if (day.astype(np.int64) + 4) % 7 == 0]
    names = [f"{earlier} until {day}, {later}" for day in sundays]
    best = max((_fit(name, ends, returns, reference_returns) for name in names), key=lambda fit: fit.correlation)
    day = best.clock.partition(" until ")[2].partition(",")[0]
    others = [f"{one} until {day}, {other}" for _, one, other, at in near if at == change and (one, other) != (earlier, later)]
    fits = [best, *(_fit(name, ends, returns, reference_returns) for name in others)]
    return sorted(fits, key=lambda fit: -fit.correlation)


def _periods(best: Sequence[tuple[str, int, float]]) -> list[OffsetPeriod]:
    periods: list[OffsetPeriod] = []
    for hours, group in groupby(best, key=lambda each: each[1]):
        months = list(group)
        correlation = float(np.mean([each[2] for each in months]))
        periods.append(OffsetPeriod(first=months[0][0], last=months[-1][0], offset_h=hours, correlation=correlation))
    return periods
