"""Forecasts as they were made, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, bindparam, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.tables import InferenceMinuteRow, PredictionRow
from fxcast.domain.candle import CandleSeries, TimeArray, to_datetime, to_datetime64
from fxcast.domain.forecast import LDM4TSPrediction

_PREDICTION_KEY = ("symbol", "timeframe", "made_at", "horizon_minutes", "model_version", "num_samples")
_MINUTE_KEY = ("minute", "model_version", "replica")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedForecast:
    """A forecast of one horizon whose outcome is known; prices in quote currency, `samples` empty if none were kept."""

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
    samples: tuple[float, ...]
    target_at: datetime
    actual_price: float
    inside_90: bool
    direction_right: bool | None  # None when the forecast took no side, or the market did not move


def insert_predictions(connection: Connection, predictions: Iterable[LDM4TSPrediction]) -> None:
    """Store forecasts inside the caller's transaction; one that is there already stays as it is, with its outcome."""
    rows = [
        {
            "symbol": prediction.symbol,
            "timeframe": prediction.timeframe.name,
            "made_at": prediction.made_at,
            "horizon_minutes": horizon_minutes,
            "price": prediction.price,
            "mean": horizon.mean,
            "std": horizon.std,
            "q05": horizon.q05,
            "q50": horizon.q50,
            "q95": horizon.q95,
            "samples": list(horizon.samples) or None,
            "uncertainty_pct": prediction.uncertainty_pct(horizon_minutes),
            "inference_time_ms": prediction.inference_time_ms,
            "num_samples": prediction.num_samples,
            "model_version": prediction.model_version,
        }
        for prediction in predictions
        for horizon_minutes, horizon in prediction.horizons.items()
    ]
    if rows:
        connection.execute(insert_into(connection, PredictionRow).on_conflict_do_nothing(index_elements=_PREDICTION_KEY), rows)


def record_predictions(engine: Engine, predictions: Sequence[LDM4TSPrediction]) -> None:
    """Store forecasts in one transaction; the same again change nothing."""
    with writing(engine).begin() as connection:
        insert_predictions(connection, predictions)


def resolve_outcomes(engine: Engine, series: CandleSeries, *, spread: float) -> int:
    """Fill in what became of the forecasts whose outcome a series holds.

    The outcome is the close of the candle that many bars after the one that closed at `made_at`, in this series: the
    market's open time, not the clock. Forecasts whose candle or whose outcome is not in the series stay open. The series
    must have no holes of its own: a candle that is missing from it moves the outcome.

    Args:
        spread: In quote currency; a mean within half of it around the price takes no side. (Without it a forecast of a
            driftless walk would always be bullish: the mean of a log-normal law lies above its median.)

    Returns:
        How many forecasts were resolved.
    """
    if len(series) == 0:
        return 0
    close_times = series.close_times
    resolved_at = datetime.now(UTC)
    pending = select(
        PredictionRow.id,
        PredictionRow.made_at,
        PredictionRow.horizon_minutes,
        PredictionRow.price,
        PredictionRow.mean,
        PredictionRow.q05,
        PredictionRow.q95,
    ).where(
        PredictionRow.resolved_at.is_(None),
        PredictionRow.symbol == series.symbol,
        PredictionRow.timeframe == series.timeframe.name,
        PredictionRow.made_at.between(to_datetime(close_times[0]), to_datetime(close_times[-1])),
    )
    with writing(engine).begin() as connection:
        outcomes: list[dict[str, Any]] = []
        for row in connection.execute(pending):
            target = _target_index(close_times, row.made_at, series.timeframe.bars(row.horizon_minutes))
            if target is not None:
                actual = float(series.closes[target])
                outcomes.append(
                    {
                        "row_id": row.id,
                        "target_at": to_datetime(close_times[target]),
                        "actual_price": actual,
                        "error": actual - row.mean,
                        "absolute_error": abs(actual - row.mean),
                        "inside_90": row.q05 <= actual <= row.q95,
                        "direction_right": _direction_right(row.mean - row.price, actual - row.price, spread),
                        "resolved_at": resolved_at,
                    }
                )
        if outcomes:
            columns = {name: bindparam(name) for name in outcomes[0] if name != "row_id"}
            table = PredictionRow.__table__
            connection.execute(update(PredictionRow).where(table.c.id == bindparam("row_id")).values(columns), outcomes)
    return len(outcomes)


def resolved_forecasts(engine: Engine, *, model_version: str | None = None) -> tuple[ResolvedForecast, ...]:
    """Return the forecasts whose outcome is known, oldest first, then by symbol, timeframe and horizon."""
    query = select(PredictionRow).where(PredictionRow.resolved_at.is_not(None))
    if model_version is not None:
        query = query.where(PredictionRow.model_version == model_version)
    query = query.order_by(
        PredictionRow.made_at, PredictionRow.symbol, PredictionRow.timeframe, PredictionRow.horizon_minutes, PredictionRow.id
    )
    with Session(engine) as session:
        return tuple(_resolved(row) for row in session.scalars(query))


