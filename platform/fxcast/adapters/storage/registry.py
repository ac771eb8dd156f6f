"""Which models there are, and which one is in use for a pair and timeframe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.tables import ModelRow
from fxcast.errors import BadSetting

ANY_SYMBOL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel:
    """A model on disk.

    Attributes:
        symbol: The pair it was trained for, `ANY_SYMBOL` for one trained on several.
        timeframe: Its main one; a model of several is found under no other, but its folder forecasts each.
        data_hash: Identifies the candles it was trained on, from `data_start` to `data_end`.
        config: How it was built and trained, plain JSON types.
        metrics: How it scored, plain JSON types.
    """

    version: str
    preset: str
    symbol: str
    timeframe: str
    folder: Path
    config: Mapping[str, Any]
    data_hash: str
    data_start: datetime
    data_end: datetime
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model of the registry, with what became of it there."""

    model: RegisteredModel
    is_active: bool
    created_at: datetime


def list_models(engine: Engine) -> tuple[ListedModel, ...]:
    """Return every model, newest first."""
    query = select(ModelRow).order_by(ModelRow.created_at.desc(), ModelRow.id.desc())
    with Session(engine) as session:
        return tuple(
            ListedModel(model=_registered(row), is_active=row.is_active, created_at=row.created_at)
            for row in session.scalars(query)
        )


def register_model(engine: Engine, model: RegisteredModel) -> None:
    """Add a model, not yet in use; registering the same one again changes nothing.

    Raises:
        BadSetting: If another model has its version.
    """
    values = {name: getattr(model, name) for name in RegisteredModel.__slots__}
    values |= {"folder": str(model.folder), "is_active": False}
    # As JSON gives it back: tuples are lists there, and numbered keys are text.
    values |= {"config": json.loads(json.dumps(dict(model.config))), "metrics": json.loads(json.dumps(dict(model.metrics)))}
    with writing(engine).begin() as connection:
        connection.execute(insert_into(connection, ModelRow).values(values).on_conflict_do_nothing(index_elements=["version"]))
        stored = connection.execute(select(ModelRow.__table__).where(ModelRow.version == model.version)).one()
        differing = [name for name in values if name != "is_active" and getattr(stored, name) != values[name]]
        if differing:
            raise BadSetting(f"model version {model.version} is taken by a model with another {', '.join(differing)}")


def activate(engine: Engine, version: str) -> None:
    """Put a model to use in place of the one that was active for its symbol and timeframe.

    Raises:
        BadSetting: If no model has this version.
    """
    with writing(engine).begin() as connection:
        model = connection.execute(select(ModelRow.symbol, ModelRow.timeframe).where(ModelRow.version == version)).one_or_none()
        if model is None:
            known = connection.scalars(select(ModelRow.version).order_by(ModelRow.created_at.desc()).limit(5)).all()
            raise BadSetting(f"no model has version {version!r}; the newest are {', '.join(known) or 'none'}")
        same_use = (ModelRow.symbol == model.symbol, ModelRow.timeframe == model.timeframe)
        connection.execute(update(ModelRow).where(*same_use, ModelRow.is_active).values(is_active=False))
        connection.execute(update(ModelRow).where(ModelRow.version == version).values(is_active=True))


def active_model(engine: Engine, symbol: str, timeframe: str) -> RegisteredModel | None:
    """Return the model in use for a symbol and timeframe; where it has none of its own, the one for every symbol."""
    query = select(ModelRow).where(ModelRow.symbol.in_([symbol, ANY_SYMBOL]), ModelRow.timeframe == timeframe, ModelRow.is_active)
    with Session(engine) as session:
        by_symbol = {row.symbol: row for row in session.scalars(query)}
    row = by_symbol.get(symbol) or by_symbol.get(ANY_SYMBOL)
    return None if row is None else _registered(row)


def registered_model(engine: Engine, version: str) -> RegisteredModel | None:
    """Return a model by its version, None if it was never registered."""
    with Session(engine) as session:
        row = session.scalars(select(ModelRow).where(ModelRow.version == version)).one_or_none()
    return None if row is None else _registered(row)


def _registered(row: ModelRow) -> RegisteredModel:
    return RegisteredModel(
        version=row.version,
        preset=row.preset,
        symbol=row.symbol,
        timeframe=row.timeframe,
        folder=Path(row.folder),
        config=row.config,
        data_hash=row.data_hash,
        data_start=row.data_start,
        data_end=row.data_end,
        metrics=row.metrics,
    )
