"""What was backtested on what, with what came of it; and walk-forwards, fold by fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, case, delete, func, insert, literal, select, update
from sqlalchemy.orm import Session

from fxcast.adapters.storage.backtest_rows import (
    BacktestRecord,
    FoldRecord,
    FoldStatus,
    TradeRecord,
    WalkForwardRecord,
    backtest_record,
    backtest_values,
    fold_record,
    fold_values,
    joined,
    trade_record,
    trade_values,
    walk_forward_record,
    walk_forward_values,
)
from fxcast.adapters.storage.backtest_tables import BacktestRow, BacktestTradeRow, WalkForwardFoldRow, WalkForwardRow
from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.engine_tables import EngineSettingsRow
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.types import UtcDateTime
from fxcast.errors import BadSetup

__all__ = ["BacktestRecord", "BacktestRecords", "FoldRecord", "FoldStatus", "TradeRecord", "WalkForwardRecord"]


class BacktestRecords:
    """The backtests and walk-forwards of a database; every method is one transaction, and raises DatabaseUnavailable in an outage.

    Args:
        database: From `open_database`.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database

    def save(self, record: BacktestRecord, trades: Sequence[TradeRecord]) -> None:
        """Save a backtest with its trades, all or nothing, in place of what an earlier run of the same left."""
        row = backtest_values(record)  # made before the database is locked, as the trades' rows
        rows = [{"backtest_id": record.id, "number": number, **trade_values(trade)} for number, trade in enumerate(trades)]
        with answered(self._database), writing(self._database).begin() as connection:
            _keep_settings(connection, record)
            # Before its trades: of two that save the same backtest at once, the second waits here.
            upsert = insert_into(connection, BacktestRow).values(row).on_conflict_do_update(index_elements=["id"], set_=row)
            connection.execute(upsert)
            connection.execute(delete(BacktestTradeRow).where(BacktestTradeRow.backtest_id == record.id))
            if rows:
                connection.execute(insert(BacktestTradeRow), rows)

    def backtests(self, symbols: Iterable[str] | None = None, timeframe: str | None = None) -> tuple[BacktestRecord, ...]:
        """Return backtests, newest first.

        Args:
            symbols: Only of exactly these.
            timeframe: Only of this one.
        """
        query = _with_settings(BacktestRow)
        query = query if symbols is None else query.where(BacktestRow.symbols == joined(symbols))
        query = query if timeframe is None else query.where(BacktestRow.timeframe == timeframe)
        with answered(self._database), Session(self._database) as session:
            rows = session.execute(query.order_by(BacktestRow.made_at.desc(), BacktestRow.id)).all()
        return tuple(backtest_record(row, settings) for row, settings in rows)

    def backtest(self, backtest_id: str) -> BacktestRecord | None:
        """Return a backtest, None if there is none of this id."""
        with answered(self._database), Session(self._database) as session:
            found = session.execute(_with_settings(BacktestRow).where(BacktestRow.id == backtest_id)).one_or_none()
        return None if found is None else backtest_record(*found)

    def trades_of(self, backtest_id: str) -> tuple[TradeRecord, ...]:
        """Return the trades of a backtest as they were saved."""
        query = select(BacktestTradeRow).where(BacktestTradeRow.backtest_id == backtest_id).order_by(BacktestTradeRow.number)
        with answered(self._database), Session(self._database) as session:
            return tuple(trade_record(row) for row in session.scalars(query))

    def trial_sharpes(self, symbols: Iterable[str], timeframe: str, start: datetime, stop: datetime) -> Mapping[str, float]:
        """Return by `settings_hash` the daily Sharpe ratios (not annualised) of all settings tried so far on the same market.

        Counted are backtests of exactly these symbols whose period overlaps [start, stop), but no benchmarks, and no runs whose
        Sharpe ratio can't be told. Settings that were run more than once, as in the folds of a walk-forward, are one trial: the
        run that shares most time with the period counts, of several the newest.
        """
        row = BacktestRow
        query = select(row.settings_hash, row.daily_sharpe, row.start, row.stop, row.made_at, row.id).where(
            row.symbols == joined(symbols),
            row.timeframe == timeframe,
            row.start < stop,
            row.stop > start,
            row.is_benchmark.is_(False),
            row.daily_sharpe.is_not(None),
        )
        with answered(self._database), self._database.connect() as connection:
            rows = connection.execute(query).all()
        ascending = sorted(rows, key=lambda row: (min(row.stop, stop) - max(row.start, start), row.made_at, row.id))
        return {row.settings_hash: row.daily_sharpe for row in ascending}  # the last one of a hash stays

    def begin(self, record: WalkForwardRecord, folds: Sequence[FoldRecord]) -> tuple[FoldRecord, ...]:
        """Record a walk-forward and its folds; of one that was begun before, everything stays as it is.

        Returns:
            The folds as they are recorded, by number: those of a run that was killed say how far it was.

        Raises:
            BadSetup: If it is recorded with other folds.
        """
        row = walk_forward_values(record)
        rows = [{"walk_forward_id": record.id, **fold_values(fold)} for fold in folds]
        with answered(self._database), writing(self._database).begin() as connection:
            _keep_settings(connection, record)
            begun = insert_into(connection, WalkForwardRow).values(row).on_conflict_do_nothing().returning(WalkForwardRow.id)
            if connection.scalar(begun) is not None and rows:
                connection.execute(insert(WalkForwardFoldRow), rows)
            with Session(connection) as session:
                recorded = tuple(fold_record(each) for each in session.scalars(_folds_of(record.id)))
            _check_same_folds(record, sorted(folds, key=lambda fold: fold.number), recorded)
        return recorded

    def walk_forward(self, walk_forward_id: str) -> WalkForwardRecord | None:
        """Return a walk-forward, None if there is none of this id."""
        with answered(self._database), Session(self._database) as session:
            found = session.execute(_with_settings(WalkForwardRow).where(WalkForwardRow.id == walk_forward_id)).one_or_none()
        return None if found is None else walk_forward_record(*found)

    def folds(self, walk_forward_id: str) -> tuple[FoldRecord, ...]:
        """Return the folds of a walk-forward by number; none if it never began."""
        with answered(self._database), Session(self._database) as session:
            return tuple(fold_record(row) for row in session.scalars(_folds_of(walk_forward_id)))

    def set_fold(
        self,
        walk_forward_id: str,
        number: int,
        status: FoldStatus,
        *,
        at: datetime,
        reason: str = "",
        model_version: str | None = None,
        backtest_id: str | None = None,
        measures: str | None = None,
    ) -> None:
        """Save how far one fold is; the others are not touched, and what is not given here stays.

        Args:
            at: When it came that far: its end if it is done or failed; its start if it was pending or had ended before.
            reason: Why it failed; only of a fold that did.
            measures: JSON.

        Raises:
            LookupError: If there is no such fold.
        """
        if bool(reason) != (status is FoldStatus.FAILED):
            raise ValueError(f"a fold is {status.value} with reason {reason!r}; one that failed needs a reason, no other has any")
        given = {"model_version": model_version, "backtest_id": backtest_id, "measures": measures}
        changed: dict[str, Any] = {"status": status.value, "reason": reason}
        changed |= {name: value for name, value in given.items() if value is not None}
        changed |= _times(status, at)
        which = (WalkForwardFoldRow.walk_forward_id == walk_forward_id, WalkForwardFoldRow.number == number)
        with answered(self._database), writing(self._database).begin() as connection:
            if not connection.execute(update(WalkForwardFoldRow).where(*which).values(changed)).rowcount:
                raise LookupError(f"walk-forward {walk_forward_id} has no fold {number}")

    def finish(self, walk_forward_id: str, *, at: datetime, findings: str, report_folder: str) -> None:
        """Save what came of a walk-forward (`findings` is JSON); finished again, the last findings count.

        Raises:
            LookupError: If there is none of this id.
        """
        changed = {"finished_at": at, "findings": findings, "report_folder": report_folder}
        with answered(self._database), writing(self._database).begin() as connection:
            if not connection.execute(update(WalkForwardRow).where(WalkForwardRow.id == walk_forward_id).values(changed)).rowcount:
                raise LookupError(f"there is no walk-forward {walk_forward_id}")


