"""Examples of what the API takes and answers, for OpenAPI.

The forecasts are what a model ldm4ts-tiny-1h answered to the bodies. No example holds a null: FastAPI leaves it out of the
document, and with it the field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.errors import (
    BadCandles,
    BadRequest,
    Conflict,
    DatabaseUnavailable,
    Forbidden,
    ForecastLate,
    ForecastUnavailable,
    ModelUnavailable,
    NotFound,
    Unauthorized,
    Unavailable,
)
from fxcast.serving.middleware import FAILED, TOO_LARGE
from fxcast.serving.problems import problem_of
from fxcast.serving.schemas import Problem

Responses = dict[int | str, dict[str, Any]]  # as FastAPI takes them

MODEL_VERSION = "ldm4ts-tiny-1h"

_REQUEST_ID = "5fb07f5a-3c1e-4c7c-9e53-5b9c1d3e8a41"
_MONDAY = datetime(2024, 3, 4, tzinfo=UTC)


def _candles() -> list[dict[str, Any]]:
    # Two sines: the same on every machine, and in every release of a generator.
    prices = [round(1.085 + 0.0018 * math.sin(hour / 13) + 0.0006 * math.sin(1.9 * hour), 5) for hour in range(CONTEXT_BARS + 1)]
    return [
        {
            "time": f"{_MONDAY + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ}",
            "open": prices[hour],
            "high": round(max(prices[hour : hour + 2]) + 0.0003, 5),
            "low": round(min(prices[hour : hour + 2]) - 0.0003, 5),
            "close": prices[hour + 1],
            "volume": 1500.0 + 25.0 * (hour % 24),
        }
        for hour in range(CONTEXT_BARS)
    ]


_WINDOW: dict[str, Any] = {"symbol": "EURUSD", "timeframe": "1h", "candles": _candles()}
_WHOLE = _WINDOW | {"seed": 7}
_DETAILED = _WINDOW | {"seed": 7, "horizons": [240], "num_samples": 10, "quantiles": [0.25, 0.75], "paths": True}

FORECAST_BODIES: dict[str, Any] = {
    "every horizon": {"value": _WHOLE},
    "one horizon, with further quantiles and the samples": {"value": _DETAILED},
}
FORECASTS_BODIES: dict[str, Any] = {
    "one that is answered, one that is refused": {"value": {"requests": [_WHOLE, _WINDOW | {"horizons": [7]}]}}
}

_MADE: dict[str, Any] = {"symbol": "EURUSD", "timeframe": "1h", "made_at": "2024-03-08T04:00:00Z", "price": 1.08738}


def _horizon(mean: float, std: float, q05: float, q50: float, q95: float) -> dict[str, Any]:
    return {"mean": mean, "std": std, "q05": q05, "q50": q50, "q95": q95, "uncertainty_pct": 100.0 * std / _MADE["price"]}


_FORECAST: dict[str, Any] = {
    **_MADE,
    "horizons": {
        "240": _horizon(1.0873811925209729, 0.0016263969353070222, 1.084461471434931, 1.0875079437883493, 1.0904409530255994),
        "960": _horizon(1.0873901698929513, 0.004750102764706741, 1.0789026385884677, 1.0875752295914909, 1.0950849287463706),
        "3840": _horizon(1.0874183209371084, 0.009202835543178918, 1.065895828726633, 1.0877681631810552, 1.101340047091168),
    },
    "inference_time_ms": 240.09198199928505,
    "num_samples": 50,
    "model_version": MODEL_VERSION,
}
_DETAILED_FORECAST: dict[str, Any] = {
    **_MADE,
    "horizons": {
        "240": {
            **_horizon(1.0873802689474852, 0.0008062137794641392, 1.0861261490471, 1.08743998125501, 1.0889205723065363),
            "quantiles": {"0.25": 1.0867863869883856, "0.75": 1.0878217034138566},
            "samples": [
                *(1.0861261490471, 1.0866033053514914, 1.0868474142006836, 1.0869041735295712, 1.0872918716609303),
                *(1.0875880908490896, 1.0876902230596979, 1.0877279620928366, 1.0881029273769167, 1.0889205723065363),
            ],
        },
    },
    "inference_time_ms": 95.11799400024756,
    "num_samples": 10,
    "model_version": MODEL_VERSION,
}
_MODEL: dict[str, Any] = {
    "version": MODEL_VERSION,
    "preset": "tiny",
    "symbol": "*",
    "timeframe": "1h",
    "is_active": True,
    "data_start": "2007-01-01T21:00:00Z",
    "data_end": "2016-12-28T03:00:00Z",
    "created_at": "2024-03-01T09:30:12.481920Z",
    "metrics": {"validation_crps_skill": 0.0503, "validation_coverage_90": 0.9023},
}
_EARLIER_MODEL = _MODEL | {
    "version": "eurusd-1h-2023",
    "symbol": "EURUSD",
    "is_active": False,
    "created_at": "2023-06-02T07:00:41Z",
}
_STORED: dict[str, Any] = {
    **_MADE,
    **_horizon(1.08772, 0.00163, 1.08479, 1.08785, 1.09078),
    "horizon_minutes": 240,
    "num_samples": 50,
    "inference_time_ms": 251.7,
    "model_version": MODEL_VERSION,
    "target_at": "2024-03-08T08:00:00Z",
    "actual_price": 1.08751,
    "error": -0.00021,
    "absolute_error": 0.00021,
    "inside_90": True,
    "direction_right": True,
}
_MINUTE: dict[str, Any] = {
    "minute": "2024-03-08T04:00:00Z",
    "model_version": MODEL_VERSION,
    "replica": "2nce5vz4",
    "count": 12,
    "errors": 0,
    "average_ms": 251.4,
    "p50_ms": 240.1,
    "p95_ms": 318.7,
    "p99_ms": 340.2,
    "max_ms": 345.6,
}

_SAYS: dict[int, str] = {
    401: "A valid token is needed.",
    403: "The token lacks the scope.",
    404: "There is no such thing.",
    409: "It is not possible as things are.",
    413: "The body is too large.",
    422: "The request was refused: which field, what was found there, and what is allowed.",
    500: "The service failed; its log says why, under the request's id.",
    503: "The service can't answer now; ask again after the seconds of Retry-After.",
    504: "The forecast took longer than the service's `timeout_s`.",
}
_REQUEST_ID_HEADER = {
    "X-Request-ID": {
        "description": "the request's own X-Request-ID, or one that the service gave it; also in the logs",
        "required": True,
        "schema": {"type": "string", "examples": [_REQUEST_ID]},
    }
}
_FURTHER_HEADERS = {
    401: ("WWW-Authenticate", "RFC 6750", ['Bearer realm="fxcast"', 'Bearer realm="fxcast", error="invalid_token"']),
    403: ("WWW-Authenticate", "RFC 6750", ['Bearer realm="fxcast", error="insufficient_scope", scope="forecast"']),
    503: ("Retry-After", "seconds", ["1"]),
}


def _answers(description: str, examples: Mapping[str, object], *errors: Exception | Problem) -> Responses:
    """Return what a route answers: with an example of each kind, and a problem for each error, by status."""
    named = {name: {"value": value} for name, value in examples.items()}
    responses: Responses = {
        200: {"description": description, "headers": _REQUEST_ID_HEADER, "content": {"application/json": {"examples": named}}}
    }
    for problem in sorted((_problem(error) for error in errors), key=lambda each: each.status):
        response = responses.setdefault(problem.status, _refusal(problem.status))
        name = problem.errors[0].field if problem.errors else problem.title
        response["content"]["application/problem+json"]["examples"][name] = {"value": problem.model_dump(mode="json")}
    return responses


def _problem(error: Exception | Problem) -> Problem:
    problem = error if isinstance(error, Problem) else problem_of(error)
    return problem.model_copy(update={"request_id": _REQUEST_ID})


def _refusal(status: int) -> dict[str, Any]:
    headers: dict[str, Any] = dict(_REQUEST_ID_HEADER)
    if status in _FURTHER_HEADERS:
        name, description, examples = _FURTHER_HEADERS[status]
        headers[name] = {"description": description, "required": True, "schema": {"type": "string", "examples": examples}}
    # The model by its name: with `model`, FastAPI would say that the problem comes as application/json too.
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}
    return {"description": _SAYS[status], "headers": headers, "content": content}


def _kept_in(arg: str) -> NotFound:
    return NotFound(arg, "nothing in the args of the service", "a database where it keeps them")


_TOKEN = Unauthorized("Authorization", "a token that is not valid", "Bearer TOKEN, with a valid token of python -m jobs.token")
_GUARDED = (_TOKEN, Forbidden("scope", "report", "forecast"), FAILED)
_QUEUE_FULL = ForecastUnavailable("no forecast: the queue is full")
_LATE = ForecastLate("no forecast within 20 s")
_OFF_GRID = BadCandles("candles[3].time", "2024-03-04T03:30:00+00:00", "open times on the 1h grid")
_HORIZON = BadRequest("horizons", "7", "any of [240, 960, 3840] minutes")
_LIMIT = BadRequest("limit", "'5000'", "Input should be less than or equal to 1000")
_DATABASE = DatabaseUnavailable("the database sqlite:///runs/fxcast.db does not answer (OperationalError)")
_ONE_OF_EACH = {"answers": [{"forecast": _FORECAST}, {"problem": problem_of(_HORIZON).model_dump(mode="json", exclude_none=True)}]}

# By route.
FORECAST = _answers(
    "The forecast, of the model or of the fallback that was allowed.",
    dict(zip(FORECAST_BODIES, (_FORECAST, _DETAILED_FORECAST), strict=True)),
    *(*_GUARDED, TOO_LARGE, _OFF_GRID, _HORIZON, _QUEUE_FULL, _LATE),
)
FORECASTS = _answers(
    "A forecast or a problem for each request, in their order.",
    dict(zip(FORECASTS_BODIES, (_ONE_OF_EACH,), strict=True)),
    *(*_GUARDED, TOO_LARGE, BadRequest("requests", "65", "at most 64"), Unavailable("the access tokens have not been read yet")),
)
LATEST_FORECAST = _answers(
    "The forecast, of the model or of the fallback that was allowed.",
    {"every horizon": _FORECAST},
    *(*_GUARDED, BadCandles("series", "GBPUSD 1h", "EURUSD 1h"), _HORIZON, _QUEUE_FULL, _LATE),
)
MODELS = _answers(
    "The models, newest first.",
    {"two models": [_MODEL, _EARLIER_MODEL]},
    *_GUARDED,
    Conflict("the service was started with the folder /srv/models/ldm4ts-tiny-1h, and uses no registry"),
    ModelUnavailable("the model registry has not answered yet"),
)
ACTIVATE = _answers(
    "The model, which is in use now.",
    {"the model": _MODEL},
    *(_TOKEN, Forbidden("scope", "forecast", "admin"), FAILED, _QUEUE_FULL, _LATE),
    NotFound("version", "eurusd-1h-2022", f"a version of the registry; the newest are {MODEL_VERSION}, eurusd-1h-2023"),
    Conflict("eurusd-1h-2023 stays out of use: model folder /srv/models/eurusd-1h-2023: there is no such folder"),
    BadRequest("timeframe", "1h", "5m, the timeframes of model eurusd-5m-2023"),
)
PREDICTIONS = _answers(
    "The forecasts, one row a horizon.",
    {"one whose outcome is known": [_STORED]},
    *(*_GUARDED, _kept_in("predictions_database_url"), _LIMIT, _DATABASE),
)
INFERENCE_METRICS = _answers(
    "The minutes.", {"one minute": [_MINUTE]}, *(*_GUARDED, _kept_in("metrics_database_url"), _LIMIT, _DATABASE)
)
HEALTH = _answers("It is alive.", {"alive": {"status": "ok"}})
READY = _answers(
    "A model is loaded and warm.",
    {"the model": {"model_version": MODEL_VERSION, "timeframe": "1h", "horizons": [240, 960, 3840]}},
    *(FAILED, ForecastUnavailable("the model does not answer: no answer in time"), _LATE),
)
