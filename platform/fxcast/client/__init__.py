"""A typed client of the HTTP API, sync and async.

    from fxcast.client import ForecastClient

    with ForecastClient("http://127.0.0.1:8000") as client:
        prediction = client.forecast(window, horizons=[240], num_samples=200)
        print(prediction.horizons["240"].q05, prediction.model_version)

Every method raises the same errors, all of them an `FxcastError`, and each message ends with the id by which the service's log
knows the request:

    BadRequest           422, 413: a field, what was found and what is allowed
    Unauthorized         401: no valid token
    Forbidden            403: a token without the scope
    NotFound             404: there is no such thing
    Conflict             409: a model that can't be put to use
    ForecastUnavailable  429, 503, or nobody answers; `retry_after_s` if the answer names a pause
    ForecastLate         504, or no answer in time; a ForecastUnavailable
    UnexpectedAnswer     any other status, or an answer that can't be read

What ForecastUnavailable means is asked again, within limits (see `ForecastClient`); the error is that of the last attempt.
"""

from __future__ import annotations

from fxcast.client.asynchronous import AsyncForecastClient
from fxcast.client.frames import candles_of
from fxcast.client.options import ForecastChoices, PredictionsWanted, RowsWanted
from fxcast.client.synchronous import ForecastClient
from fxcast.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    ForecastLate,
    ForecastUnavailable,
    FxcastError,
    NotFound,
    Unauthorized,
    UnexpectedAnswer,
)

__all__ = [
    "AsyncForecastClient",
    "BadRequest",
    "Conflict",
    "Forbidden",
    "ForecastChoices",
    "ForecastClient",
    "ForecastLate",
    "ForecastUnavailable",
    "FxcastError",
    "NotFound",
    "PredictionsWanted",
    "RowsWanted",
    "Unauthorized",
    "UnexpectedAnswer",
    "candles_of",
]
