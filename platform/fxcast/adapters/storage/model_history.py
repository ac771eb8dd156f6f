"""What is kept of models over time: which have forecast, what they were asked for, and how their scores moved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.recent import ForecastKind
from fxcast.adapters.storage.tables import ModelQualityRow, PredictionRow

_LOOKED_AT = 5_000  # last forecasts of a model, which tell what it is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPoint:
    """What the last forecasts of a kind were worth at a moment.

    Attributes:
        forecasts: How many were scored.
        coverage_90: Share of outcomes inside [q05, q95].
        log_width: Of the online calibration; 0 changes nothing.
    """

    as_of: datetime
    forecasts: int
    coverage_90: float
    log_width: float


def models_that_forecast(engine: Engine) -> dict[str, datetime]:
    """Return every model version that has a forecast stored, with the moment of its last one.

    Jumps from version to version in the index: the table may hold millions of rows, and this is read whenever one is added.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row, found, last = PredictionRow, dict[str, datetime](), ""
    with answered(engine), Session(engine) as session:
        while True:
            version = session.scalar(select(func.min(row.model_version)).where(row.model_version > last))
            if version is None:
                return found
            made_at = session.scalar(select(func.max(row.made_at)).where(row.model_version == version))
            if made_at is not None:
                found[version] = made_at
            last = version


def forecast_kinds(engine: Engine, model_version: str) -> tuple[ForecastKind, ...]:
    """Return what a model was asked for lately, and what it was ever scored on, in the order of pair, timeframe and horizon.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row, quality = PredictionRow, ModelQualityRow
    last = (
        select(row.symbol, row.timeframe, row.horizon_minutes)
        .where(row.model_version == model_version)
        .order_by(row.made_at.desc())
        .limit(_LOOKED_AT)
        .subquery()
    )
    scored = select(quality.symbol, quality.timeframe, quality.horizon_minutes).where(quality.model_version == model_version)
    with answered(engine), Session(engine) as session:
        found = {
            (symbol, timeframe, minutes)
            for query in (select(last).distinct(), scored.distinct())
            for symbol, timeframe, minutes in session.execute(query)
        }
    return tuple(
        ForecastKind(model_version=model_version, symbol=symbol, timeframe=timeframe, horizon_minutes=minutes)
        for symbol, timeframe, minutes in sorted(found)
    )


def quality_history(engine: Engine, kind: ForecastKind, *, points: int) -> tuple[QualityPoint, ...]:
    """Return a kind's scores over all time, oldest first; of more than `points` every second one, or third, and always the newest.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row = ModelQualityRow
    mine = (
        row.model_version == kind.model_version,
        row.symbol == kind.symbol,
        row.timeframe == kind.timeframe,
        row.horizon_minutes == kind.horizon_minutes,
    )
    place = func.row_number().over(order_by=row.as_of.desc()).label("place")
    numbered = select(row.as_of, row.forecasts, row.coverage_90, row.log_width, place).where(*mine).subquery()
    column = numbered.c
    with answered(engine), Session(engine) as session:
        count = session.scalar(select(func.count()).select_from(row).where(*mine)) or 0
        step = max(1, -(-count // points))
        kept = (
            select(column.as_of, column.forecasts, column.coverage_90, column.log_width)
            .where((column.place - 1) % step == 0)
            .order_by(column.as_of)
        )
        return tuple(
            QualityPoint(as_of=as_of, forecasts=forecasts, coverage_90=coverage, log_width=width)
            for as_of, forecasts, coverage, width in session.execute(kept)
        )