def _keep_settings(connection: Connection, record: BacktestRecord | WalkForwardRecord) -> None:
    row = {"settings_hash": record.settings_hash, "content": record.settings}
    connection.execute(insert_into(connection, EngineSettingsRow).values(row).on_conflict_do_nothing())


def _with_settings(table: type[BacktestRow | WalkForwardRow]) -> Select[Any, str]:
    return select(table, EngineSettingsRow.content).join(EngineSettingsRow, EngineSettingsRow.settings_hash == table.settings_hash)


def _folds_of(walk_forward_id: str) -> Select[WalkForwardFoldRow]:
    which = WalkForwardFoldRow.walk_forward_id == walk_forward_id
    return select(WalkForwardFoldRow).where(which).order_by(WalkForwardFoldRow.number)


def _check_same_folds(record: WalkForwardRecord, found: Sequence[FoldRecord], recorded: Sequence[FoldRecord]) -> None:
    found_periods, recorded_periods = ([_periods(fold) for fold in folds] for folds in (found, recorded))
    if found_periods != recorded_periods:
        differing = next(
            (pair for pair in zip(found_periods, recorded_periods, strict=False) if pair[0] != pair[1]),
            (f"{len(found)} folds", f"{len(recorded)} folds"),
        )
        raise BadSetup(
            f"walk-forward {record.name} ({record.id}) is already recorded with other folds: "
            f"found {differing[0]}; recorded {differing[1]}"
        )


def _periods(fold: FoldRecord) -> str:
    bounds = {
        "trained": (fold.train_start, fold.train_stop),
        "validated": (fold.validation_start, fold.validation_stop),
        "tested": (fold.test_start, fold.test_stop),
    }
    told = [
        f"{name} {start.astimezone(UTC).isoformat()} to {stop.astimezone(UTC).isoformat()}"
        for name, (start, stop) in bounds.items()
    ]
    return f"fold {fold.number}, {', '.join(told)}"


def _times(status: FoldStatus, at: datetime) -> dict[str, Any]:
    """Return the columns of a fold's start and end as a new status leaves them."""
    if status is FoldStatus.PENDING:
        return {"started_at": None, "finished_at": None}
    if status in {FoldStatus.DONE, FoldStatus.FAILED}:
        return {"finished_at": at}
    now = literal(at, UtcDateTime())
    row = WalkForwardFoldRow
    begun = case((row.finished_at.is_not(None), now), else_=func.coalesce(row.started_at, now))
    return {"started_at": begun, "finished_at": None}
