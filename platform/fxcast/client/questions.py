"""What each method asks over HTTP, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import numpy as np
from pydantic import TypeAdapter
from pydantic_core import to_json

from fxcast.client.options import ForecastChoices, PredictionsWanted, RowsWanted
from fxcast.domain.candle import COLUMNS, CandleSeries
from fxcast.serving.schemas import (
    AnswersBody,
    Health,
    InferenceMinuteBody,
    ModelBody,
    ModelDescription,
    PredictionBody,
    Problem,
    StoredPredictionBody,
)

Answer = TypeVar("Answer")

# A window, or a window with options of its own.
Window = CandleSeries | tuple[CandleSeries, ForecastChoices]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[Answer]):
    """One request of the API.

    Each may be sent twice: a forecast follows from its seed and candles, and is kept once; a model that is put to use a second
    time stays in use; the rest only reads. A route of which this is not so must not be asked again after a lost answer.

    Attributes:
        path: Quoted, below the base address.
        query: By name; a list is repeated.
        content: JSON, if the method has a body.
        read: Makes the answer of a body; raises ValueError for one of another shape.
    """

    method: str
    path: str
    read: Callable[[bytes], Answer]
    query: Mapping[str, str | list[str]] = field(default_factory=dict[str, "str | list[str]"])
    content: bytes | None = None


def forecast(window: CandleSeries, options: ForecastChoices) -> Question[PredictionBody]:
    """Ask for a forecast from a window."""
    return Question(
        method="POST", path="/v1/forecast", content=_json(_forecast_body(window, options)), read=PredictionBody.model_validate_json
    )


def forecasts(windows: Sequence[Window], options: ForecastChoices) -> Question[list[PredictionBody | Problem]]:
    """Ask for forecasts from several windows; a window's own options win over the common ones."""
    requests: list[dict[str, Any]] = []
    for window in windows:
        series, own = window if isinstance(window, tuple) else (window, ForecastChoices())
        requests.append(_forecast_body(series, {**options, **own}))

    def read(content: bytes) -> list[PredictionBody | Problem]:
        answers = [each.forecast or each.problem for each in AnswersBody.model_validate_json(content).answers]
        whole = [answer for answer in answers if answer is not None]
        if len(whole) != len(requests):
            raise ValueError(f"{len(whole)} answers to {len(requests)} windows")
        return whole

    return Question(method="POST", path="/v1/forecasts", content=_json({"requests": requests}), read=read)


def latest_forecast(symbol: str, timeframe: str, options: ForecastChoices) -> Question[PredictionBody]:
    """Ask for a forecast from the last candles of the service's own store."""
    path = f"/v1/forecast/{_quoted(symbol)}/{_quoted(timeframe)}"
    return Question(method="GET", path=path, query=_query(options), read=PredictionBody.model_validate_json)


def models() -> Question[list[ModelBody]]:
    """Ask for the models of the registry."""
    return Question(method="GET", path="/v1/models", read=TypeAdapter(list[ModelBody]).validate_json)


def activate(version: str) -> Question[ModelBody]:
    """Ask to put a model to use."""
    return Question(method="POST", path=f"/v1/models/{_quoted(version)}/activate", read=ModelBody.model_validate_json)


def predictions(wanted: PredictionsWanted) -> Question[list[StoredPredictionBody]]:
    """Ask for stored forecasts."""
    return Question(
        method="GET", path="/v1/predictions", query=_query(wanted), read=TypeAdapter(list[StoredPredictionBody]).validate_json
    )


def inference_metrics(wanted: RowsWanted) -> Question[list[InferenceMinuteBody]]:
    """Ask for minutes of inference."""
    return Question(
        method="GET", path="/v1/metrics/inference", query=_query(wanted), read=TypeAdapter(list[InferenceMinuteBody]).validate_json
    )


def health() -> Question[Health]:
    """Ask whether the API is alive."""
    return Question(method="GET", path="/healthz", read=Health.model_validate_json)


def ready() -> Question[ModelDescription]:
    """Ask which model is loaded and warm."""
    return Question(method="GET", path="/readyz", read=ModelDescription.model_validate_json)


def _forecast_body(window: CandleSeries, options: ForecastChoices) -> dict[str, Any]:
    times = np.datetime_as_string(window.open_times, unit="s")
    candles = [
        {"time": f"{time}Z", **dict(zip(COLUMNS, row, strict=True))}
        for time, row in zip(times, window.values.tolist(), strict=True)
    ]
    return {**options, "symbol": window.symbol, "timeframe": window.timeframe.name, "candles": candles}


def _json(content: object) -> bytes:
    # NaN stays NaN, which the API refuses by the field's name; null would pass for "not given".
    return to_json(content, inf_nan_mode="constants")


def _query(wanted: Mapping[str, object]) -> dict[str, str | list[str]]:
    return {name: _query_value(value) for name, value in wanted.items() if value is not None}


def _query_value(value: object) -> str | list[str]:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat()
        case str():
            return value
        case Sequence():
            return [str(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return str(value)


def _quoted(part: str) -> str:
    return quote(part, safe="")
