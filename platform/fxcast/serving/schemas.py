"""What the HTTP API takes and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from fxcast.domain.candle import CandleSeries, candle_problem, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS, MAX_SAMPLES, LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles

Number = Annotated[float, Field(allow_inf_nan=True, strict=True)]

# Currencies float since the seventies; far times overflow when a horizon is added.
FIRST_TIME, LAST_TIME = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# From one close to the next. The Lebanese pound's devaluation of 2023, 9.95 times, is the largest of an official rate; a
# hundredfold is a wrong decimal point, and windows full of such jumps have forecasts that overflow.
MAX_JUMP = 10.0


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
            BadCandles: If a candle breaks a rule, a close is more than `MAX_JUMP` times the one before or less than that
                part of it, or a time is out of order, out of range or off the timeframe's grid. Fields are named as in the
                body.
        """
        timeframe = Timeframe(self.timeframe)
        for position, candle in enumerate(self.candles):
            problem = candle_problem(candle.open, candle.high, candle.low, candle.close, candle.volume)
            problem = problem or _time_problem(candle.time, timeframe)
            if problem is None and position:
                problem = _step_problem(self.candles[position - 1], candle)
            if problem is not None:
                field, found, allowed = problem
                raise BadCandles(f"candles[{position}].{field}", found, allowed)
        return CandleSeries(
            symbol=self.symbol,
            timeframe=timeframe,
            open_times=np.array([to_datetime64(candle.time) for candle in self.candles], dtype="datetime64[s]"),
            values=np.array([[each.open, each.high, each.low, each.close, each.volume] for each in self.candles], dtype=np.float64),
        )


def _time_problem(time: datetime, timeframe: Timeframe) -> tuple[str, str, str] | None:
    if not FIRST_TIME <= time < LAST_TIME:
        return "time", time.isoformat(), f"times from {FIRST_TIME:%Y} up to {LAST_TIME:%Y}"
    if (time - FIRST_TIME) % timeframe.duration:
        return "time", time.isoformat(), f"open times on the {timeframe} grid"
    return None


def _step_problem(before: CandleBody, candle: CandleBody) -> tuple[str, str, str] | None:
    if candle.time <= before.time:
        return "time", f"{candle.time.isoformat()} after {before.time.isoformat()}", "strictly increasing times"
    if not 1.0 / MAX_JUMP <= candle.close / before.close <= MAX_JUMP:
        allowed = f"a close at most {MAX_JUMP:g} times the one before, and no less than that part of it"
        return "close", f"{candle.close:g} after {before.close:g}", allowed
    return None


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
