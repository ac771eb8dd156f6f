"""The tables of backtests and walk-forwards, as SQLAlchemy models."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from fxcast.adapters.storage.base import Base


class WalkForwardRow(Base):
    """A walk-forward, running while `finished_at` is null; its id is made of what was to be run on what."""

    __tablename__ = "walk_forwards"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # hexadecimal digits
    name: Mapped[str] = mapped_column(Text)
    begun_at: Mapped[datetime]
    symbols: Mapped[str] = mapped_column(Text)  # in alphabetical order, with commas between
    timeframe: Mapped[str] = mapped_column(String(8))
    start: Mapped[datetime]
    stop: Mapped[datetime]
    scheme: Mapped[str] = mapped_column(String(16))  # rolling or anchored
    data_hash: Mapped[str] = mapped_column(String(128))
    settings_hash: Mapped[str] = mapped_column(String(64), ForeignKey("engine_settings.settings_hash"))
    code_version: Mapped[str] = mapped_column(String(128))
    finished_at: Mapped[datetime | None]
    findings: Mapped[str | None] = mapped_column(Text)  # JSON
    report_folder: Mapped[str] = mapped_column(Text)


class BacktestRow(Base):
    """A run of the engine over past candles; its id is made of what was run on what, so the same run again is the same row."""

    __tablename__ = "backtests"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # hexadecimal digits
    walk_forward_id: Mapped[str | None] = mapped_column(String(64), ForeignKey("walk_forwards.id"))  # null of one that stands alone
    variant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    is_benchmark: Mapped[bool]
    made_at: Mapped[datetime]
    symbols: Mapped[str] = mapped_column(Text)  # in alphabetical order, with commas between
    timeframe: Mapped[str] = mapped_column(String(8))
    start: Mapped[datetime]
    stop: Mapped[datetime]
    model_version: Mapped[str | None] = mapped_column(Text)  # null where no model forecast; of several, with commas between
    model_hash: Mapped[str | None] = mapped_column(Text)
    seen_by_model: Mapped[bool]
    data_hash: Mapped[str] = mapped_column(String(128))
    settings_hash: Mapped[str] = mapped_column(String(64), ForeignKey("engine_settings.settings_hash"))
    code_version: Mapped[str] = mapped_column(String(128))
    currency: Mapped[str] = mapped_column(String(8))
    starting_balance: Mapped[Decimal]
    candles: Mapped[int]
    trades: Mapped[int]
    open_positions: Mapped[int]
    # The measures, null where one can't be told; money in account currency, shares of 1.
    net_profit: Mapped[float]
    total_return: Mapped[float]
    costs: Mapped[float]
    cagr: Mapped[float | None]
    sharpe: Mapped[float | None]
    daily_sharpe: Mapped[float | None]  # of FX days, not annualised
    sortino: Mapped[float | None]
    calmar: Mapped[float | None]
    max_drawdown: Mapped[float | None]
    max_drawdown_days: Mapped[float]
    win_rate: Mapped[float | None]
    profit_factor: Mapped[float | None]
    expectancy: Mapped[float | None]
    turnover: Mapped[float]
    exposure: Mapped[float]
    probabilistic_sharpe: Mapped[float | None]
    deflated_sharpe: Mapped[float | None]
    findings: Mapped[str] = mapped_column(Text)  # JSON, all of them with their intervals
    report_folder: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        # What was tried on a market before: counted for the deflated Sharpe ratio of every backtest.
        Index("ix_backtests_market", "symbols", "timeframe"),
    )


class BacktestTradeRow(Base):
    """A trade of a backtest with the signal that it came from, whose prices are the model's floats."""

    __tablename__ = "backtest_trades"

    backtest_id: Mapped[str] = mapped_column(String(64), ForeignKey("backtests.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # its place among the trades
    order_id: Mapped[str] = mapped_column(String(128))
    symbol: Mapped[str] = mapped_column(String(16))
    side: Mapped[str] = mapped_column(String(8))
    units: Mapped[Decimal]
    base_units: Mapped[Decimal]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime]
    entry_price: Mapped[Decimal]
    exit_price: Mapped[Decimal]
    exit_reason: Mapped[str] = mapped_column(String(16))
    profit: Mapped[Decimal]
    commission: Mapped[Decimal]
    financing: Mapped[Decimal]
    spread_cost: Mapped[Decimal]
    slippage_cost: Mapped[Decimal]
    risk: Mapped[Decimal]
    source: Mapped[str] = mapped_column(String(128))
    signal_made_at: Mapped[datetime]
    horizon_minutes: Mapped[int]
    direction: Mapped[str] = mapped_column(String(16))
    strength: Mapped[float]
    signal_price: Mapped[float]
    signal_stop: Mapped[float]
    signal_target: Mapped[float]
    uncertainty_pct: Mapped[float | None]
    regime: Mapped[str] = mapped_column(String(16))
    quality_consistency: Mapped[float]
    quality_confirmation: Mapped[float]
    quality_strength: Mapped[float]
    quality_timing: Mapped[float]
    quality_risk_reward: Mapped[float]
    quality_regime_alignment: Mapped[float]
    quality_weighted_mean: Mapped[float]
    quality_uncertainty_penalty: Mapped[float]
    quality_total: Mapped[float]
    quality_weights: Mapped[list[float]] = mapped_column(JSON)
    members: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class WalkForwardFoldRow(Base):
    """A fold of a walk-forward: what it learns from and is tested on, and how far it is."""

    __tablename__ = "walk_forward_folds"

    walk_forward_id: Mapped[str] = mapped_column(String(64), ForeignKey("walk_forwards.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    train_start: Mapped[datetime]
    train_stop: Mapped[datetime]
    validation_start: Mapped[datetime]
    validation_stop: Mapped[datetime]
    test_start: Mapped[datetime]
    test_stop: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)  # why it failed
    model_version: Mapped[str | None] = mapped_column(Text)
    backtest_id: Mapped[str | None] = mapped_column(String(64), ForeignKey("backtests.id"))
    measures: Mapped[str | None] = mapped_column(Text)  # JSON
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
