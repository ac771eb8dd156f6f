"""Backtests, their trades, and walk-forwards as records; and between these and the rows that keep them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Any

from fxcast.adapters.storage.backtest_tables import BacktestRow, BacktestTradeRow, WalkForwardFoldRow, WalkForwardRow
from fxcast.adapters.storage.engine_tables import SignalRow
from fxcast.adapters.storage.ledger_rows import decided_signal, signal_values
from fxcast.domain.order import Side
from fxcast.domain.signal import DIMENSIONS, FusedSignal, Verdict
from fxcast.trading.ports import DecidedSignal


class FoldStatus(StrEnum):
    """How far a fold of a walk-forward is."""

    PENDING = "pending"
    TRAINING = "training"
    FORECASTING = "forecasting"
    BACKTESTING = "backtesting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestRecord:
    """A backtest; money in account currency, shares of 1, a measure is None where it can't be told.

    Attributes:
        variant: "run", or the key of a benchmark.
        name: As it is called in reports.
        is_benchmark: Whether it was run for comparison, and is no trial of its own.
        symbols: They come back in alphabetical order; the order says nothing.
        model_version: None where no model forecast.
        seen_by_model: Whether the model had learned from the period, and the run was forced.
        data_hash: Of the candles.
        settings: All that can change the outcome, as JSON; kept once for each `settings_hash`.
        costs: All that was paid, less what was received.
        daily_sharpe: Of FX days, not annualised.
        findings: All of them, as JSON.
        walk_forward_id: Of which walk-forward it is a fold; that must have begun.
    """

    variant: str
    name: str
    made_at: datetime
    symbols: tuple[str, ...]
    timeframe: str
    start: datetime
    stop: datetime
    model_version: str | None
    model_hash: str | None
    data_hash: str
    settings_hash: str
    settings: str
    code_version: str
    currency: str
    starting_balance: Decimal
    candles: int
    trades: int
    net_profit: float
    total_return: float
    costs: float
    cagr: float | None
    sharpe: float | None
    daily_sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float | None
    max_drawdown_days: float
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    turnover: float
    exposure: float
    probabilistic_sharpe: float | None
    deflated_sharpe: float | None
    findings: str
    report_folder: str
    open_positions: int = 0
    is_benchmark: bool = False
    seen_by_model: bool = False
    walk_forward_id: str | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float) and not math.isfinite(value):  # SQLite would keep NaN as null
                raise ValueError(f"{each.name} is {value}; a measure that can't be told is None")

    @property
    def id(self) -> str:
        """The same settings on the same data with the same models are the same backtest, whenever and with whatever code."""
        return _identity(self, self.variant, self.walk_forward_id, self.model_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRecord:
    """A trade of a backtest: the fields of `performance.trade.Trade`, and whose opinion its plan was (`source`)."""

    order_id: str
    symbol: str
    side: Side
    units: Decimal
    opened_at: datetime
    closed_at: datetime
    entry_price: Decimal
    exit_price: Decimal
    exit_reason: str
    profit: Decimal
    commission: Decimal
    financing: Decimal
    spread_cost: Decimal
    slippage_cost: Decimal
    risk: Decimal
    signal: FusedSignal
    base_units: Decimal
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRecord:
    """A fold; its periods are half-open.

    Attributes:
        reason: Why it failed.
        backtest_id: Of the test period, once it was saved.
        measures: JSON.
        started_at: When work on it began; the time in which a killed run lay still is not taken off.
    """

    number: int
    train_start: datetime
    train_stop: datetime
    validation_start: datetime
    validation_stop: datetime
    test_start: datetime
    test_stop: datetime
    status: FoldStatus = FoldStatus.PENDING
    reason: str = ""
    model_version: str | None = None
    backtest_id: str | None = None
    measures: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForwardRecord:
    """A walk-forward over [start, stop).

    Attributes:
        symbols: They come back in alphabetical order; the order says nothing.
        scheme: rolling or anchored.
        settings: All that can change the outcome, of folds, training and trading, as JSON; kept once for each `settings_hash`.
        findings: Of the stitched test periods, as JSON; None until it is finished.
    """

    name: str
    begun_at: datetime
    symbols: tuple[str, ...]
    timeframe: str
    start: datetime
    stop: datetime
    scheme: str
    data_hash: str
    settings_hash: str
    settings: str
    code_version: str
    finished_at: datetime | None = None
    findings: str | None = None
    report_folder: str = ""

    @property
    def id(self) -> str:
        """The same settings on the same data are the same walk-forward: begun again, it goes on."""
        return _identity(self, self.scheme)


# Columns that are no field as it is.
_KEPT_OTHERWISE = ("symbols", "settings", "signal", "side", "status")
_BACKTEST, _TRADE, _FOLD, _WALK_FORWARD = (
    tuple(each.name for each in fields(record) if each.name not in _KEPT_OTHERWISE)
    for record in (BacktestRecord, TradeRecord, FoldRecord, WalkForwardRecord)
)
_QUALITY = (*DIMENSIONS, "weighted_mean", "uncertainty_penalty", "total", "weights")
# Columns of a trade, and those of the table of signals that hold the same.
_SIGNAL = {
    **{f"signal_{name}": name for name in ("made_at", "price", "stop", "target")},
    **{name: name for name in ("horizon_minutes", "direction", "strength", "uncertainty_pct", "regime", "members")},
    **{f"quality_{name}": f"quality_{name}" for name in _QUALITY},
}


def backtest_values(record: BacktestRecord) -> dict[str, Any]:
    return {"id": record.id, "symbols": joined(record.symbols), **_columns(record, _BACKTEST)}


def backtest_record(row: BacktestRow, settings: str) -> BacktestRecord:
    return BacktestRecord(**_columns(row, _BACKTEST), symbols=_split(row.symbols), settings=settings)


def trade_values(trade: TradeRecord) -> dict[str, Any]:
    decided = DecidedSignal(
        signal=trade.signal, verdict=Verdict.ACCEPTED, reason="", base_units=trade.base_units, units=trade.units
    )
    signal = signal_values(decided)
    return {
        **_columns(trade, _TRADE),
        "side": trade.side.value,
        **{column: signal[name] for column, name in _SIGNAL.items()},
    }


def trade_record(row: BacktestTradeRow) -> TradeRecord:
    signal = SignalRow(
        **{name: getattr(row, column) for column, name in _SIGNAL.items()},
        symbol=row.symbol,
        verdict=Verdict.ACCEPTED.value,
        reason="",
        base_units=row.base_units,
        units=row.units,
        explanation=[],
        arithmetic=[],
    )
    return TradeRecord(**_columns(row, _TRADE), side=Side(row.side), signal=decided_signal(signal).signal)


def walk_forward_values(record: WalkForwardRecord) -> dict[str, Any]:
    return {"id": record.id, "symbols": joined(record.symbols), **_columns(record, _WALK_FORWARD)}


def walk_forward_record(row: WalkForwardRow, settings: str) -> WalkForwardRecord:
    return WalkForwardRecord(**_columns(row, _WALK_FORWARD), symbols=_split(row.symbols), settings=settings)


def fold_values(fold: FoldRecord) -> dict[str, Any]:
    return {**_columns(fold, _FOLD), "status": fold.status.value}


def fold_record(row: WalkForwardFoldRow) -> FoldRecord:
    return FoldRecord(**_columns(row, _FOLD), status=FoldStatus(row.status))


def joined(symbols: Iterable[str]) -> str:
    """Return symbols as a column keeps them: the same for the same ones in another order."""
    return ",".join(sorted(set(symbols)))


def _split(symbols: str) -> tuple[str, ...]:
    return tuple(symbols.split(","))


def _columns(holder: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(holder, name) for name in names}


def _identity(record: BacktestRecord | WalkForwardRecord, *further: str | None) -> str:
    period = [moment.astimezone(UTC).isoformat() for moment in (record.start, record.stop)]
    content = [joined(record.symbols), record.timeframe, *period, record.data_hash, record.settings_hash, *further]
    return sha256(json.dumps(content).encode()).hexdigest()
