"""The port that LDM4TS and every opponent implement."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fxcast.domain.candle import CandleSeries, FloatArray, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS, MAX_SAMPLES, LDM4TSPrediction, summarize
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowBatch:
    """Windows of one timeframe, each the last `CONTEXT_BARS` candles known at some moment, oldest first.

    Attributes:
        symbols: The pair of each window, (n,).
        timeframe: Length of the candles.
        candles: (n, CONTEXT_BARS, 5) float64: open, high, low, close in quote currency, volume.
        open_times: (n, CONTEXT_BARS) int64, seconds since 1970 UTC.
    """

    symbols: tuple[str, ...]
    timeframe: Timeframe
    candles: FloatArray
    open_times: NDArray[np.int64]

    def __post_init__(self) -> None:
        shape = (len(self.symbols), CONTEXT_BARS)
        if self.candles.shape != (*shape, 5) or self.open_times.shape != shape:
            raise ValueError(f"candles {self.candles.shape} and open_times {self.open_times.shape} are not {shape[0]} windows")

    def __len__(self) -> int:
        return len(self.symbols)

    @classmethod
    def of(cls, window: CandleSeries) -> Self:
        """Return one window of `CONTEXT_BARS` candles as a batch."""
        return cls.together([window])

    @classmethod
    def together(cls, windows: Sequence[CandleSeries]) -> Self:
        """Return windows of one timeframe, of `CONTEXT_BARS` candles each, as a batch."""
        (timeframe,) = {window.timeframe for window in windows}
        return cls(
            symbols=tuple(window.symbol for window in windows),
            timeframe=timeframe,
            candles=np.stack([window.values for window in windows]),
            open_times=np.stack([window.open_times.astype(np.int64) for window in windows]),
        )

    @classmethod
    def ending_at(cls, series: CandleSeries, ends: NDArray[np.int64]) -> Self:
        """Return the windows of a series whose last candles are at positions, each at least CONTEXT_BARS − 1."""
        positions = ends[:, None] + np.arange(1 - CONTEXT_BARS, 1)  # (n, CONTEXT_BARS)
        return cls(
            symbols=(series.symbol,) * len(ends),
            timeframe=series.timeframe,
            candles=series.values[positions],
            open_times=series.open_times.astype(np.int64)[positions],
        )

    def take(self, positions: NDArray[np.int64]) -> WindowBatch:
        """Return some of the windows."""
        return WindowBatch(
            symbols=tuple(self.symbols[int(position)] for position in positions),
            timeframe=self.timeframe,
            candles=self.candles[positions],
            open_times=self.open_times[positions],
        )

    @property
    def prices(self) -> FloatArray:
        """Last closes, (n,)."""
        return self.candles[:, -1, 3]

    @property
    def closed_at(self) -> NDArray[np.int64]:
        """When each window's last candle closes, seconds since 1970 UTC, (n,)."""
        return self.open_times[:, -1] + 60 * self.timeframe.minutes


class Forecaster(Protocol):
    """What LDM4TS and every opponent implement; `sample` is theirs, `predict` makes an answer of it."""

    @property
    def model_version(self) -> str: ...

    @property
    def timeframe(self) -> Timeframe: ...

    @property
    def horizons_minutes(self) -> tuple[int, ...]: ...

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw calibrated samples of how far the log price will have moved from the last close.

        Args:
            windows: Of the forecaster's timeframe.
            num_samples: A window.
            seeds: One for each window. A window's samples follow from its own candles, times, symbol and seed alone: they are the
                same alone, in a batch, and whatever else exists.

        Returns:
            (windows, num_samples, horizons) log moves, horizons as in `horizons_minutes`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRequest:
    """What is asked of a forecaster.

    Attributes:
        window: The last `CONTEXT_BARS` candles known now, oldest first.
        horizons_minutes: Which of the forecaster's horizons to answer; None for all.
        num_samples: Monte-Carlo samples, 1 to `MAX_SAMPLES`.
        seed: The same seed and window give the same answer.
        width_factors: By horizon, what online calibration multiplies the spread of the log moves by; others stay.
    """

    window: CandleSeries
    horizons_minutes: tuple[int, ...] | None = None
    num_samples: int = 50
    seed: int = 0
    width_factors: Mapping[int, float] = field(default_factory=dict[int, float])


