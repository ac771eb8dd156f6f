"""Backtests in the database: as rows, and as the trials that a new one is judged against."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fxcast.adapters.storage.backtests import BacktestRecord, BacktestRecords, TradeRecord
from fxcast.adapters.storage.database import migrate, open_database, revision_of
from fxcast.backtest.result import BacktestResult
from fxcast.cluster.train_card import code_version
from fxcast.performance.daily import DAYS_A_YEAR
from fxcast.performance.export import to_dict
from fxcast.performance.measures import Findings, Measures
from fxcast.performance.trade import Trade
from fxcast.performance.trades import trades_of
from jobs.backtest_run import STRATEGY
from jobs.backtest_settings import TradedSettings

_SQLITE = "sqlite:///"
_SETTINGS = ("symbols", "conversion_symbols", "timeframe", "trading", "market", "spreads", "inner_candles", "separately")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a backtest follows from.

    Attributes:
        models: By name (own, sssd …): version and hash.
        settings: All that can change the outcome, as JSON.
        seen_by_model: Whether a model had learned from the period.
        walk_forward_id: Of which walk-forward it is a fold.
    """

    models: Mapping[str, tuple[str, str]]
    data_hash: str
    settings: str
    seen_by_model: bool = False
    walk_forward_id: str | None = None

    @property
    def settings_hash(self) -> str:
        """What names the settings."""
        return hashlib.sha256(self.settings.encode()).hexdigest()[:16]


def settings_content(settings: TradedSettings, model_hash: str | None) -> str:
    """Return as JSON what changes the outcome of a run: the model that forecasts, too; where things are kept does not."""
    content = settings.model_dump(mode="json", include=set(_SETTINGS), by_alias=True)
    return json.dumps({**content, "model_hash": model_hash}, sort_keys=True)


def open_records(database_url: str) -> BacktestRecords | None:
    """Return the record of backtests; a SQLite file that is not there is made, of another database without tables there is none.

    Raises:
        BadSetup: If the database can't be reached or has an older schema.
    """
    file = database_url.removeprefix(_SQLITE)
    if file != database_url and not Path(file).exists():
        migrate(database_url)
    if revision_of(database_url) is None:
        return None
    return BacktestRecords(open_database(database_url))


def other_trials(
    records: BacktestRecords | None, settings: TradedSettings, origin: Origin, start: datetime, stop: datetime
) -> list[float]:
    """Return the annualised Sharpe ratios of the other settings tried on the same market and time."""
    if records is None:
        return []
    known = records.trial_sharpes(settings.symbols, settings.timeframe, start, stop)
    return [daily * DAYS_A_YEAR**0.5 for key, daily in known.items() if key != origin.settings_hash]


def keep(records: BacktestRecords, findings: Findings, origin: Origin, folder: Path) -> str:
    """Save a run and what it was compared with; return the run's id."""
    content = json.dumps(to_dict(findings), sort_keys=True)
    made_at = datetime.now(UTC)
    for benchmark in findings.benchmarks:
        if benchmark.result is not None:
            other = _record(
                benchmark.result, benchmark.measures, origin, made_at, variant=benchmark.key, folder=folder, findings="{}"
            )
            records.save(other, [_row(trade) for trade in trades_of(benchmark.result)])
    record = _record(
        findings.result,
        findings.measures,
        origin,
        made_at,
        variant=STRATEGY,
        folder=folder,
        findings=content,
        deflated=findings.luck.deflated_sharpe,
    )
    records.save(record, [_row(trade) for trade in findings.trades])
    return record.id


def _record(
    result: BacktestResult,
    measures: Measures,
    origin: Origin,
    made_at: datetime,
    *,
    variant: str,
    folder: Path,
    findings: str,
    deflated: float | None = None,
) -> BacktestRecord:
    sharpe = measures.sharpe.value
    versions: Sequence[tuple[str, str]] = sorted(origin.models.values())
    return BacktestRecord(
        variant=variant,
        name=result.name,
        made_at=made_at,
        symbols=result.symbols,
        timeframe=result.timeframe,
        start=result.start,
        stop=result.stop,
        model_version=", ".join(version for version, _ in versions) or None,
        model_hash=", ".join(digest for _, digest in versions) or None,
        data_hash=origin.data_hash,
        settings_hash=origin.settings_hash,
        settings=origin.settings,
        code_version=code_version(),
        currency=result.currency,
        starting_balance=result.starting_balance,
        candles=result.candles,
        trades=measures.trades,
        net_profit=measures.net_profit,
        total_return=measures.total_return,
        costs=measures.costs.total,
        cagr=measures.cagr.value,
        sharpe=sharpe,
        daily_sharpe=None if sharpe is None else sharpe / DAYS_A_YEAR**0.5,
        sortino=measures.sortino.value,
        calmar=measures.calmar.value,
        max_drawdown=measures.max_drawdown.value,
        max_drawdown_days=measures.max_drawdown_days,
        win_rate=measures.win_rate.value,
        profit_factor=measures.profit_factor.value,
        expectancy=measures.expectancy.value,
        turnover=measures.turnover,
        exposure=measures.exposure,
        probabilistic_sharpe=measures.probabilistic_sharpe,
        deflated_sharpe=deflated,
        findings=findings,
        report_folder=str(folder.absolute()),
        open_positions=measures.open_positions,
        is_benchmark=variant != STRATEGY,
        seen_by_model=origin.seen_by_model,
        walk_forward_id=origin.walk_forward_id,
    )


def _row(trade: Trade) -> TradeRecord:
    content: dict[str, Any] = {field.name: getattr(trade, field.name) for field in fields(trade)}
    return TradeRecord(**content, source=trade.source)
