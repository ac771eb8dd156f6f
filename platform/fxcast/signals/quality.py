"""How good a consensus of sources is: six dimensions, each in [0, 1] and each computed from data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from pydantic import Field, field_validator

from fxcast.config import Settings
from fxcast.domain.calendar import open_sessions
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.signal import DIMENSIONS, Direction, QualityScore, Regime, SignalKind
from fxcast.signals.fusion import Consensus
from fxcast.signals.ldm4ts import mean_direction
from fxcast.signals.multi_timeframe import MultiTimeframeRule, timeframe_trend
from fxcast.signals.regime import RegimeView
from fxcast.signals.sources import MarketView
from fxcast.signals.trend import average_slope

Weights = tuple[float, float, float, float, float, float]

# What counts most in each regime, in the order of DIMENSIONS; each row sums to 1. In a trend that several scales confirm it, in
# a range the reward at the price paid, in a storm that the sources agree and the moment is liquid.
_WEIGHTS: Mapping[Regime, Weights] = {
    Regime.TRENDING: (0.15, 0.25, 0.20, 0.10, 0.10, 0.20),
    Regime.RANGING: (0.15, 0.10, 0.15, 0.15, 0.25, 0.20),
    Regime.VOLATILE: (0.25, 0.15, 0.10, 0.25, 0.15, 0.10),
}

# How well a kind of source works in each regime. A forecast widens with the market, so it suffers least in a storm.
_FORECAST_AFFINITY: Mapping[Regime, float] = {Regime.TRENDING: 0.7, Regime.RANGING: 0.7, Regime.VOLATILE: 0.5}
_AFFINITY: Mapping[SignalKind, Mapping[Regime, float]] = {
    SignalKind.FORECAST: _FORECAST_AFFINITY,
    SignalKind.TREND: {Regime.TRENDING: 1.0, Regime.RANGING: 0.2, Regime.VOLATILE: 0.4},
    SignalKind.MEAN_REVERSION: {Regime.TRENDING: 0.2, Regime.RANGING: 1.0, Regime.VOLATILE: 0.3},
    SignalKind.PATTERN: {Regime.TRENDING: 0.6, Regime.RANGING: 0.5, Regime.VOLATILE: 0.4},
    SignalKind.CONFLUENCE: {Regime.TRENDING: 1.0, Regime.RANGING: 0.2, Regime.VOLATILE: 0.4},
}

# A pair trades best in London and New York; elsewhere while one of its own currencies is at home.
_HOME = {"Sydney": ("AUD", "NZD"), "Tokyo": ("JPY",)}
_TREND_SCALES_BARS = (12, 48)
_SLOPE_BARS = 6
_TIMEFRAME_RULE = MultiTimeframeRule()
_TOLERANCE = 1e-6  # of a row's sum, for weights written with few digits


class QualityConfig(Settings):
    """What a signal's quality is made of; a regime that is not named keeps its own weights."""

    weights: Mapping[Regime, Weights] = Field(
        default_factory=lambda: dict(_WEIGHTS),
        description=f"of {', '.join(DIMENSIONS)}, in this order, by regime; each row adds up to 1",
    )
    min_total: Mapping[Regime, float] = Field(
        default_factory=dict[Regime, float], description="by regime, the total below which a signal is rejected; else min_quality"
    )
    uncertainty_weight: float = Field(default=0.3, ge=0, le=1, description="share of the weighted mean that full uncertainty costs")

    @field_validator("weights")
    @classmethod
    def _rows_are_means(cls, weights: Mapping[Regime, Weights]) -> Mapping[Regime, Weights]:
        for regime, row in weights.items():
            if min(row) < 0 or not abs(sum(row) - 1.0) <= _TOLERANCE:  # "not <=": a NaN is no weight either
                raise ValueError(
                    f"{regime.value}: {', '.join(f'{each:g}' for each in row)} add up to {sum(row):g}; "
                    f"allowed: weights of zero or more that add up to 1"
                )
        return {**_WEIGHTS, **weights}

    @field_validator("min_total")
    @classmethod
    def _are_totals(cls, totals: Mapping[Regime, float]) -> Mapping[Regime, float]:
        for regime, total in totals.items():
            if not 0.0 <= total <= 1.0:
                raise ValueError(f"{regime.value}: {total:g}; allowed: from 0 to 1")
        return totals

    def least_total(self, regime: Regime, default: float) -> float:
        """Return the total below which a signal is rejected in a regime."""
        return self.min_total.get(regime, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalQualityScorer:
    """Scores a consensus.

    Attributes:
        uncertainty_threshold: Per cent of price at which the penalty is full.
        max_spread_pips: The spread at which a moment has no tightness left.
        forecast_spread_pips: A forecast's mean within half of it is no opinion.
        config: Weights by regime, and what uncertainty costs.
    """

    uncertainty_threshold: float
    max_spread_pips: float
    forecast_spread_pips: float
    config: QualityConfig = field(default_factory=QualityConfig)

    def score(
        self,
        consensus: Consensus,
        *,
        view: MarketView,
        prediction: LDM4TSPrediction | None,
        regimes: RegimeView,
        uncertainty_pct: float | None,
    ) -> QualityScore:
        """Score each dimension, weigh them by the likeliest regime, and take the penalty for uncertainty off.

        Args:
            view: What is known now.
            prediction: The forecast in use, None if there is none; those of `view` confirm beside it.
            uncertainty_pct: 100 · std / price of that forecast; None costs nothing.
        """
        values = (
            consistency(consensus),
            self._confirmation(consensus, view, prediction),
            consensus.strength,
            self._timing(consensus, view.spread_pips),
            risk_reward(consensus),
            regime_alignment(consensus, regimes),
        )
        weights = self.config.weights[regimes.regime]
        mean = min(sum(weight * value for weight, value in zip(weights, values, strict=True)), 1.0)
        penalty = 0.0
        if uncertainty_pct is not None:
            penalty = min(1.0, uncertainty_pct / self.uncertainty_threshold) * self.config.uncertainty_weight
        return QualityScore(
            **dict(zip(DIMENSIONS, values, strict=True)),
            weighted_mean=mean,
            uncertainty_penalty=penalty,
            total=mean * (1.0 - penalty),
            weights=weights,
        )

    def _confirmation(self, consensus: Consensus, view: MarketView, prediction: LDM4TSPrediction | None) -> float:
        """Mean agreement of the forecasts' horizons and of the longer timeframes; without either, of the trend on two scales."""
        parts = [list(self._horizon_directions(view, prediction)), list(_timeframe_directions(view))]
        if not any(parts):
            parts = [[_slope_direction(view.window, bars) for bars in _TREND_SCALES_BARS]]
        known = [_agreement(part, consensus.direction) for part in parts if part]
        return sum(known) / len(known)

    def _horizon_directions(self, view: MarketView, prediction: LDM4TSPrediction | None) -> Iterator[Direction]:
        spread = self.forecast_spread_pips * float(view.instrument.pip)
        forecasts = list(view.predictions.values())
        if prediction is not None and prediction not in forecasts:
            forecasts.append(prediction)
        for forecast in forecasts:
            yield from (mean_direction(forecast, horizon, spread=spread) for horizon in forecast.horizons)

    def _timing(self, consensus: Consensus, spread_pips: float) -> float:
        """Mean of the sessions' liquidity and of what the spread leaves of its limit."""
        currencies = {consensus.symbol[:3], consensus.symbol[3:]}
        sessions = _sessions(consensus.made_at)
        liquidity = sum(1.0 if session not in _HOME or currencies & set(_HOME[session]) else 0.5 for session in sessions)
        tightness = min(max(0.0, 1.0 - spread_pips / self.max_spread_pips), 1.0)
        return (min(liquidity / 2, 1.0) + tightness) / 2


def explain(score: QualityScore) -> tuple[str, ...]:
    """Say what each dimension, and the uncertainty, took from a perfect score of 1, as in `score.costs`; the most costly first.

    For example `timing cost 0.12: (1 − 0.52) × weight 0.25`. What cost less than half a hundredth is left out.
    """
    sums = {
        name: f"(1 − {getattr(score, name):.2f}) × weight {weight:.2f}"
        for name, weight in zip(DIMENSIONS, score.weights, strict=True)
    }
    sums["uncertainty"] = f"penalty {score.uncertainty_penalty:.2f} × weighted mean {score.weighted_mean:.2f}"
    costs = sorted(score.costs.items(), key=lambda each: -each[1])
    return tuple(f"{name} cost {cost:.2f}: {sums[name]}" for name, cost in costs if round(cost, 2))


def consistency(consensus: Consensus) -> float:
    """Return the share of sources that agree; a neutral one counts half, one against not at all."""
    return _agreement((member.direction for member in consensus.members), consensus.direction)


def risk_reward(consensus: Consensus) -> float:
    """Return r / (1 + r) with r the distance to the target over that to the stop: even chances are 0.5."""
    reward = abs(consensus.leader.target - consensus.price)
    risk = abs(consensus.price - consensus.leader.stop)
    return reward / (reward + risk) if reward + risk > 0 else 0.0


def regime_alignment(consensus: Consensus, regimes: RegimeView) -> float:
    """Return how well the supporting sources fit the regimes' probabilities, weighted by their strength."""
    total = sum(member.strength for member in consensus.supporters)
    fit = sum(
        member.strength * probability * _AFFINITY[member.kind][regime]
        for member in consensus.supporters
        for regime, probability in regimes.probabilities.items()
    )
    return min(fit / total, 1.0) if total > 0 else 0.0


def _agreement(directions: Iterable[Direction], direction: Direction) -> float:
    votes = [1.0 if each is direction else 0.5 if each is Direction.NEUTRAL else 0.0 for each in directions]
    return sum(votes) / len(votes) if votes else 0.5


@lru_cache(maxsize=64)  # the candles of all symbols close together
def _sessions(moment: datetime) -> tuple[str, ...]:
    return open_sessions(moment)


def _slope_direction(window: CandleSeries, average_bars: int) -> Direction:
    if len(window) < average_bars + _SLOPE_BARS:
        return Direction.NEUTRAL
    slope = average_slope(window, average_bars, _SLOPE_BARS)
    return Direction.BULL if slope > 0 else Direction.BEAR if slope < 0 else Direction.NEUTRAL


def _timeframe_directions(view: MarketView) -> Iterator[Direction]:
    price = float(view.window.closes[-1])
    for candles in view.higher.values():
        trend = timeframe_trend(candles, price, _TIMEFRAME_RULE)
        if trend is not None:
            yield trend.direction
