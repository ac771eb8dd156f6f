"""The account day by day: FX days end at 17:00 New York."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.calendar import new_york_offset
from fxcast.domain.candle import FloatArray, TimeArray

DAYS_A_YEAR = 260
_TO_MIDNIGHT = np.timedelta64(7, "h")
_THURSDAY, _SATURDAY, _WEEK = 3, 5, 7  # 1 January 1970 was a Thursday, counted from Monday


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyCurve:
    """What each FX day did to the equity, in shares of the equity that it began with.

    Days can be put into another order, and the deepest fall at candle closes is still known exactly: see `deepest_fall`.

    Attributes:
        days: (n,) datetime64[D], ascending; a day without a candle is not there.
        returns: (n,) -1 or more; 0 once everything is lost.
        lows: (n,) lowest equity at a candle's close, over the first.
        highs: (n,) highest, over the first.
        falls: (n,) deepest fall below a peak of the same day, as a share of that peak.
    """

    days: NDArray[np.datetime64]
    returns: FloatArray
    lows: FloatArray
    highs: FloatArray
    falls: FloatArray

    def __len__(self) -> int:
        return len(self.days)

    def on_days(self, days: NDArray[np.datetime64]) -> DailyCurve:
        """Return the curve on more days: nothing happened on those that it has not, (m,) ascending."""
        at = np.searchsorted(days, self.days)

        def spread(values: FloatArray, without: float) -> FloatArray:
            wide = np.full(len(days), without)
            wide[at] = values
            return wide

        return DailyCurve(
            days=days,
            returns=spread(self.returns, 0.0),
            lows=spread(self.lows, 1.0),
            highs=spread(self.highs, 1.0),
            falls=spread(self.falls, 0.0),
        )


def fx_days(times: TimeArray) -> NDArray[np.datetime64]:
    """Return the FX day that ends at or after each moment, (n,) datetime64[D].

    It is `trading.state.fx_day` of the moment before: a candle that closes at 17:00 New York is its day's last one.
    """
    before = (times.astype("datetime64[s]").astype(np.int64) - 1).astype("datetime64[s]")
    days = (before + new_york_offset(before) + _TO_MIDNIGHT).astype("datetime64[D]")
    weekday = (days.astype(np.int64) + _THURSDAY) % _WEEK
    return days + np.where(weekday >= _SATURDAY, _WEEK - weekday, 0).astype("timedelta64[D]")


def daily_curve(times: TimeArray, equity: FloatArray, starting_balance: float) -> DailyCurve:
    """Return the days of an equity curve.

    Args:
        times: (points,) of candle closes, UTC, ascending.
        equity: (points,)
        starting_balance: The first day began with it.
    """
    day_of = fx_days(times)
    first = np.flatnonzero(np.concatenate([[True], day_of[1:] != day_of[:-1]])) if len(times) else np.zeros(0, dtype=np.int64)
    last = np.append(first[1:], len(times)) - 1 if len(first) else first
    begun = np.concatenate([[starting_balance], equity[last[:-1]]]) if len(first) else np.zeros(0)
    solvent = begun > 0
    base = np.where(solvent, begun, 1.0)
    # Once everything is lost, nothing more can be lost or won.
    returns = np.where(solvent, np.maximum(equity[last] / base - 1.0, -1.0), 0.0)
    lows = np.where(solvent, np.minimum.reduceat(equity, first) / base, 1.0) if len(first) else base
    highs = np.where(solvent, np.maximum.reduceat(equity, first) / base, 1.0) if len(first) else base
    falls = np.array([_deepest(equity[start : stop + 1]) for start, stop in zip(first, last, strict=True)], dtype=np.float64)
    return DailyCurve(
        days=day_of[first],
        returns=returns,
        lows=lows,
        highs=np.maximum(highs, 1.0),
        falls=np.where(solvent, falls, 0.0),
    )


def deepest_fall(curve: DailyCurve, order: NDArray[np.int64]) -> FloatArray:
    """Return the deepest fall of the equity at candle closes below an earlier peak, were the days in another order.

    Args:
        order: (n, draws) positions of days, oldest first; days may come several times.

    Returns:
        (draws,) shares of the peak, zero or more. The order 0, 1, 2, … gives the fall that was.
    """
    grown = np.cumprod(1.0 + curve.returns[order], axis=0)  # (n, draws)
    begun = np.vstack([np.ones_like(grown[:1]), grown[:-1]])  # (n, draws) with what each day begins
    peaks = np.maximum.accumulate(begun * curve.highs[order], axis=0)  # (n, draws) by each day's end
    before = np.vstack([np.ones_like(peaks[:1]), peaks[:-1]])  # (n, draws)
    across = 1.0 - begun * curve.lows[order] / before  # (n, draws)
    return np.maximum(across, curve.falls[order]).max(axis=0, initial=0.0)  # (draws,)


def _deepest(equity: FloatArray) -> float:
    peaks = np.maximum.accumulate(equity)
    return float(np.max(1.0 - equity / np.where(peaks > 0, peaks, np.inf), initial=0.0))