def list_predictions(
    engine: Engine,
    *,
    symbol: str | None = None,
    timeframe: str | None = None,
    horizon: int | None = None,
    model_version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
) -> tuple[PredictionRow, ...]:
    """Return stored forecasts made from `since` to before `until`, newest first, then by horizon; at most `limit` rows."""
    query = select(PredictionRow)
    for column, wanted in (
        (PredictionRow.symbol, symbol),
        (PredictionRow.timeframe, timeframe),
        (PredictionRow.horizon_minutes, horizon),
        (PredictionRow.model_version, model_version),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    query = query.where(*_within(PredictionRow.made_at, since, until)).order_by(
        PredictionRow.made_at.desc(), PredictionRow.horizon_minutes, PredictionRow.id
    )
    with Session(engine) as session:
        return tuple(session.scalars(query.limit(limit)))


def list_inference_minutes(
    engine: Engine,
    *,
    model_version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
) -> tuple[InferenceMinuteRow, ...]:
    """Return minutes of inference from `since` to before `until`, newest first; at most `limit` rows."""
    query = select(InferenceMinuteRow)
    if model_version is not None:
        query = query.where(InferenceMinuteRow.model_version == model_version)
    query = query.where(*_within(InferenceMinuteRow.minute, since, until))
    with Session(engine) as session:
        return tuple(session.scalars(query.order_by(InferenceMinuteRow.minute.desc(), InferenceMinuteRow.id).limit(limit)))


def inference_times_ms(engine: Engine, *, model_version: str) -> list[float]:
    """Return how long each stored forecast of a model took, oldest first; one number a forecast, whatever its horizons."""
    query = (
        select(PredictionRow.symbol, PredictionRow.timeframe, PredictionRow.made_at, PredictionRow.inference_time_ms)
        .where(PredictionRow.model_version == model_version)
        .distinct()
        .order_by(PredictionRow.made_at)
    )
    with Session(engine) as session:
        return [row.inference_time_ms for row in session.execute(query)]


def record_inference_minute(
    engine: Engine,
    *,
    minute: datetime,
    model_version: str,
    latencies_ms: Iterable[float],
    errors: int,
    replica: str = "",
) -> None:
    """Store one minute of inference; the same minute, model and replica again replaces what was stored.

    Args:
        minute: Start of the minute; seconds are cut off.
        latencies_ms: Of the forecasts that were answered.
        errors: Forecasts that failed.
        replica: Which replica measured, where several serve one model.
    """
    latencies = np.fromiter(latencies_ms, dtype=np.float64)
    measured: dict[str, float | None] = dict.fromkeys(("average_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
    if len(latencies):
        p50, p95, p99 = (float(value) for value in np.percentile(latencies, (50, 95, 99)))
        measured = {"average_ms": float(latencies.mean()), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
        measured["max_ms"] = float(latencies.max())
    values = {"count": len(latencies), "errors": errors, **measured}
    key = {"minute": minute.replace(second=0, microsecond=0), "model_version": model_version, "replica": replica}
    with writing(engine).begin() as connection:
        insert = insert_into(connection, InferenceMinuteRow).values(**key, **values)
        connection.execute(insert.on_conflict_do_update(index_elements=_MINUTE_KEY, set_=values))


def _within(column: InstrumentedAttribute[datetime], since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    return [*([] if since is None else [column >= since]), *([] if until is None else [column < until])]


def _target_index(close_times: TimeArray, made_at: datetime, horizon_bars: int) -> int | None:
    moment = to_datetime64(made_at)
    known = int(np.searchsorted(close_times, moment))
    target = known + horizon_bars
    if target >= len(close_times) or close_times[known] != moment:
        return None
    return target


def _direction_right(forecast_move: float, actual_move: float, spread: float) -> bool | None:
    if abs(forecast_move) <= spread / 2 or actual_move == 0:
        return None
    return (forecast_move > 0) == (actual_move > 0)


def _resolved(row: PredictionRow) -> ResolvedForecast:
    assert row.target_at is not None, "resolved without an outcome time"
    assert row.actual_price is not None, "resolved without an outcome"
    assert row.inside_90 is not None, "resolved without a verdict on the interval"
    return ResolvedForecast(
        symbol=row.symbol,
        timeframe=row.timeframe,
        made_at=row.made_at,
        horizon_minutes=row.horizon_minutes,
        model_version=row.model_version,
        price=row.price,
        mean=row.mean,
        std=row.std,
        q05=row.q05,
        q50=row.q50,
        q95=row.q95,
        samples=tuple(row.samples or ()),
        target_at=row.target_at,
        actual_price=row.actual_price,
        inside_90=row.inside_90,
        direction_right=row.direction_right,
    )
