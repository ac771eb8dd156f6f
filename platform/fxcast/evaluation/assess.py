"""Score forecasters on the same windows: by symbol, horizon, hour, session, regime and month, each against each opponent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.instrument import default_instrument
from fxcast.evaluation.comparison import Cell, Comparison, compare, compare_on_average
from fxcast.evaluation.scores import (
    PIT_BINS,
    HorizonScores,
    ensemble_crps,
    random_walk_crps,
    randomised_pit,
    score_horizon,
)
from fxcast.evaluation.strata import StratumScores, Terciles, score_strata, strata_masks, window_volatility
from fxcast.models.baselines.random_walk import RandomWalk

NOMINAL_LEVELS = tuple(level / 20 for level in range(1, 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of one symbol at which forecasts are scored, and what came after them.

    Attributes:
        series: Candles that hold the windows and their outcomes.
        ends: Positions of the windows' last candles, ascending, (n,).
        horizons_minutes: (h,).
        step_bars: Candles from one window to the next where none is missing.
        terciles: Of the volatility before the period; None for no regimes.
    """

    series: CandleSeries
    ends: NDArray[np.int64]
    horizons_minutes: tuple[int, ...]
    step_bars: int
    terciles: Terciles | None

    @property
    def closed_at(self) -> NDArray[np.int64]:
        """When the forecasts were made, seconds since 1970 UTC, (n,)."""
        return self.series.close_times[self.ends].astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What one forecaster said.

    Attributes:
        moves: Sampled log moves, (n, num_samples, h) float32, of the windows and their horizons.
        is_random_walk: Whether it is the driftless one with EWMA width; its CRPS is then taken in closed form, which has no noise.
    """

    name: str
    moves: NDArray[np.float32]
    is_random_walk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterScores:
    """One forecaster at one horizon, and the arrays behind its scores.

    Attributes:
        crps: Of each forecast, pips, (n,); of the random walk in closed form, as in `scores.random_walk_crps`.
        pit_counts: Outcomes by tenth of the forecast law, (PIT_BINS,).
        observed: Share of outcomes inside the central intervals of `NOMINAL_LEVELS`.
    """

    name: str
    scores: HorizonScores
    crps: FloatArray
    pit: FloatArray
    inside: NDArray[np.bool_]
    pit_counts: tuple[int, ...]
    observed: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without the arrays."""
        return {
            **self.scores.to_dict(),
            "pit_counts": list(self.pit_counts),
            "observed_coverage": {f"{nominal:.2f}": share for nominal, share in zip(NOMINAL_LEVELS, self.observed, strict=True)},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonResult:
    """All of one symbol and horizon; `positions` are those of the windows that were scored, (n,)."""

    minutes: int
    overlap: int
    positions: NDArray[np.int64]
    closed_at: NDArray[np.int64]
    random_walk_std: FloatArray
    model: ForecasterScores
    opponents: tuple[ForecasterScores, ...]
    comparisons: tuple[Comparison, ...]
    strata: tuple[StratumScores, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "model": self.model.to_dict(),
            "opponents": {
                opponent.name: {"against": comparison.to_dict(), "scores": opponent.to_dict()}
                for opponent, comparison in zip(self.opponents, self.comparisons, strict=True)
            },
            "strata": [stratum.to_dict() for stratum in self.strata],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolResult:
    """All horizons of one symbol."""

    windows: Windows
    model_samples: Samples
    horizons: tuple[HorizonResult, ...]

    @property
    def symbol(self) -> str:
        return self.windows.series.symbol


def assess(windows: Windows, model: Samples, opponents: Sequence[Samples], *, spread_pips: float, seed: int = 0) -> SymbolResult:
    """Score a model and its opponents on one symbol.

    Only outcomes inside the series count; a window whose outcome at a horizon lies after its end is not scored there.

    Args:
        windows: With `ends` of the forecasts given.
        model: Its forecasts.
        opponents: Theirs, on the same windows.
        spread_pips: A mean nearer to the price than this says no direction.
        seed: Of bootstraps and randomised PIT.

    Raises:
        BadCandles: If too few windows have an outcome.
        ValueError: If forecasts have another shape than the windows, which is our own bug.
    """
    for samples in (model, *opponents):
        if samples.moves.ndim != 3 or samples.moves.shape[::2] != (len(windows.ends), len(windows.horizons_minutes)):
            raise ValueError(f"{samples.name}: forecasts have shape {samples.moves.shape}; needed one for each window and horizon")
    walk = RandomWalk(timeframe=windows.series.timeframe, horizons_minutes=windows.horizons_minutes)
    batch = WindowBatch.ending_at(windows.series, windows.ends)
    walk_std = walk.standard_deviations(batch)  # (n, h)
    volatility = window_volatility(batch.candles[:, :, 3])
    horizons: list[HorizonResult] = []
    for index, minutes in enumerate(windows.horizons_minutes):
        bars = windows.series.timeframe.bars(minutes)
        positions = np.flatnonzero(windows.ends + bars < len(windows.series))
        one = _OneHorizon(
            windows=windows,
            index=index,
            positions=positions,
            random_walk_std=walk_std[positions, index],
            spread_pips=spread_pips,
            seed=seed,
        )
        mine = one.score(model)
        theirs = tuple(one.score(samples) for samples in opponents)
        masks = strata_masks(windows.closed_at[positions], volatility[positions], windows.terciles)
        horizons.append(
            HorizonResult(
                minutes=minutes,
                overlap=one.overlap,
                positions=positions,
                closed_at=windows.closed_at[positions],
                random_walk_std=one.random_walk_std,
                model=mine,
                opponents=theirs,
                comparisons=tuple(compare(other.name, mine.crps, other.crps, overlap=one.overlap, seed=seed) for other in theirs),
                strata=score_strata(
                    masks,
                    crps=mine.crps,
                    crps_random_walk=one.walk_crps,
                    inside=mine.inside,
                    pit=mine.pit,
                    overlap=one.overlap,
                    seed=seed,
                ),
            )
        )
    return SymbolResult(windows=windows, model_samples=model, horizons=tuple(horizons))


def averages(symbols: Sequence[SymbolResult], *, seed: int = 0) -> dict[str, tuple[Comparison, ...]]:
    """Compare over all symbols: by horizon in minutes as text, and as `all` over the horizons too; each cell counts the same."""
    names = [comparison.opponent for comparison in symbols[0].horizons[0].comparisons]
    groups: dict[str, list[HorizonResult]] = {}
    for symbol in symbols:
        for horizon in symbol.horizons:
            groups.setdefault(str(horizon.minutes), []).append(horizon)
            groups.setdefault("all", []).append(horizon)
    result: dict[str, tuple[Comparison, ...]] = {}
    for group in [*sorted(set(groups) - {"all"}, key=int), "all"]:
        members = groups[group]
        overlap = max(member.overlap for member in members)
        result[group] = tuple(
            compare_on_average(
                name,
                [Cell(member.closed_at, member.model.crps, member.opponents[position].crps) for member in members],
                overlap=overlap,
                seed=seed,
            )
            for position, name in enumerate(names)
        )
    return result


def crps_by_hour(result: HorizonResult) -> Mapping[int, StratumScores]:
    """Return the scores of the hours of New York that had enough forecasts."""
    return {int(stratum.name): stratum for stratum in result.strata if stratum.kind == "hour"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneHorizon:
    windows: Windows
    index: int
    positions: NDArray[np.int64]
    random_walk_std: FloatArray
    spread_pips: float
    seed: int

    @property
    def bars(self) -> int:
        return self.windows.series.timeframe.bars(self.windows.horizons_minutes[self.index])

    @property
    def overlap(self) -> int:
        return -(-self.bars // self.windows.step_bars)

    @property
    def pip(self) -> float:
        return float(default_instrument(self.windows.series.symbol).pip)

    @property
    def price(self) -> FloatArray:
        return self.windows.series.closes[self.windows.ends[self.positions]]

    @property
    def actual(self) -> FloatArray:
        return self.windows.series.closes[self.windows.ends[self.positions] + self.bars]

    @property
    def walk_crps(self) -> FloatArray:
        return random_walk_crps(self.actual, self.price, self.random_walk_std, pip=self.pip)

    def score(self, samples: Samples) -> ForecasterScores:
        price, actual = self.price, self.actual
        moves = samples.moves[self.positions, :, self.index].astype(np.float64)
        prices = np.sort(price[:, None] * np.exp(moves), axis=1)  # (n, num_samples)
        scores = score_horizon(
            prices,
            actual,
            price,
            random_walk_std=self.random_walk_std,
            pip=self.pip,
            spread_pips=self.spread_pips,
            horizon_bars=self.bars,
            step_bars=self.windows.step_bars,
            seed=self.seed,
        )
        q05, q95 = np.quantile(prices, (0.05, 0.95), axis=1, method="weibull")
        pit = randomised_pit(prices, actual, seed=self.seed)
        return ForecasterScores(
            name=samples.name,
            scores=scores,
            crps=self.walk_crps if samples.is_random_walk else ensemble_crps(prices, actual, price, pip=self.pip),
            pit=pit,
            inside=(q05 <= actual) & (actual <= q95),
            pit_counts=tuple(int(count) for count in np.histogram(pit, bins=PIT_BINS, range=(0.0, 1.0))[0]),
            observed=tuple(float((np.abs(pit - 0.5) <= level / 2).mean()) for level in NOMINAL_LEVELS),
        )
