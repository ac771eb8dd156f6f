"""The last forecasts whose outcome is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select

from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tables import PredictionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastKind:
    """What a forecast is of: a model's pair, timeframe and horizon in minutes of the market's open time."""

    model_version: str
    symbol: str
    timeframe: str
    horizon_minutes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentForecast:
    """A forecast and what became of it; prices in quote currency, `samples` empty if none were kept."""

    made_at: datetime
    price: float
    q05: float
    q50: float
    q95: float
    actual_price: float
    direction_right: bool | None
    samples: tuple[float, ...]


def recent_forecasts(engine: Engine, kind: ForecastKind, *, limit: int) -> tuple[RecentForecast, ...]:
    """Return the last forecasts of a kind whose outcome is known, oldest first: those that `update_quality` scores.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row = PredictionRow
    query = (
        select(row.made_at, row.price, row.q05, row.q50, row.q95, row.actual_price, row.direction_right, row.samples)
        .where(
            row.model_version == kind.model_version,
            row.symbol == kind.symbol,
            row.timeframe == kind.timeframe,
            row.horizon_minutes == kind.horizon_minutes,
            row.resolved_at.is_not(None),
        )
        .order_by(row.made_at.desc(), row.id.desc())
        .limit(limit)
    )
    with answered(engine), engine.connect() as connection:
        found = connection.execute(query).all()
    return tuple(
        RecentForecast(
            made_at=each.made_at,
            price=each.price,
            q05=each.q05,
            q50=each.q50,
            q95=each.q95,
            actual_price=each.actual_price,
            direction_right=each.direction_right,
            samples=tuple(each.samples or ()),
        )
        for each in reversed(found)
    )