def predict(
    forecaster: Forecaster, window: CandleSeries, *, horizons_minutes: Sequence[int], num_samples: int, seed: int
) -> LDM4TSPrediction:
    """Forecast one window; see `predict_together`."""
    asked = ForecastRequest(window=window, horizons_minutes=tuple(horizons_minutes), num_samples=num_samples, seed=seed)
    return predict_together(forecaster, [asked])[0]


def predict_together(forecaster: Forecaster, requests: Sequence[ForecastRequest]) -> list[LDM4TSPrediction]:
    """Forecast several windows in one batch; each answer is what it would be alone, but for the time it took.

    All of the forecaster's horizons are sampled, so that an answer does not depend on what else was asked.

    Args:
        requests: With one number of samples.

    Raises:
        BadRequest: As `check_request`.
    """
    started = time.perf_counter()
    for request in requests:
        check_request(forecaster, request)
    (num_samples,) = {request.num_samples for request in requests}
    windows = WindowBatch.together([request.window for request in requests])
    moves = forecaster.sample(windows, num_samples=num_samples, seeds=[request.seed for request in requests])
    known = forecaster.horizons_minutes
    factors = np.array([[request.width_factors.get(minutes, 1.0) for minutes in known] for request in requests])
    prices = windows.prices[:, None, None] * np.exp(widened(moves, factors[:, None, :]))  # (windows, samples, horizons)
    took_ms = (time.perf_counter() - started) * 1000.0
    return [
        LDM4TSPrediction(
            symbol=request.window.symbol,
            timeframe=request.window.timeframe,
            made_at=to_datetime(request.window.close_times[-1]),
            price=float(request.window.closes[-1]),
            horizons={
                minutes: summarize(own[:, position])
                for position, minutes in enumerate(known)
                if request.horizons_minutes is None or minutes in request.horizons_minutes
            },
            inference_time_ms=took_ms,
            num_samples=num_samples,
            model_version=forecaster.model_version,
        )
        for request, own in zip(requests, prices, strict=True)
    ]


def widened(moves: FloatArray, factors: FloatArray) -> FloatArray:
    """Return samples, (..., samples, horizons), with their spread about the mean multiplied by factors that broadcast to them."""
    centre = moves.mean(axis=-2, keepdims=True)
    return centre + (moves - centre) * factors


def check_request(forecaster: Forecaster, request: ForecastRequest) -> None:
    """Raise BadRequest for a request that a forecaster can't answer.

    Raises:
        BadRequest: If the window has too few candles or is of another timeframe than the forecaster's, a horizon is unknown, or
            num_samples is out of range.
    """
    known = forecaster.horizons_minutes
    if len(request.window) != CONTEXT_BARS:
        raise BadRequest("candles", f"{len(request.window)} candles", f"exactly {CONTEXT_BARS}")
    if request.window.timeframe != forecaster.timeframe:
        allowed = f"{forecaster.timeframe}, the timeframe of model {forecaster.model_version}"
        raise BadRequest("timeframe", request.window.timeframe.name, allowed)
    if request.horizons_minutes is not None and not request.horizons_minutes:
        raise BadRequest("horizons", "none", f"one or more of {sorted(known)}")
    for horizon in request.horizons_minutes or ():
        if horizon not in known:
            raise BadRequest("horizons", str(horizon), f"any of {sorted(known)} minutes")
    if not 1 <= request.num_samples <= MAX_SAMPLES:
        raise BadRequest("num_samples", str(request.num_samples), f"1 to {MAX_SAMPLES}")
