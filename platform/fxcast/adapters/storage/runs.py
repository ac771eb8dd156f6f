"""Searches, walk-forwards and backtests as a list tells them: how far each is and what came of it, without its findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from fxcast.adapters.storage.backtest_tables import BacktestRow, WalkForwardFoldRow, WalkForwardRow
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tuning_tables import TuningRunRow, TuningTrialRow

RunKind = Literal["search", "walk-forward", "backtest"]

_TABLES = {"search": TuningRunRow, "walk-forward": WalkForwardRow, "backtest": BacktestRow}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchInList:
    """A search of jobs.tune.

    Attributes:
        wanted: How many trials.
        states: How many of its own trials are in each state.
        seconds: Spent so far, over all parts of a run that was resumed.
        promotes: Whether its guard lets the winner be promoted; None while it is not finished.
    """

    id: str
    name: str
    symbols: str
    timeframe: str
    level: str
    begun_at: datetime
    finished_at: datetime | None
    wanted: int
    states: Mapping[str, int]
    seconds: float
    verdict: str
    promotes: bool | None
    has_report: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkForwardInList:
    """A walk-forward.

    Attributes:
        folds: How many folds are in each status.
        problems: Why folds failed.
    """

    id: str
    name: str
    symbols: str
    timeframe: str
    begun_at: datetime
    finished_at: datetime | None
    folds: Mapping[str, int]
    problems: tuple[str, ...]
    has_report: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestInList:
    """A backtest that stands alone; shares of 1, None where a measure can't be told."""

    id: str
    name: str
    symbols: str
    timeframe: str
    made_at: datetime
    start: datetime
    stop: datetime
    trades: int
    total_return: float
    sharpe: float | None
    deflated_sharpe: float | None
    max_drawdown: float | None
    seen_by_model: bool
    has_report: bool


def list_searches(engine: Engine, *, limit: int) -> tuple[SearchInList, ...]:
    """Return searches, the newest first.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row, trial = TuningRunRow, TuningTrialRow
    query = select(
        row.id,
        row.name,
        row.symbols,
        row.timeframe,
        row.level,
        row.begun_at,
        row.finished_at,
        row.trials,
        row.seconds,
        row.verdict,
        row.promotes,
        row.report_folder,
    ).order_by(row.begun_at.desc(), row.id)
    counts = select(trial.run_id, trial.state, func.count()).where(trial.kind == "search").group_by(trial.run_id, trial.state)
    with answered(engine), Session(engine) as session:
        found = session.execute(query.limit(limit)).all()
        states: dict[str, dict[str, int]] = {}
        for run_id, state, count in session.execute(counts.where(trial.run_id.in_([each.id for each in found]))):
            states.setdefault(run_id, {})[state] = count
    return tuple(
        SearchInList(
            id=each.id,
            name=each.name,
            symbols=each.symbols,
            timeframe=each.timeframe,
            level=each.level,
            begun_at=each.begun_at,
            finished_at=each.finished_at,
            wanted=each.trials,
            states=states.get(each.id, {}),
            seconds=each.seconds,
            verdict=each.verdict,
            promotes=each.promotes,
            has_report=bool(each.report_folder),
        )
        for each in found
    )


def list_walk_forwards(engine: Engine, *, limit: int) -> tuple[WalkForwardInList, ...]:
    """Return walk-forwards, the newest first.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row, fold = WalkForwardRow, WalkForwardFoldRow
    query = select(row.id, row.name, row.symbols, row.timeframe, row.begun_at, row.finished_at, row.report_folder).order_by(
        row.begun_at.desc(), row.id
    )
    with answered(engine), Session(engine) as session:
        found = session.execute(query.limit(limit)).all()
        folds = select(fold.walk_forward_id, fold.status, fold.reason).where(fold.walk_forward_id.in_([each.id for each in found]))
        statuses: dict[str, dict[str, int]] = {}
        problems: dict[str, list[str]] = {}
        for run_id, status, reason in session.execute(folds.order_by(fold.walk_forward_id, fold.number)):
            counted = statuses.setdefault(run_id, {})
            counted[status] = counted.get(status, 0) + 1
            if reason:
                problems.setdefault(run_id, []).append(reason)
    return tuple(
        WalkForwardInList(
            id=each.id,
            name=each.name,
            symbols=each.symbols,
            timeframe=each.timeframe,
            begun_at=each.begun_at,
            finished_at=each.finished_at,
            folds=statuses.get(each.id, {}),
            problems=tuple(problems.get(each.id, ())),
            has_report=bool(each.report_folder),
        )
        for each in found
    )


def list_backtests(engine: Engine, *, limit: int) -> tuple[BacktestInList, ...]:
    """Return backtests, the newest first; without benchmarks and the folds of walk-forwards.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    row = BacktestRow
    query = (
        select(
            row.id,
            row.name,
            row.symbols,
            row.timeframe,
            row.made_at,
            row.start,
            row.stop,
            row.trades,
            row.total_return,
            row.sharpe,
            row.deflated_sharpe,
            row.max_drawdown,
            row.seen_by_model,
            row.report_folder,
        )
        .where(row.is_benchmark.is_(False), row.walk_forward_id.is_(None))
        .order_by(row.made_at.desc(), row.id)
    )
    with answered(engine), Session(engine) as session:
        found = session.execute(query.limit(limit)).all()
    return tuple(
        BacktestInList(
            id=each.id,
            name=each.name,
            symbols=each.symbols,
            timeframe=each.timeframe,
            made_at=each.made_at,
            start=each.start,
            stop=each.stop,
            trades=each.trades,
            total_return=each.total_return,
            sharpe=each.sharpe,
            deflated_sharpe=each.deflated_sharpe,
            max_drawdown=each.max_drawdown,
            seen_by_model=each.seen_by_model,
            has_report=bool(each.report_folder),
        )
        for each in found
    )


def report_folder(engine: Engine, kind: RunKind, run_id: str) -> str | None:
    """Return where a run's report was written, None if there is no such run or it wrote none.

    Raises:
        DatabaseUnavailable: If the database does not answer.
    """
    table = _TABLES[kind]
    with answered(engine), Session(engine) as session:
        return session.scalar(select(table.report_folder).where(table.id == run_id)) or None
