"""What served models were worth lately, and the widths that their online calibrations have come to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, and_, func, select

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.tables import ModelQualityRow, PredictionRow
from fxcast.domain.timeframe import Timeframe
from fxcast.evaluation.rolling_quality import RollingQuality, rolling_quality
from fxcast.models.learned_width import KnownOutcome, LearnedWidth

# Below, the law's 5 % quantile lies outside the samples: [q05, q95] is then too narrow by itself, and would teach widths that
# forecasts of more samples don't need.
MIN_SAMPLES = 19

_KEY = ("model_version", "symbol", "timeframe", "horizon_minutes")
_Key = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuality:
    """A model's last `window` forecasts of one series and horizon, and its online calibration, as known at `as_of`."""

    model_version: str
    symbol: str
    timeframe: str
    horizon_minutes: int
    as_of: datetime
    window: int
    scores: RollingQuality
    learned: LearnedWidth


def update_quality(engine: Engine, symbol: str, timeframe: Timeframe, *, window: int, pip: float, calibrates: bool = True) -> int:
    """Score the last resolved forecasts of every model and horizon of a series, and let their online calibrations learn.

    Each model and horizon is one transaction; killed in between, the next call goes on. Without new outcomes nothing changes.

    Args:
        window: How many of the last forecasts to score, 1 or more.
        pip: Size of a pip in price.
        calibrates: Whether the widths follow the outcomes. To be left off where forecasts are given out as the model makes them: a
            width that mends nothing would follow their misses to its bound.

    Returns:
        How many rows were written.
    """
    with engine.connect() as connection:
        resolved = select(PredictionRow.model_version, PredictionRow.horizon_minutes).where(
            PredictionRow.resolved_at.is_not(None), PredictionRow.symbol == symbol, PredictionRow.timeframe == timeframe.name
        )
        keys = [(row.model_version, symbol, timeframe.name, row.horizon_minutes) for row in connection.execute(resolved.distinct())]
    written = 0
    for key in sorted(keys):
        with writing(engine).begin() as connection:
            before = next(iter(_newest(connection, _is(ModelQualityRow, key))), None)
            learned = LearnedWidth() if before is None else before.learned
            if calibrates:
                learned = _learned(connection, key, learned)
            now = _scored(connection, key, window, pip, before, learned)
            if now != before:
                _write(connection, now)
                written += 1
    return written


def newest_quality(engine: Engine, *, model_version: str | None = None) -> tuple[ModelQuality, ...]:
    """Return the newest row of every model, series and horizon, in the order of these."""
    wanted = [] if model_version is None else [ModelQualityRow.model_version == model_version]
    with engine.connect() as connection:
        return _newest(connection, wanted)


def width_factors(
    engine: Engine,
    *,
    model_version: str,
    symbol: str,
    timeframe: str,
    horizons_minutes: Iterable[int],
    at: datetime | None = None,
) -> dict[int, float]:
    """Return by horizon what to multiply the spread of a model's log moves by; 1.0 where nothing is known.

    Args:
        at: When the forecast is made, the close of its last candle: no outcome that became known later has a part in it. By default
            the newest factors, whatever they know.
    """
    wanted = [
        ModelQualityRow.model_version == model_version,
        ModelQualityRow.symbol == symbol,
        ModelQualityRow.timeframe == timeframe,
    ]
    if at is not None:
        wanted.append(ModelQualityRow.as_of <= at)
    with engine.connect() as connection:
        known = {each.horizon_minutes: each.learned.factor for each in _newest(connection, wanted)}
    return {minutes: known.get(minutes, 1.0) for minutes in horizons_minutes}


def _is(table: type[ModelQualityRow | PredictionRow], key: _Key) -> list[ColumnElement[bool]]:
    return [getattr(table, name) == value for name, value in zip(_KEY, key, strict=True)]


