"""Scores of parts of a period: by hour, session, volatility regime and month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fxcast.domain.calendar import new_york_offset, session_masks
from fxcast.domain.candle import FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.evaluation.scores import (
    MIN_FORECASTS,
    Estimate,
    block_bootstrap_means,
    block_length,
    estimate,
    overlapping_share,
    pit_index,
)
from fxcast.models.path import ewma_volatility

Kind = Literal["hour", "session", "regime", "month"]
REGIMES = ("calm", "normal", "volatile")
VOLATILITY_SPAN_BARS = 120  # as the random walk's
_LEAST_WINDOWS_BEFORE = 300  # for terciles that mean something
_MOST_WINDOWS_BEFORE = 20_000
_MIN_BLOCKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Terciles:
    """EWMA volatility of log returns per bar that a third and two thirds of the windows before a period lie below."""

    low: float
    high: float
    windows: int


class _Kept(NamedTuple):
    kind: Kind
    name: str
    mask: NDArray[np.bool_]
    touched: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumScores:
    """Scores of the forecasts of one stratum; fields as in `evaluation.scores.HorizonScores`."""

    kind: Kind
    name: str
    forecasts: int
    crps: float
    crps_random_walk: float
    crps_skill: Estimate
    coverage_90: Estimate
    pit_index: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "kind": self.kind,
            "name": self.name,
            "forecasts": self.forecasts,
            "crps": self.crps,
            "crps_random_walk": self.crps_random_walk,
            "crps_skill": self.crps_skill.value,
            "crps_skill_interval": [self.crps_skill.low, self.crps_skill.high],
            "coverage_90": self.coverage_90.value,
            "coverage_90_interval": [self.coverage_90.low, self.coverage_90.high],
            "pit_index": self.pit_index,
        }


def window_volatility(closes: FloatArray) -> FloatArray:
    """Return the EWMA volatility of windows, (n,), of their closes, (n, CONTEXT_BARS); the random walk's."""
    return ewma_volatility(closes, VOLATILITY_SPAN_BARS)


def volatility_terciles(closes_before: FloatArray) -> Terciles | None:
    """Return the terciles of the volatility before a period, None if there are too few candles to say.

    Args:
        closes_before: Closes of the candles that were known when the period began, oldest first, (n,); nothing of the period itself
            may decide which of its own hours count as calm.
    """
    count = len(closes_before) - CONTEXT_BARS + 1
    if count < _LEAST_WINDOWS_BEFORE:
        return None
    stride = max(1, count // _MOST_WINDOWS_BEFORE)
    volatility = window_volatility(sliding_window_view(closes_before, CONTEXT_BARS)[::stride])
    low, high = np.quantile(volatility, (1 / 3, 2 / 3))
    return Terciles(low=float(low), high=float(high), windows=len(volatility))


def strata_masks(
    closed_at: NDArray[np.int64], volatility: FloatArray, terciles: Terciles | None
) -> dict[Kind, dict[str, NDArray[np.bool_]]]:
    """Tell which windows belong to which stratum; sessions overlap, the other kinds do not.

    Args:
        closed_at: When each forecast was made, seconds since 1970 UTC, (n,).
        volatility: Of each window, as `window_volatility`, (n,).
        terciles: From before the period; without them there are no regimes.

    Returns:
        Masks, (n,), by kind and name: hours are New York's, months UTC's; "no session" is open market outside of all four.
    """
    moments = closed_at.astype("datetime64[s]")
    hours = (closed_at + new_york_offset(moments).astype(np.int64)) // 3600 % 24
    sessions = session_masks(moments)
    sessions["no session"] = ~np.any(np.stack(list(sessions.values())), axis=0)
    months = moments.astype("datetime64[M]")
    masks: dict[Kind, dict[str, NDArray[np.bool_]]] = {
        "hour": {f"{hour:02}": hours == hour for hour in range(24)},
        "session": sessions,
        "month": {str(month): months == month for month in np.unique(months)},
    }
    if terciles is not None:
        regime = np.digitize(volatility, [terciles.low, terciles.high])
        masks["regime"] = {name: regime == position for position, name in enumerate(REGIMES)}
    return masks


def score_strata(
    masks: Mapping[Kind, Mapping[str, NDArray[np.bool_]]],
    *,
    crps: FloatArray,
    crps_random_walk: FloatArray,
    inside: NDArray[np.bool_],
    pit: FloatArray,
    overlap: int,
    seed: int = 0,
) -> tuple[StratumScores, ...]:
    """Score each stratum that has at least `MIN_FORECASTS` forecasts from two or more blocks of time.

    The whole period is resampled in blocks and each stratum scored on what falls into it, so that its intervals know of overlap
    although its forecasts need not be neighbours.

    Args:
        masks: From `strata_masks`.
        crps: (n,), in time order, as all that follow.
        crps_random_walk: (n,).
        inside: Whether the outcome lay in [q05, q95], (n,).
        pit: (n,).
        overlap: As in `evaluation.scores.skill`.
        seed: Of the bootstrap.
    """
    n = len(crps)
    block = block_length(n, overlap)
    kept: list[_Kept] = []
    for kind, by_name in masks.items():
        for name, mask in by_name.items():
            touched = len(np.unique(np.flatnonzero(mask) // block))
            if mask.sum() >= MIN_FORECASTS and touched >= _MIN_BLOCKS:
                kept.append(_Kept(kind, name, mask, touched))
    if not kept:
        return ()
    columns = np.stack([crps, crps_random_walk, inside.astype(np.float64), np.ones(n)], axis=1)  # (n, 4)
    masked = np.concatenate([columns * one.mask[:, None] for one in kept], axis=1)  # (n, 4 · strata)
    resampled = block_bootstrap_means(masked, block=block, seed=seed)
    scored: list[StratumScores] = []
    for position, (kind, name, mask, touched) in enumerate(kept):
        own, walk, covered, count = resampled[:, 4 * position : 4 * position + 4].T
        some = count * n > 0.5  # a resample that drew nothing of the stratum says nothing of it
        mine, hits = float(crps[mask].mean()), inside[mask]
        walks = float(crps_random_walk[mask].mean())
        if hits.all() or not hits.any():
            coverage = overlapping_share(hits, overlap)
        else:
            coverage = estimate(float(hits.mean()), covered[some] / count[some], touched, least=0.0, most=1.0)
        scored.append(
            StratumScores(
                kind=kind,
                name=name,
                forecasts=int(mask.sum()),
                crps=mine,
                crps_random_walk=walks,
                crps_skill=estimate(1.0 - mine / walks, 1.0 - own[some] / walk[some], touched, most=1.0),
                coverage_90=coverage,
                pit_index=pit_index(pit[mask]),
            )
        )
    return tuple(scored)
