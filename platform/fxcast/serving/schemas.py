"""What the HTTP API takes and answers."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from fxcast.domain.candle import CandleSeries, candle_problem, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS, MAX_SAMPLES, LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe, timeframes
from fxcast.errors import BadCandles, BadRequest
from fxcast.serving.seen import SeenBody

_BARE_NUMBER = re.compile(r"\s*[-+]?[0-9.]+(e[-+]?[0-9]+)?\s*", re.IGNORECASE)


def _as_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time_out_of_range", "a time of the years 1 to 9999 in UTC") from None


def _no_number(time: object) -> object:
    # pydantic would take it for seconds since 1970, or for milliseconds if it is large.
    if not isinstance(time, str | datetime) or (isinstance(time, str) and _BARE_NUMBER.fullmatch(time)):
        raise PydanticCustomError("time_is_a_number", "a time as of ISO 8601, with its zone: 2017-11-01T10:00:00Z")
    return time


Number = Annotated[float, Field(allow_inf_nan=True, strict=True)]
Time = Annotated[AwareDatetime, BeforeValidator(_no_number)]
Moment = Annotated[Time, AfterValidator(_as_utc)]

# Said in the schema, refused by `Timeframe`.
ONE_OF_THE_TIMEFRAMES: dict[str, Any] = {"enum": [each.name for each in timeframes()]}

# Currencies float since the seventies; far times overflow when a horizon is added.
FIRST_TIME, LAST_TIME = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# From one close to the next. The Lebanese pound's devaluation of 2023, 9.95 times, is the largest of an official rate; a
# hundredfold is a wrong decimal point, and windows full of such jumps have forecasts that overflow.
MAX_JUMP = 10.0
MAX_FUTURES = 16  # charts of an answer
MAX_REQUESTS = 64  # as many windows as a body of 1 MB holds


Fallback = Literal["none", "random-walk"]


class CandleBody(BaseModel):
    """A candle; `time` is its open time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: Time = Field(description="open time, with a time zone", examples=["2017-11-01T10:00:00Z"])
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number = 0.0


