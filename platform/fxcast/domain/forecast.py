"""A probabilistic forecast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.domain.timeframe import Timeframe

CONTEXT_BARS = 100
MAX_SAMPLES = 1000
_SHARES = (0.05, 0.5, 0.95)  # of the quantiles that a forecast tells


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonForecast:
    """What the price may be one horizon ahead; prices in quote currency.

    `std` is the standard deviation of the Monte-Carlo samples (0 for a single one) and `q05`, `q50` and `q95` their Weibull
    quantiles; `samples` are the prices themselves, ascending, empty where only the summary was kept. A forecaster calibrates
    before it summarizes, so all of them follow the calibrated law.
    """

    mean: float
    std: float
    q05: float
    q50: float
    q95: float
    samples: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ascending = -math.inf < self.q05 <= self.q50 <= self.q95 < math.inf  # false for what is NaN, as the next one
        if not (ascending and 0 <= self.std < math.inf and math.isfinite(self.mean)):
            raise ValueError(f"not a forecast: mean {self.mean}, std {self.std}, quantiles {self.q05}, {self.q50}, {self.q95}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LDM4TSPrediction:
    """A forecast of one symbol at one moment, for several horizons.

    Attributes:
        made_at: Close time of the last candle known, UTC.
        price: Close of that candle.
        horizons: By horizon in minutes of the market's open time (candles, not the clock over a weekend).
        inference_time_ms: Time that the forecast took.
        model_version: Which model answered.
    """

    symbol: str
    timeframe: Timeframe
    made_at: datetime
    price: float
    horizons: Mapping[int, HorizonForecast]
    inference_time_ms: float
    num_samples: int
    model_version: str

    def uncertainty_pct(self, horizon_minutes: int) -> float:
        """Return 100 · std / price of one horizon, in per cent of price."""
        return 100.0 * self.horizons[horizon_minutes].std / self.price

    def to_dict(self, *, with_samples: bool = False) -> dict[str, Any]:
        """Return plain JSON types; horizons are keyed by minutes as text."""
        names = ("mean", "std", "q05", "q50", "q95")
        horizons: dict[str, dict[str, Any]] = {}
        for minutes, horizon in self.horizons.items():
            horizons[str(minutes)] = {name: getattr(horizon, name) for name in names}
            horizons[str(minutes)]["uncertainty_pct"] = self.uncertainty_pct(minutes)
            if with_samples:
                horizons[str(minutes)]["samples"] = list(horizon.samples)
        return {
            "symbol": self.symbol,
            "timeframe": self.timeframe.name,
            "made_at": self.made_at.isoformat(),
            "price": self.price,
            "horizons": horizons,
            "inference_time_ms": self.inference_time_ms,
            "num_samples": self.num_samples,
            "model_version": self.model_version,
        }

    def to_quantiles_format(self) -> dict[int, dict[str, Any]]:
        """Return q05, q50, q95 and `future_ts` by horizon in minutes.

        `future_ts` is `made_at` plus the horizon; the market may be closed then, and the outcome is the close of the
        candle that many bars ahead.
        """
        return {
            minutes: {
                "q05": horizon.q05,
                "q50": horizon.q50,
                "q95": horizon.q95,
                "future_ts": self.made_at + timedelta(minutes=minutes),
            }
            for minutes, horizon in self.horizons.items()
        }


def prediction_from_dict(content: Mapping[str, Any]) -> LDM4TSPrediction:
    """Rebuild a prediction from `LDM4TSPrediction.to_dict`."""
    return LDM4TSPrediction(
        symbol=content["symbol"],
        timeframe=Timeframe(content["timeframe"]),
        made_at=datetime.fromisoformat(content["made_at"]).astimezone(UTC),
        price=content["price"],
        horizons={
            int(minutes): HorizonForecast(
                **{name: horizon[name] for name in ("mean", "std", "q05", "q50", "q95")},
                samples=tuple(horizon.get("samples", ())),
            )
            for minutes, horizon in content["horizons"].items()
        },
        inference_time_ms=content["inference_time_ms"],
        num_samples=content["num_samples"],
        model_version=content["model_version"],
    )


def summarize(samples: FloatArray) -> HorizonForecast:
    """Summarize Monte-Carlo prices of one horizon, (samples,), as mean, std and Weibull quantiles.

    Weibull's rule (i / (n + 1)) makes [q05, q95] of n samples cover 90 % when the samples follow the truth; numpy's
    default rule covers 86.5 % at n = 50.
    """
    return summarize_many(samples[None])[0]


def summarize_many(prices: FloatArray, *, with_samples: bool = True) -> tuple[HorizonForecast, ...]:
    """Summarize Monte-Carlo prices, (forecasts, samples), row by row.

    To the last bit what `summarize` makes of each row, in a fraction of the time.

    Args:
        with_samples: Whether the summaries keep the ordered samples.
    """
    # In C's order, so that the sums of a row are taken alike however many rows there are, and wherever they come from.
    ordered = np.array(prices, dtype=np.float64, order="C")
    ordered.sort(axis=1)
    rows, samples = ordered.shape
    mean = ordered.mean(axis=1)
    std = ordered.std(axis=1, ddof=1) if samples > 1 else np.zeros(rows)
    numbers = (each.tolist() for each in (mean, std, *(_weibull_quantile(ordered, share) for share in _SHARES)))
    kept: list[tuple[float, ...]] = [tuple(row) for row in ordered.tolist()] if with_samples else [()] * rows
    return tuple(
        HorizonForecast(mean=mean, std=std, q05=q05, q50=q50, q95=q95, samples=own)
        for mean, std, q05, q50, q95, own in zip(*numbers, kept, strict=True)
    )


def _weibull_quantile(ordered: FloatArray, share: float) -> FloatArray:
    """Return the quantile of each row of ascending samples, (rows, samples): (rows,).

    What numpy's `quantile` gives with `method="weibull"`, to the last bit, without the time that it takes for its checks.

    Source: Hyndman and Fan 1996, doi:10.1080/00031305.1996.10473566, their sixth definition.
    """
    samples = ordered.shape[1]
    place = samples * share + share - 1  # counted from 0, between two samples
    if place < 0:
        return ordered[:, 0]
    if place >= samples - 1:
        return ordered[:, -1]
    below = int(place)
    low, high, way = ordered[:, below], ordered[:, below + 1], place - below
    return low + (high - low) * way if way < 0.5 else high - (high - low) * (1 - way)