def _newest(connection: Connection, wanted: Sequence[ColumnElement[bool]]) -> tuple[ModelQuality, ...]:
    table = ModelQualityRow.__table__
    key = [table.c[name] for name in _KEY]
    newest = select(*key, func.max(table.c.as_of).label("as_of")).where(*wanted).group_by(*key).subquery()
    same = [table.c[name] == newest.c[name] for name in (*_KEY, "as_of")]
    rows = connection.execute(select(table).join(newest, onclause=and_(*same)).order_by(*key))
    return tuple(
        ModelQuality(
            **{name: getattr(row, name) for name in (*_KEY, "as_of", "window")},
            scores=RollingQuality(**{each.name: getattr(row, each.name) for each in fields(RollingQuality)}),
            learned=LearnedWidth(**{each.name: getattr(row, each.name) for each in fields(LearnedWidth)}),
        )
        for row in rows
    )


def _learned(connection: Connection, key: _Key, before: LearnedWidth) -> LearnedWidth:
    """Return the width after the outcomes that became known since it learned last.

    Of several answers to one window, asked with different numbers of samples, the one of most samples teaches.
    """
    mine = [*_is(PredictionRow, key), PredictionRow.num_samples >= MIN_SAMPLES]
    news = [PredictionRow.resolved_at.is_not(None)]
    if before.learned_until is not None:
        # What is older has its outcome long since; this keeps the reading from growing with the table.
        oldest = before.learned_until - 4 * timedelta(minutes=key[-1]) - timedelta(days=14)
        news += [PredictionRow.target_at > before.learned_until, PredictionRow.made_at > oldest]
    columns = (PredictionRow.made_at, PredictionRow.target_at, PredictionRow.inside_90)
    query = select(*columns).where(*mine, *news).order_by(PredictionRow.made_at, PredictionRow.num_samples)
    outcomes = {
        row.made_at: KnownOutcome(made_at=row.made_at, target_at=row.target_at, inside=row.inside_90)
        for row in connection.execute(query)
    }
    if not outcomes:
        return before
    first, last = min(outcomes), max(outcome.target_at for outcome in outcomes.values())
    made = select(PredictionRow.made_at).where(*mine, PredictionRow.made_at >= first, PredictionRow.made_at < last)
    return before.after(outcomes.values(), list(connection.scalars(made.distinct().order_by(PredictionRow.made_at))))


def _scored(
    connection: Connection,
    key: _Key,
    window: int,
    pip: float,
    before: ModelQuality | None,
    learned: LearnedWidth,
) -> ModelQuality:
    row = PredictionRow
    columns = (row.q05, row.q50, row.q95, row.actual_price, row.price, row.samples, row.direction_right, row.target_at)
    resolved = select(*columns).where(*_is(row, key), row.resolved_at.is_not(None))
    last = connection.execute(resolved.order_by(row.made_at.desc(), row.id.desc()).limit(window)).all()
    scores = rolling_quality(
        np.array([(each.q05, each.q50, each.q95) for each in last]),
        np.array([each.actual_price for each in last]),
        np.array([each.price for each in last]),
        samples=[each.samples or () for each in last],
        directions_right=[each.direction_right for each in last],
        pip=pip,
    )
    known = [*(each.target_at for each in last), learned.learned_until, None if before is None else before.as_of]
    return ModelQuality(
        model_version=key[0],
        symbol=key[1],
        timeframe=key[2],
        horizon_minutes=key[3],
        as_of=max(moment for moment in known if moment is not None),
        window=window,
        scores=scores,
        learned=learned,
    )


def _write(connection: Connection, quality: ModelQuality) -> None:
    values = {name: getattr(quality, name) for name in (*_KEY, "as_of", "window")}
    for part in (quality.scores, quality.learned):
        values |= {each.name: getattr(part, each.name) for each in fields(part)}
    insert = insert_into(connection, ModelQualityRow).values(values)
    keys = (*_KEY, "as_of")
    changed = {name: value for name, value in values.items() if name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed))
