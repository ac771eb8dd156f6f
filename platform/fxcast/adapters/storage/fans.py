"""Forecasts as a chart shows them: the newest one of a model, and earlier ones with what happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tables import PredictionRow
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe

_NEWEST = 20_000  # rows of a series among which its models are looked for: all of them may be millions
_HORIZONS = 64  # of one forecast, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastingModel:
    """A model with forecasts of a series, and the horizons that are stored of it, ascending."""

    version: str
    horizons_minutes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PastForecast:
    """A forecast of one horizon; the last three are None until its outcome is known."""

    made_at: datetime
    mean: float
    q05: float
    q95: float
    target_at: datetime | None
    actual_price: float | None
    inside_90: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastForecasts:
    """The forecasts of a period, oldest first, and how they ended.

    Attributes:
        forecasts: All of them; evenly chosen ones where they are many.
        made: How many there are.
        resolved: How many of those have an outcome.
        inside: How many of these ended inside the 90 % interval.
    """

    forecasts: tuple[PastForecast, ...]
    made: int
    resolved: int
    inside: int


def forecasting_models(engine: Engine, *, symbol: str, timeframe: str) -> tuple[ForecastingModel, ...]:
    """Return the models of the newest 20,000 forecasts of a series, the one that made the newest first.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row = PredictionRow
    newest = (
        select(row.model_version, row.horizon_minutes, row.made_at)
        .where(row.symbol == symbol, row.timeframe == timeframe)
        .order_by(row.made_at.desc())
        .limit(_NEWEST)
        .subquery()
    )
    query = select(newest.c.model_version, newest.c.horizon_minutes, func.max(newest.c.made_at)).group_by(
        newest.c.model_version, newest.c.horizon_minutes
    )
    with answered(engine), engine.connect() as connection:
        found = connection.execute(query).all()
    horizons: dict[str, list[int]] = {}
    for version, minutes, _ in sorted(found, key=lambda each: each[2], reverse=True):
        horizons.setdefault(version, []).append(minutes)
    return tuple(ForecastingModel(version=version, horizons_minutes=tuple(sorted(all_))) for version, all_ in horizons.items())


def newest_forecast(
    engine: Engine, *, symbol: str, timeframe: Timeframe, model_version: str, until: datetime | None = None
) -> LDM4TSPrediction | None:
    """Return the newest forecast of a model made at or before a moment, with its samples; None if there is none.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row = PredictionRow
    mine = [row.symbol == symbol, row.timeframe == timeframe.name, row.model_version == model_version]
    newest = select(row.made_at).where(*mine, *([] if until is None else [row.made_at <= until]))
    newest = newest.order_by(row.made_at.desc()).limit(1).scalar_subquery()
    query = select(row).where(*mine, row.made_at == newest).order_by(row.horizon_minutes, row.id.desc()).limit(_HORIZONS)
    with answered(engine), Session(engine) as session:
        rows = session.scalars(query).all()
    if not rows:
        return None
    horizons = {
        each.horizon_minutes: HorizonForecast(
            mean=each.mean, std=each.std, q05=each.q05, q50=each.q50, q95=each.q95, samples=tuple(each.samples or ())
        )
        for each in rows[::-1]  # of one horizon asked for twice, with other numbers of samples, the later one
    }
    first = rows[0]
    return LDM4TSPrediction(
        symbol=symbol,
        timeframe=timeframe,
        made_at=first.made_at,
        price=first.price,
        horizons=dict(sorted(horizons.items())),
        inference_time_ms=first.inference_time_ms,
        num_samples=first.num_samples,
        model_version=model_version,
    )


def past_forecasts(
    engine: Engine,
    *,
    symbol: str,
    timeframe: str,
    model_version: str,
    horizon_minutes: int,
    since: datetime,
    until: datetime,
    at_most: int,
) -> PastForecasts:
    """Return the forecasts of one horizon made from `since` to before `until`; if they are too many, evenly chosen ones.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row = PredictionRow
    wanted: list[ColumnElement[bool]] = [
        row.symbol == symbol,
        row.timeframe == timeframe,
        row.model_version == model_version,
        row.horizon_minutes == horizon_minutes,
        row.made_at >= since,
        row.made_at < until,
    ]
    resolved = row.resolved_at.is_not(None)
    counting = select(func.count(), func.count().filter(resolved), func.count().filter(resolved, row.inside_90.is_(True))).where(
        *wanted
    )
    columns = (row.made_at, row.mean, row.q05, row.q95, row.target_at, row.actual_price, row.inside_90)
    with answered(engine), engine.connect() as connection:
        made, with_outcome, inside = connection.execute(counting).one()
        numbered = select(*columns, func.row_number().over(order_by=(row.made_at, row.id)).label("place")).where(*wanted).subquery()
        every = max(1, -(-made // at_most))
        query = select(*numbered.c).where(numbered.c.place % every == 0 if every > 1 else numbered.c.place > 0)
        found = connection.execute(query.order_by(numbered.c.place)).all()
    forecasts = tuple(
        PastForecast(
            made_at=each.made_at,
            mean=each.mean,
            q05=each.q05,
            q95=each.q95,
            target_at=each.target_at,
            actual_price=each.actual_price,
            inside_90=each.inside_90,
        )
        for each in found
    )
    return PastForecasts(forecasts=forecasts, made=made, resolved=with_outcome, inside=inside)
