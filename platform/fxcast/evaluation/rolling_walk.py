"""What the last forecasts of a served model were worth against the random walk, on the same windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import WindowBatch
from fxcast.evaluation.scores import ensemble_crps, random_walk_crps
from fxcast.models.baselines.random_walk import RandomWalk


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstWalk:
    """Mean CRPS of a model and of the driftless random walk with EWMA width, pips, over the same `forecasts`."""

    forecasts: int
    crps_pips: float
    crps_walk_pips: float

    @property
    def skill(self) -> float | None:
        """1 − CRPS / CRPS of the walk; None if the price never moved, nor was expected to."""
        return 1.0 - self.crps_pips / self.crps_walk_pips if self.crps_walk_pips > 0 else None


def against_walk(
    series: CandleSeries,
    horizon_minutes: int,
    *,
    made_at: Sequence[datetime],
    price: FloatArray,
    actual: FloatArray,
    samples: Sequence[Sequence[float]],
    pip: float,
) -> AgainstWalk | None:
    """Score forecasts whose window the series holds; None if there is none.

    Args:
        series: Candles of the forecasts' pair and timeframe.
        made_at: When each was made, the close of its window's last candle, (n).
        price: Last close of each, (n,).
        actual: What the price became, (n,).
        samples: Monte-Carlo prices of each; one with fewer than two is left out, (n) of any lengths.
        pip: Size of a pip in price.
    """
    closes = series.close_times
    wanted = np.array([to_datetime64(moment) for moment in made_at], dtype=closes.dtype)
    ends = np.searchsorted(closes, wanted)
    held = (ends >= CONTEXT_BARS - 1) & (ends < len(closes))
    held &= closes[np.minimum(ends, len(closes) - 1)] == wanted if len(closes) else False
    held &= np.array([len(each) >= 2 for each in samples], dtype=bool)
    rows = np.flatnonzero(held)
    if not len(rows):
        return None
    inside = ends[rows, None] + np.arange(1 - CONTEXT_BARS, 1)  # (n, CONTEXT_BARS)
    windows = WindowBatch(
        symbols=(series.symbol,) * len(rows),
        timeframe=series.timeframe,
        candles=series.values[inside],
        open_times=series.open_times[inside].astype("datetime64[s]").astype(np.int64),
    )
    walk = RandomWalk(timeframe=series.timeframe, horizons_minutes=(horizon_minutes,))
    std = walk.standard_deviations(windows)[:, 0]
    own = [ensemble_crps(np.array([samples[row]]), actual[[row]], price[[row]], pip=pip)[0] for row in rows.tolist()]
    return AgainstWalk(
        forecasts=len(rows),
        crps_pips=float(np.mean(own)),
        crps_walk_pips=float(random_walk_crps(actual[rows], price[rows], std, pip=pip).mean()),
    )


def independent_forecasts(made_at: Sequence[datetime], horizon_minutes: int) -> int:
    """Return how many forecasts, the oldest first, do not overlap: of so many outcomes no two share a candle."""
    count, free = 0, None
    for moment in made_at:
        if free is None or moment >= free:
            count, free = count + 1, moment + timedelta(minutes=horizon_minutes)
    return count
