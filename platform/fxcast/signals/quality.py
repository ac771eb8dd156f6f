"""How good a consensus of sources is: six dimensions, each in [0, 1] and each computed from data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fxcast.domain.calendar import open_sessions
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.instrument import default_instrument
from fxcast.domain.signal import Direction, QualityScore, Regime, SignalSource
from fxcast.signals.fusion import Consensus
from fxcast.signals.ldm4ts import mean_direction
from fxcast.signals.regime import RegimeView
from fxcast.signals.trend import average_slope

_DIMENSIONS = ("consistency", "confirmation", "strength", "timing", "risk_reward", "regime_alignment")

# What counts most in each regime, in the order of _DIMENSIONS; each row sums to 1. In a trend that several scales confirm it, in
# a range the reward at the price paid, in a storm that the sources agree and the moment is liquid.
_WEIGHTS: Mapping[Regime, tuple[float, ...]] = {
    Regime.TRENDING: (0.15, 0.25, 0.20, 0.10, 0.10, 0.20),
    Regime.RANGING: (0.15, 0.10, 0.15, 0.15, 0.25, 0.20),
    Regime.VOLATILE: (0.25, 0.15, 0.10, 0.25, 0.15, 0.10),
}

# How well a kind of source works in each regime. A forecast widens with the market, so it suffers least in a storm.
_FORECAST_AFFINITY: Mapping[Regime, float] = {Regime.TRENDING: 0.7, Regime.RANGING: 0.7, Regime.VOLATILE: 0.5}
_AFFINITY: Mapping[SignalSource, Mapping[Regime, float]] = {
    **{source: _FORECAST_AFFINITY for source in SignalSource if source.is_forecast},
    SignalSource.TREND: {Regime.TRENDING: 1.0, Regime.RANGING: 0.2, Regime.VOLATILE: 0.4},
    SignalSource.MEAN_REVERSION: {Regime.TRENDING: 0.2, Regime.RANGING: 1.0, Regime.VOLATILE: 0.3},
}

# A pair trades best in London and New York; elsewhere while one of its own currencies is at home.
_HOME = {"Sydney": ("AUD", "NZD"), "Tokyo": ("JPY",)}
_TREND_SCALES_BARS = (12, 48)
_SLOPE_BARS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalQualityScorer:
    """Scores a consensus.

    Attributes:
        uncertainty_threshold: Per cent of price at which the penalty is full.
        uncertainty_weight: The full penalty, a share of the weighted mean.
        max_spread_pips: The spread at which a moment has no tightness left.
        forecast_spread_pips: A forecast's mean within half of it is no opinion.
    """

    uncertainty_threshold: float
    max_spread_pips: float
    forecast_spread_pips: float
    uncertainty_weight: float = 0.3

    def score(
        self,
        consensus: Consensus,
        *,
        window: CandleSeries,
        prediction: LDM4TSPrediction | None,
        spread_pips: float,
        regimes: RegimeView,
        uncertainty_pct: float | None,
    ) -> QualityScore:
        """Score each dimension, weigh them by the likeliest regime, and take the penalty for uncertainty off.

        Args:
            window: The candles known now.
            prediction: The forecast in use, None if there is none.
            uncertainty_pct: 100 · std / price of that forecast; None costs nothing.
        """
        values = (
            consistency(consensus),
            self._confirmation(consensus, window, prediction),
            consensus.strength,
            self._timing(consensus, spread_pips),
            risk_reward(consensus),
            regime_alignment(consensus, regimes),
        )
        mean = min(sum(weight * value for weight, value in zip(_WEIGHTS[regimes.regime], values, strict=True)), 1.0)
        penalty = 0.0
        if uncertainty_pct is not None:
            penalty = min(1.0, uncertainty_pct / self.uncertainty_threshold) * self.uncertainty_weight
        return QualityScore(
            **dict(zip(_DIMENSIONS, values, strict=True)),
            weighted_mean=mean,
            uncertainty_penalty=penalty,
            total=mean * (1.0 - penalty),
        )

    def _confirmation(self, consensus: Consensus, window: CandleSeries, prediction: LDM4TSPrediction | None) -> float:
        """Agreement of the forecast's horizons; without a forecast, of the trend on two scales."""
        if prediction is not None:
            spread = self.forecast_spread_pips * float(default_instrument(consensus.symbol).pip)
            return _agreement(
                (mean_direction(prediction, horizon, spread=spread) for horizon in prediction.horizons), consensus.direction
            )
        return _agreement((_slope_direction(window, bars) for bars in _TREND_SCALES_BARS), consensus.direction)

    def _timing(self, consensus: Consensus, spread_pips: float) -> float:
        """Mean of the sessions' liquidity and of what the spread leaves of its limit."""
        currencies = {consensus.symbol[:3], consensus.symbol[3:]}
        sessions = open_sessions(consensus.made_at)
        liquidity = sum(1.0 if session not in _HOME or currencies & set(_HOME[session]) else 0.5 for session in sessions)
        tightness = min(max(0.0, 1.0 - spread_pips / self.max_spread_pips), 1.0)
        return (min(liquidity / 2, 1.0) + tightness) / 2


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
        member.strength * probability * _AFFINITY[member.source][regime]
        for member in consensus.supporters
        for regime, probability in regimes.probabilities.items()
    )
    return min(fit / total, 1.0) if total > 0 else 0.0


def _agreement(directions: Iterable[Direction], direction: Direction) -> float:
    votes = [1.0 if each is direction else 0.5 if each is Direction.NEUTRAL else 0.0 for each in directions]
    return sum(votes) / len(votes) if votes else 0.5


def _slope_direction(window: CandleSeries, average_bars: int) -> Direction:
    if len(window) < average_bars + _SLOPE_BARS:
        return Direction.NEUTRAL
    slope = average_slope(window, average_bars, _SLOPE_BARS)
    return Direction.BULL if slope > 0 else Direction.BEAR if slope < 0 else Direction.NEUTRAL
