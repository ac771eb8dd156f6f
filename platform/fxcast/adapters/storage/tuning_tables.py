"""The tables of searches and of what was promoted from them, as SQLAlchemy models.

Optuna's own tables (`studies`, `trials`, `trial_…`, `version_info`) lie beside them: no name here may be one of those.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from fxcast.adapters.storage.base import Base


class TuningRunRow(Base):
    """A search; its id is made of its name and of all that can change its outcome."""

    __tablename__ = "tuning_runs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # hexadecimal digits
    name: Mapped[str] = mapped_column(Text)
    begun_at: Mapped[datetime]
    symbols: Mapped[str] = mapped_column(Text)  # in alphabetical order, with commas between
    timeframe: Mapped[str] = mapped_column(String(8))
    level: Mapped[str] = mapped_column(String(16))  # trading, sampling or model
    regime: Mapped[str | None] = mapped_column(String(16))  # null for all
    searcher: Mapped[str] = mapped_column(String(32))
    seed: Mapped[int] = mapped_column(BigInteger())
    start: Mapped[datetime]
    stop: Mapped[datetime]
    hold_out_start: Mapped[datetime]
    hold_out_stop: Mapped[datetime]
    trials: Mapped[int]  # wanted
    data_hash: Mapped[str] = mapped_column(String(128))
    settings_hash: Mapped[str] = mapped_column(String(64), ForeignKey("engine_settings.settings_hash"))
    code_version: Mapped[str] = mapped_column(String(128))
    study: Mapped[str] = mapped_column(Text)  # its name among Optuna's
    command: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16))  # running or finished
    seconds: Mapped[float]
    finished_at: Mapped[datetime | None]
    winner: Mapped[int | None]
    winner_values: Mapped[str | None] = mapped_column(Text)  # JSON
    promotes: Mapped[bool | None]
    verdict: Mapped[str] = mapped_column(Text)
    hold_out_sharpe: Mapped[float | None]
    default_hold_out_sharpe: Mapped[float | None]
    deflated_sharpe: Mapped[float | None]
    overfitting_probability: Mapped[float | None]
    findings: Mapped[str | None] = mapped_column(Text)  # JSON
    report_folder: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("name"),
        # What was tried on a market before, and how often its hold-out was looked at.
        Index("ix_tuning_runs_market", "symbols", "timeframe"),
    )


class TuningTrialRow(Base):
    """A trial of a search, of the random search beside it, or of the winner's neighbourhood."""

    __tablename__ = "tuning_trials"

    run_id: Mapped[str] = mapped_column(String(64), ForeignKey("tuning_runs.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)  # search, random or neighbour
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16))
    values: Mapped[str] = mapped_column(Text)  # JSON
    score: Mapped[float | None]
    sharpe: Mapped[float | None]  # annualised
    max_drawdown: Mapped[float | None]
    total_return: Mapped[float | None]
    trades: Mapped[int | None]
    crps_skill: Mapped[float | None]
    coverage: Mapped[float | None]
    coverage_error: Mapped[float | None]
    error: Mapped[str] = mapped_column(Text)
    began_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class TuningFoldRow(Base):
    """A fold of a trial; its days as bytes, so that what is computed from them comes out the same to the last bit."""

    __tablename__ = "tuning_folds"

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fold: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    trades: Mapped[int]
    seconds: Mapped[float]
    horizons: Mapped[str] = mapped_column(Text)  # JSON
    days: Mapped[bytes] = mapped_column(LargeBinary)  # int64 since 1970, little-endian
    returns: Mapped[bytes] = mapped_column(LargeBinary)  # float64, little-endian, as the next three
    lows: Mapped[bytes] = mapped_column(LargeBinary)
    highs: Mapped[bytes] = mapped_column(LargeBinary)
    falls: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        ForeignKeyConstraint(["run_id", "kind", "number"], ["tuning_trials.run_id", "tuning_trials.kind", "tuning_trials.number"]),
    )


class PromotionRow(Base):
    """Values that engines take, active while `retired_at` is null; rows are never deleted, so that ids count up in time."""

    __tablename__ = "promotions"

    id: Mapped[int] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(String(16))
    timeframe: Mapped[str] = mapped_column(String(8))
    regime: Mapped[str] = mapped_column(String(16))  # empty for all: nulls would be different to the index
    run_id: Mapped[str] = mapped_column(String(64), ForeignKey("tuning_runs.id"))
    run_name: Mapped[str] = mapped_column(Text)
    trial: Mapped[int]
    values: Mapped[str] = mapped_column(Text)  # JSON
    promoted_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]
    guard_passed: Mapped[bool]
    forced: Mapped[bool]
    by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    restores: Mapped[int | None] = mapped_column(ForeignKey("promotions.id"))  # which one a roll-back brought back
    rolled_back_by: Mapped[str | None] = mapped_column(Text)  # null of one that was not, as the next
    rolled_back_because: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        # The active one of a market and regime; being unique, it also keeps a second one out.
        Index(
            "ix_promotions_active",
            "symbol",
            "timeframe",
            "regime",
            unique=True,
            sqlite_where=text("retired_at IS NULL"),
            postgresql_where=text("retired_at IS NULL"),
        ),
    )
