"""What a caller may say of a forecast or a list, by the API's own names; the API checks it and says what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict

from fxcast.serving.schemas import Fallback


class ForecastChoices(TypedDict, total=False):
    """Options of a forecast.

    Attributes:
        horizons: Minutes; all of the model's by default.
        num_samples: Monte-Carlo samples, 50 by default.
        seed: The same seed and candles give the same answer; 0 by default.
        quantiles: Levels of further quantiles.
        paths: Whether the samples themselves are answered.
        vision: Whether the pictures that the model sees are answered, and what it is told beside them.
        futures: With `vision`, how many of the samples are answered with their prices and as charts.
        model_version: Which model is asked; the active one by default.
        fallback: Who answers when it is missing or broken; nobody by default.
    """

    horizons: Sequence[int]
    num_samples: int
    seed: int
    quantiles: Sequence[float]
    paths: bool
    vision: bool
    futures: int
    model_version: str
    fallback: Fallback


class RowsWanted(TypedDict, total=False):
    """Which rows of a list.

    Attributes:
        since: At or after this moment, with a time zone.
        until: Before this moment, with a time zone.
        limit: Rows at most, the newest first; 100 by default.
    """

    model_version: str
    since: datetime
    until: datetime
    limit: int


class PredictionsWanted(RowsWanted, total=False):
    """Which stored forecasts.

    Attributes:
        horizon: Minutes.
    """

    symbol: str
    timeframe: str
    horizon: int
