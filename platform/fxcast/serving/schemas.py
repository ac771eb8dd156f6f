"""What the HTTP API takes and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fxcast.domain.candle import Candle, CandleSeries, candle_problem, series_from_candles
from fxcast.domain.forecast import CONTEXT_BARS, MAX_SAMPLES, LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

Number = Annotated[float, Field(allow_inf_nan=True, strict=True)]


class CandleBody(BaseModel):
    """A candle; `time` is its open time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: AwareDatetime = Field(description="open time, with a time zone", examples=["2017-11-01T10:00:00Z"])
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number = 0.0


class ForecastBody(BaseModel):
    """A forecast request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: str = Field(pattern="^[A-Z]{6}$", description="base then quote currency", examples=["EURUSD"])
    timeframe: str = Field(description="length of a candle", examples=["1h"])
    candles: tuple[CandleBody, ...] = Field(
        min_length=CONTEXT_BARS, max_length=CONTEXT_BARS, description=f"the last {CONTEXT_BARS} closed candles, oldest first"
    )
    horizons: tuple[int, ...] | None = Field(
        default=None, description="minutes; all of the model's by default", examples=[[240, 960]]
    )
    num_samples: int = Field(default=50, ge=1, le=MAX_SAMPLES, description="Monte-Carlo samples")
    seed: int = Field(default=0, ge=0, lt=2**63, description="the same seed and candles give the same answer")

    def window(self) -> CandleSeries:
        """Return the candles as a checked series.

        Raises:
            BadCandles: If a candle breaks a rule, or a time is out of order or off the timeframe's grid.
        """
        timeframe = Timeframe(self.timeframe)
        for position, candle in enumerate(self.candles):
            problem = candle_problem(candle.open, candle.high, candle.low, candle.close, candle.volume)
            if problem is not None:
                field, found, allowed = problem
                raise BadCandles(f"candles[{position}].{field}", found, allowed)
        series = series_from_candles(
            self.symbol,
            timeframe,
            [
                Candle(
                    open_time=_utc(body.time), open=body.open, high=body.high, low=body.low, close=body.close, volume=body.volume
                )
                for body in self.candles
            ],
        )
        off_grid = np.flatnonzero(series.open_times.astype(np.int64) % (timeframe.minutes * 60))
        if len(off_grid):
            first = int(off_grid[0])
            raise BadCandles(f"candles[{first}].time", self.candles[first].time.isoformat(), f"open times on the {timeframe} grid")
        return series


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


class HorizonBody(BaseModel):
    """A forecast of one horizon; prices in quote currency."""

    mean: float
    std: float
    q05: float
    q50: float
    q95: float
    uncertainty_pct: float = Field(description="100 · std / price, per cent of price")


class PredictionBody(BaseModel):
    """An LDM4TSPrediction."""

    symbol: str
    timeframe: str
    made_at: datetime = Field(description="close of the last candle, UTC")
    price: float
    horizons: dict[str, HorizonBody] = Field(description="by horizon in minutes")
    inference_time_ms: float
    num_samples: int
    model_version: str


def prediction_body(prediction: LDM4TSPrediction) -> PredictionBody:
    """Return a prediction as the API answers it."""
    return PredictionBody.model_validate(prediction.to_dict())


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    found: str
    allowed: str


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


class Health(BaseModel):
    """The service is alive; which model answers."""

    status: str
    model_version: str
    timeframe: str
    horizons: tuple[int, ...]
