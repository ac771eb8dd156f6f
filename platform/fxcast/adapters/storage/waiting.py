"""Forecasts whose outcome is not known yet."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Engine, func, select

from fxcast.adapters.storage.tables import PredictionRow
from fxcast.domain.timeframe import Timeframe


def forecast_series(engine: Engine) -> tuple[tuple[str, Timeframe], ...]:
    """Return the series that were ever forecast, by symbol and then the shortest candles first."""
    return _series(engine, only_waiting=False)


def waiting_series(engine: Engine) -> tuple[tuple[str, Timeframe], ...]:
    """Return the series of which a forecast waits for its outcome, in the same order."""
    return _series(engine, only_waiting=True)


def waiting_forecasts(engine: Engine, symbol: str, timeframe: Timeframe) -> tuple[tuple[datetime, int], ...]:
    """Return when forecasts that wait for their outcome were made, and their horizons in minutes; one for each of both."""
    query = select(PredictionRow.made_at, PredictionRow.horizon_minutes).where(*_waiting(symbol, timeframe)).distinct()
    with engine.connect() as connection:
        return tuple((row.made_at, row.horizon_minutes) for row in connection.execute(query))


def count_waiting(engine: Engine, symbol: str, timeframe: Timeframe) -> int:
    """Return how many forecasts of a series wait, each horizon counted, and each model."""
    query = select(func.count()).select_from(PredictionRow).where(*_waiting(symbol, timeframe))
    with engine.connect() as connection:
        return connection.scalar(query) or 0


def _waiting(symbol: str, timeframe: Timeframe) -> tuple[ColumnElement[bool], ...]:
    return (PredictionRow.resolved_at.is_(None), PredictionRow.symbol == symbol, PredictionRow.timeframe == timeframe.name)


def _series(engine: Engine, *, only_waiting: bool) -> tuple[tuple[str, Timeframe], ...]:
    query = select(PredictionRow.symbol, PredictionRow.timeframe).distinct()
    if only_waiting:
        query = query.where(PredictionRow.resolved_at.is_(None))
    with engine.connect() as connection:
        found = [(row.symbol, Timeframe(row.timeframe)) for row in connection.execute(query)]
    return tuple(sorted(found, key=lambda each: (each[0], each[1].minutes)))