class ForecastOptions(BaseModel):
    """What a forecast request may say beside its candles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    horizons: tuple[int, ...] | None = Field(
        default=None, description="minutes; all of the model's by default", examples=[[240, 960]]
    )
    num_samples: int = Field(default=50, ge=1, le=MAX_SAMPLES, description="Monte-Carlo samples", examples=[200])
    seed: int = Field(default=0, ge=0, lt=2**63, description="the same seed and candles give the same answer", examples=[7])
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        max_length=99,
        description="levels of further quantiles; n samples know those from 1/(n+1) to n/(n+1)",
        examples=[[0.25, 0.75]],
    )
    paths: bool = Field(
        default=False, description="answer the samples themselves: prices at each horizon, ascending", examples=[True]
    )
    vision: bool = Field(
        default=False,
        description="answer the three channels that the model sees, as PNG in base64; such a forecast is not stored",
        examples=[True],
    )
    futures: int = Field(
        default=0,
        ge=0,
        le=MAX_FUTURES,
        description="with vision: how many of the samples are answered with their prices and as charts",
        examples=[4],
    )
    model_version: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="model to ask; by default the active one",
        examples=["ldm4ts-tiny-1h"],
    )
    fallback: Fallback = Field(
        default="none",
        description="who answers when the model is missing or broken; the answer's model_version says who did",
        examples=["random-walk"],
    )


class ForecastBody(ForecastOptions):
    """A forecast request."""

    symbol: str = Field(pattern="^[A-Z]{6}$", description="base then quote currency", examples=["EURUSD"])
    timeframe: str = Field(description="length of a candle", examples=["1h"], json_schema_extra=ONE_OF_THE_TIMEFRAMES)
    candles: tuple[CandleBody, ...] = Field(
        min_length=CONTEXT_BARS, max_length=CONTEXT_BARS, description=f"the last {CONTEXT_BARS} closed candles, oldest first"
    )

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
    request_id: str | None = Field(default=None, description="also in the header X-Request-ID and in the logs")


class HorizonBody(BaseModel):
    """A forecast of one horizon; prices in quote currency."""

    mean: float
    std: float
    q05: float
    q50: float
    q95: float
    uncertainty_pct: float = Field(description="100 · std / price, per cent of price")
    online_width: float | None = Field(
        default=None, description="what the online calibration has multiplied the spread by, if it has learned anything"
    )
    quantiles: dict[str, float] | None = Field(default=None, description="by level, if levels were asked for")
    samples: list[float] | None = Field(default=None, description="ascending, if paths were asked for")


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
    fallback_reason: str | None = Field(default=None, description="why the fallback answered, if it did")
    vision: dict[str, str] | None = Field(default=None, description="PNG in base64 by channel: seg, gaf, rp")
    seen: SeenBody | None = Field(default=None, description="with vision: what the model was told, and the futures asked for")


def prediction_body(
    prediction: LDM4TSPrediction,
    *,
    levels: Sequence[float] = (),
    with_samples: bool = False,
    width_factors: Mapping[int, float] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    seen: SeenBody | None = None,
    fallback_reason: str | None = None,
) -> PredictionBody:
    """Return a prediction as the API answers it.

    Raises:
        BadRequest: If the samples are too few for a level.
    """
    content = prediction.to_dict(with_samples=with_samples)
    for minutes, horizon in prediction.horizons.items():
        content["horizons"][str(minutes)]["online_width"] = (width_factors or {}).get(minutes)
        if levels:
            content["horizons"][str(minutes)]["quantiles"] = _quantiles(horizon.samples, levels)
    if pictures is not None:
        content["vision"] = {name: b64encode(picture).decode() for name, picture in pictures.items()}
    return PredictionBody.model_validate(content | {"seen": seen, "fallback_reason": fallback_reason})


def check_levels(levels: Sequence[float], num_samples: int) -> None:
    """Raise BadRequest for a quantile that lies beyond what the samples can tell (Weibull's rule)."""
    lowest, highest = 1 / (num_samples + 1), num_samples / (num_samples + 1)
    for position, level in enumerate(levels):
        if not lowest <= level <= highest:
            allowed = f"{lowest:.4g} to {highest:.4g} of {num_samples} samples; ask for more samples"
            raise BadRequest(f"quantiles[{position}]", f"{level:g}", allowed)


def check_futures(futures: int, num_samples: int, *, with_vision: bool) -> None:
    """Raise BadRequest for charts without vision, or for more of them than there are samples."""
    most = num_samples if with_vision else 0
    if futures > most:
        allowed = f"at most {most}, as many as num_samples" if with_vision else "0 without vision"
        raise BadRequest("futures", str(futures), allowed)


def _quantiles(samples: Sequence[float], levels: Sequence[float]) -> dict[str, float]:
    found = np.quantile(np.array(samples), levels, method="weibull")
    return {f"{level:g}": float(value) for level, value in zip(levels, found, strict=True)}


class ForecastsBody(BaseModel):
    """Several forecast requests, each answered for itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: tuple[Any, ...] = Field(
        min_length=1,
        max_length=MAX_REQUESTS,
        description="each as of POST /v1/forecast",
        json_schema_extra={"items": {"$ref": "#/components/schemas/ForecastBody"}},
    )


class AnswerBody(BaseModel):
    """What became of one request: a forecast or a problem."""

    forecast: PredictionBody | None = None
    problem: Problem | None = None


class AnswersBody(BaseModel):
    """The answers, in the order of the requests."""

    answers: list[AnswerBody]


class Health(BaseModel):
    """The service is alive."""

    status: Literal["ok"] = "ok"


class ModelDescription(BaseModel):
    """A model that is loaded and warm."""

    model_version: str
    timeframe: str
    horizons: tuple[int, ...] = Field(description="minutes")


class ModelBody(BaseModel):
    """A model of the registry."""

    version: str
    preset: str
    symbol: str = Field(description="the pair it was trained for, * for several")
    timeframe: str
    is_active: bool
    data_start: datetime
    data_end: datetime
    created_at: datetime
    metrics: dict[str, Any] = Field(description="how it scored when it was trained")


class _RowsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model_version: str | None = Field(default=None, max_length=128, description="only of this model", examples=["ldm4ts-tiny-1h"])
    since: Moment | None = Field(default=None, description="at or after this moment", examples=["2017-11-01T00:00:00Z"])
    until: Moment | None = Field(default=None, description="before this moment", examples=["2024-12-01T00:00:00Z"])
    limit: int = Field(default=100, ge=1, le=1000, description="rows at most, the newest first", examples=[20])


class PredictionsQuery(_RowsQuery):
    """Which stored forecasts."""

    symbol: str | None = Field(default=None, pattern="^[A-Z]{6}$", description="only of this pair", examples=["EURUSD"])
    timeframe: str | None = Field(default=None, max_length=8, description="only from candles of this length", examples=["1h"])
    horizon: int | None = Field(default=None, ge=1, le=2**31 - 1, description="only of this horizon, minutes", examples=[240])


class MinutesQuery(_RowsQuery):
    """Which minutes of inference."""


class StoredPredictionBody(BaseModel):
    """A stored forecast of one horizon; what came of it is null until the horizon has passed."""

    model_config = ConfigDict(from_attributes=True)

    symbol: str
    timeframe: str
    made_at: datetime
    horizon_minutes: int
    model_version: str
    price: float
    mean: float
    std: float
    q05: float
    q50: float
    q95: float
    uncertainty_pct: float
    num_samples: int
    inference_time_ms: float
    target_at: datetime | None
    actual_price: float | None
    error: float | None
    absolute_error: float | None
    inside_90: bool | None
    direction_right: bool | None


class InferenceMinuteBody(BaseModel):
    """A minute of inference of one model on one replica; times are null where every forecast failed."""

    model_config = ConfigDict(from_attributes=True)

    minute: datetime
    model_version: str
    replica: str
    count: int
    errors: int
    average_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
