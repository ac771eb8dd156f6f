"""The last forecasts whose outcome is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select

from fxcast.adapters.storage.tables import PredictionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentForecast:
    """A forecast with its outcome, as far as scoring it against a random walk needs; `samples` are empty if none were kept."""

    made_at: datetime
    price: float
    actual_price: float
    samples: tuple[float, ...]


def recent_forecasts(
    engine: Engine, *, model_version: str, symbol: str, timeframe: str, horizon_minutes: int, limit: int
) -> tuple[RecentForecast, ...]:
    """Return the last resolved forecasts of a model, series and horizon, oldest first: those that `update_quality` scores."""
    row = PredictionRow
    query = (
        select(row.made_at, row.price, row.actual_price, row.samples)
        .where(
            row.model_version == model_version,
            row.symbol == symbol,
            row.timeframe == timeframe,
            row.horizon_minutes == horizon_minutes,
            row.resolved_at.is_not(None),
        )
        .order_by(row.made_at.desc(), row.id.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        found = connection.execute(query).all()
    return tuple(
        RecentForecast(made_at=each.made_at, price=each.price, actual_price=each.actual_price, samples=tuple(each.samples or ()))
        for each in reversed(found)
    )
