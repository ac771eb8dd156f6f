"""Signals: what a source says, what the sources together say, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Direction(StrEnum):
    """Where a source expects the price to go."""

    BULL = "bull"
    BEAR = "bear"
    NEUTRAL = "neutral"

    @property
    def sign(self) -> int:
        return {Direction.BULL: 1, Direction.BEAR: -1, Direction.NEUTRAL: 0}[self]


class SignalSource(StrEnum):
    """The sources that fxcast has; a user's own source has a name of its own."""

    LDM4TS_FORECAST = "ldm4ts_forecast"
    SSSD_FORECAST = "sssd_forecast"
    GARCH_FORECAST = "garch_forecast"
    RANDOM_WALK_FORECAST = "random_walk_forecast"
    TIME_OF_DAY_FORECAST = "time_of_day_forecast"
    TREND = "trend"
    MEAN_REVERSION = "mean_reversion"
    PATTERN = "pattern"
    MULTI_TIMEFRAME = "multi_timeframe"

    @property
    def is_forecast(self) -> bool:
        """Whether it is the opinion of a forecaster, with a distribution behind it."""
        return self.value.endswith("_forecast")


class SignalKind(StrEnum):
    """What an opinion rests on; decides how well it fits a regime."""

    FORECAST = "forecast"
    TREND = "trend"
    MEAN_REVERSION = "mean_reversion"
    PATTERN = "pattern"
    CONFLUENCE = "confluence"  # agreement of several timeframes


class Regime(StrEnum):
    """State of the market, from filtered probabilities."""

    TRENDING = "trending"
    RANGING = "ranging"
    VOLATILE = "volatile"


class Verdict(StrEnum):
    """What the engine decided about a signal."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One source's opinion; prices in quote currency, valid for `horizon_minutes` from `made_at` (a candle's close, UTC)."""

    source: str  # a SignalSource, or the name of a user's own
    kind: SignalKind
    symbol: str
    made_at: datetime
    horizon_minutes: int
    direction: Direction
    strength: float  # [0, 1]
    price: float
    stop: float
    target: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength} is outside [0, 1]")


DIMENSIONS = ("consistency", "confirmation", "strength", "timing", "risk_reward", "regime_alignment")


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityScore:
    """Six dimensions, each in [0, 1], their weighted mean, and the penalty for uncertainty.

    `total` = `weighted_mean` × (1 − `uncertainty_penalty`).
    """

    consistency: float
    confirmation: float
    strength: float
    timing: float
    risk_reward: float
    regime_alignment: float
    weighted_mean: float
    uncertainty_penalty: float
    total: float
    weights: tuple[float, ...] = (1 / 6,) * 6  # of the six dimensions above, in that order

    @property
    def costs(self) -> Mapping[str, float]:
        """What each dimension, and the uncertainty, took from a perfect score of 1; they add up to 1 − `total`."""
        lost = {name: weight * (1.0 - getattr(self, name)) for name, weight in zip(DIMENSIONS, self.weights, strict=True)}
        return {**lost, "uncertainty": self.weighted_mean - self.total}

    def __post_init__(self) -> None:
        for name in (*DIMENSIONS, "weighted_mean", "uncertainty_penalty", "total"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} {value} is outside [0, 1]")


def strongest(members: Iterable[Signal], direction: Direction) -> Signal:
    """Return the strongest of those signals that point in a direction, the first of equals."""
    return max((member for member in members if member.direction is direction), key=lambda member: member.strength)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedSignal:
    """The sources on one symbol at one moment, combined."""

    symbol: str
    made_at: datetime
    horizon_minutes: int
    direction: Direction
    strength: float
    price: float
    stop: float
    target: float
    uncertainty_pct: float | None  # None when no forecast is in use
    regime: Regime
    quality: QualityScore
    members: tuple[Signal, ...]

    @property
    def signal_id(self) -> str:
        """Deterministic: the same moment of the same symbol is the same signal after a restart."""
        return f"{self.symbol}-{self.made_at:%Y%m%dT%H%M}"

    @property
    def leader(self) -> Signal:
        """The strongest member in the direction taken, the first of equals; horizon, stop and target come from it."""
        return strongest(self.members, self.direction)

    @property
    def sources(self) -> Mapping[str, Direction]:
        return {member.source: member.direction for member in self.members}
