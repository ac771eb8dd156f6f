"""The tables, as SQLAlchemy models: forecasts, models and access here, others in the modules of tables that are imported here.

A change here or there needs a migration and a new `SCHEMA_REVISION`; a test compares the three.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from fxcast.adapters.storage import backtest_tables, engine_tables, tuning_tables
from fxcast.adapters.storage.base import Base, utc_now

# Whoever knows these tables must know the others too: the metadata of all of them is what migrations are compared with.
__all__ = [
    "SCHEMA_REVISION",
    "AccessTokenRow",
    "Base",
    "InferenceMinuteRow",
    "ModelQualityRow",
    "ModelRow",
    "PredictionRow",
    "backtest_tables",
    "engine_tables",
    "tuning_tables",
]

# The Alembic revision that these models describe. A constant, so that opening a database needs no migrations folder.
SCHEMA_REVISION = "0007"


class PredictionRow(Base):
    """A forecast of one horizon, and what became of it once `target_at` has passed (until then those columns are null)."""

    __tablename__ = "ldm4ts_predictions"

    id: Mapped[int] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(String(16))
    timeframe: Mapped[str] = mapped_column(String(8))
    made_at: Mapped[datetime]
    horizon_minutes: Mapped[int]
    price: Mapped[float]
    mean: Mapped[float]
    std: Mapped[float]
    q05: Mapped[float]
    q50: Mapped[float]
    q95: Mapped[float]
    samples: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))
    uncertainty_pct: Mapped[float]
    inference_time_ms: Mapped[float]
    num_samples: Mapped[int]
    model_version: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    target_at: Mapped[datetime | None]
    actual_price: Mapped[float | None]
    error: Mapped[float | None]
    absolute_error: Mapped[float | None]
    inside_90: Mapped[bool | None]
    direction_right: Mapped[bool | None]
    resolved_at: Mapped[datetime | None]

    __table_args__ = (
        # Also finds the forecasts of one symbol, timeframe and moment: no further index starts with these columns.
        UniqueConstraint("symbol", "timeframe", "made_at", "horizon_minutes", "model_version", "num_samples"),
        # The newest forecasts of all symbols (dashboard), and forecasts past their keeping time.
        Index("ix_ldm4ts_predictions_made_at", "made_at"),
        # Everything that one model said, in order: scoring a model, comparing two.
        Index("ix_ldm4ts_predictions_model_version", "model_version", "made_at"),
        # The recent history of one symbol's horizon, whichever model and timeframe: the chart of forecast and outcome.
        Index("ix_ldm4ts_predictions_symbol_horizon", "symbol", "horizon_minutes", "made_at"),
        # The forecasts of a symbol that wait for their outcome (resolved_at is null), and those resolved since a moment.
        Index("ix_ldm4ts_predictions_resolved_at", "resolved_at", "symbol", "timeframe"),
    )


class ModelRow(Base):
    """A trained model on disk: where it lies, what it was trained on and how it scored."""

    __tablename__ = "ldm4ts_model_metadata"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(String(128))
    preset: Mapped[str] = mapped_column(String(32))
    symbol: Mapped[str] = mapped_column(String(16))
    timeframe: Mapped[str] = mapped_column(String(8))
    folder: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    data_hash: Mapped[str] = mapped_column(String(128))
    data_start: Mapped[datetime]
    data_end: Mapped[datetime]
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    is_active: Mapped[bool]

    __table_args__ = (
        UniqueConstraint("version"),
        # The model in use for a symbol and timeframe; being unique where active, it also keeps a second one out.
        Index(
            "ix_ldm4ts_model_metadata_active",
            "symbol",
            "timeframe",
            unique=True,
            sqlite_where=text("is_active"),
            postgresql_where=text("is_active"),
        ),
        # The models in the order they were registered: the list a person chooses from, newest first.
        Index("ix_ldm4ts_model_metadata_created_at", "created_at"),
    )


class InferenceMinuteRow(Base):
    """One minute of inference of one model on one replica."""

    __tablename__ = "ldm4ts_inference_metrics"

    id: Mapped[int] = mapped_column(primary_key=True)
    minute: Mapped[datetime]
    model_version: Mapped[str] = mapped_column(String(128))
    replica: Mapped[str] = mapped_column(String(128))
    count: Mapped[int]
    errors: Mapped[int]
    average_ms: Mapped[float | None]
    p50_ms: Mapped[float | None]
    p95_ms: Mapped[float | None]
    p99_ms: Mapped[float | None]
    max_ms: Mapped[float | None]

    __table_args__ = (
        UniqueConstraint("minute", "model_version", "replica"),
        # One model's latency over time (dashboard).
        Index("ix_ldm4ts_inference_metrics_version", "model_version", "minute"),
    )


class ModelQualityRow(Base):
    """What a model's last resolved forecasts of one series and horizon were worth, and its online calibration at that moment.

    A row holds nothing that became known after `as_of`, so that the newest row up to a moment is what was known then.
    """

    __tablename__ = "ldm4ts_model_quality"

    model_version: Mapped[str] = mapped_column(String(128), primary_key=True)
    symbol: Mapped[str] = mapped_column(String(16), primary_key=True)
    timeframe: Mapped[str] = mapped_column(String(8), primary_key=True)
    horizon_minutes: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    as_of: Mapped[datetime] = mapped_column(primary_key=True)  # when the newest outcome became known
    window: Mapped[int]  # how many of the last forecasts are scored at most
    forecasts: Mapped[int]  # how many were
    coverage_90: Mapped[float]
    crps_pips: Mapped[float | None]  # null where a forecast has no samples stored
    pinball_pips: Mapped[float]
    mae_ratio: Mapped[float | None]  # null where the price never moved
    direction_windows: Mapped[int]
    direction_right: Mapped[float | None]
    log_width: Mapped[float]  # of the online calibration; 0 changes nothing
    learned_until: Mapped[datetime | None]  # when the last outcome that taught it became known
    outcomes_learned: Mapped[int]
    delay: Mapped[int]  # most forecasts ever made until an outcome was known; 0 before the first


class AccessTokenRow(Base):
    """A bearer token of the HTTP API, by the SHA-256 of its secret; the secret itself is stored nowhere.

    A name has one current token; those that a rotation replaced keep the name, and are valid until `expires_at`.
    """

    __tablename__ = "access_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    token_hash: Mapped[str] = mapped_column(String(64))  # hexadecimal digits
    last_four: Mapped[str] = mapped_column(String(4))  # of the secret, to recognise it by
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    replaced_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("token_hash"),
        # The current token of a name; being unique, it also keeps a second one out.
        Index(
            "ix_access_tokens_current",
            "name",
            unique=True,
            sqlite_where=text("replaced_at IS NULL AND revoked_at IS NULL"),
            postgresql_where=text("replaced_at IS NULL AND revoked_at IS NULL"),
        ),
    )
