"""Searches with their trials, fold by fold, and what came of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import starmap
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, inspect, or_, select, update
from sqlalchemy.orm import Session

from fxcast.adapters.storage.backtest_rows import joined
from fxcast.adapters.storage.database import insert_into, writing
from fxcast.adapters.storage.engine_tables import EngineSettingsRow
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.tuning_rows import (
    TrialRecord,
    TuningFoldRecord,
    TuningRun,
    check_finite,
    fold_record,
    fold_values,
    run_record,
    run_values,
    trial_record,
    trial_values,
    values_json,
)
from fxcast.adapters.storage.tuning_tables import TuningFoldRow, TuningRunRow, TuningTrialRow
from fxcast.errors import BadSetup
from fxcast.trading.parameters import Values

__all__ = ["TrialRecord", "TuningFoldRecord", "TuningRecords", "TuningRun"]

_MOST_DIFFERENCES = 8  # of the settings, told in a refusal


class TuningRecords:
    """The searches of a database; every method is one transaction, and raises DatabaseUnavailable in an outage.

    Args:
        database: From `open_database`.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database

    def begin(self, run: TuningRun) -> TuningRun:
        """Record a search; of one that was begun before, everything stays as it is.

        Returns:
            The search as it is recorded.

        Raises:
            BadSetup: If there is another of this name; it says what differs.
        """
        row = run_values(run)
        with answered(self._database), writing(self._database).begin() as connection:
            kept = {"settings_hash": run.settings_hash, "content": run.settings}
            connection.execute(insert_into(connection, EngineSettingsRow).values(kept).on_conflict_do_nothing())
            connection.execute(insert_into(connection, TuningRunRow).values(row).on_conflict_do_nothing())
            recorded = _run(connection, TuningRunRow.name == run.name)
            if recorded.id != run.id:
                raise BadSetup(
                    f"a search named {run.name} exists with other settings: {'; '.join(_differences(run, recorded))}; "
                    "give this one another name"
                )
        return recorded

    def run(self, name_or_id: str) -> TuningRun | None:
        """Return a search, None if there is none of this name or id."""
        which = or_(TuningRunRow.id == name_or_id, TuningRunRow.name == name_or_id)
        with answered(self._database), Session(self._database) as session:
            found = session.execute(_with_settings().where(which)).first()
        return None if found is None else run_record(*found)

    def runs(self, symbols: Iterable[str] | None = None, timeframe: str | None = None) -> tuple[TuningRun, ...]:
        """Return searches, newest first.

        Args:
            symbols: Only of exactly these.
            timeframe: Only of this one.
        """
        query = _with_settings()
        query = query if symbols is None else query.where(TuningRunRow.symbols == joined(symbols))
        query = query if timeframe is None else query.where(TuningRunRow.timeframe == timeframe)
        with answered(self._database), Session(self._database) as session:
            rows = session.execute(query.order_by(TuningRunRow.begun_at.desc(), TuningRunRow.name)).all()
        return tuple(starmap(run_record, rows))

    def save_trial(self, run_id: str, trial: TrialRecord) -> None:
        """Save a trial in place of what is there of it; folds that it holds too, others of it stay."""
        row = {"run_id": run_id, **trial_values(trial)}
        folds = [_fold_row(run_id, trial.kind, trial.number, fold) for fold in trial.folds]
        with answered(self._database), writing(self._database).begin() as connection:
            _upsert(connection, TuningTrialRow, row)
            for fold in folds:
                _upsert(connection, TuningFoldRow, fold)

    def save_fold(self, run_id: str, kind: str, number: int, fold: TuningFoldRecord) -> None:
        """Save a fold of a trial, which was saved before, in place of what is there of it."""
        row = _fold_row(run_id, kind, number, fold)
        with answered(self._database), writing(self._database).begin() as connection:
            _upsert(connection, TuningFoldRow, row)

    def trials(self, run_id: str, kind: str | None = None) -> tuple[TrialRecord, ...]:
        """Return the trials of a search with their folds, by kind and number.

        Args:
            kind: Only of this one.
        """
        trial, fold = TuningTrialRow, TuningFoldRow
        trials = select(trial).where(trial.run_id == run_id).order_by(trial.kind, trial.number)
        folds = select(fold).where(fold.run_id == run_id).order_by(fold.kind, fold.number, fold.fold)
        if kind is not None:
            trials, folds = trials.where(trial.kind == kind), folds.where(fold.kind == kind)
        found: defaultdict[tuple[str, int], list[TuningFoldRecord]] = defaultdict(list)
        with answered(self._database), Session(self._database) as session:
            for row in session.scalars(folds):
                found[row.kind, row.number].append(fold_record(row))
            return tuple(trial_record(row, found[row.kind, row.number]) for row in session.scalars(trials))

    def spend(self, run_id: str, seconds: float) -> None:
        """Add to the time that a search has taken.

        Raises:
            LookupError: If there is none of this id.
        """
        check_finite("seconds", seconds)
        self._change(run_id, {"seconds": TuningRunRow.seconds + seconds})

    def finish(
        self,
        run_id: str,
        *,
        at: datetime,
        winner: int | None,
        winner_values: Values | None,
        promotes: bool,
        verdict: str,
        hold_out_sharpe: float | None,
        default_hold_out_sharpe: float | None,
        deflated_sharpe: float | None,
        overfitting_probability: float | None,
        findings: str,
        report_folder: str,
    ) -> None:
        """Save what came of a search (`findings` is JSON); finished again, the last findings count.

        Raises:
            LookupError: If there is none of this id.
        """
        changed: dict[str, Any] = {
            "status": "finished",
            "finished_at": at,
            "winner": winner,
            "winner_values": None if winner_values is None else values_json(winner_values),
            "promotes": promotes,
            "verdict": verdict,
            "hold_out_sharpe": hold_out_sharpe,
            "default_hold_out_sharpe": default_hold_out_sharpe,
            "deflated_sharpe": deflated_sharpe,
            "overfitting_probability": overfitting_probability,
            "findings": findings,
            "report_folder": report_folder,
        }
        for name, value in changed.items():
            check_finite(name, value)
        self._change(run_id, changed)

    def hold_out_looks(self, symbols: Iterable[str], timeframe: str, start: datetime, stop: datetime, *, before_run_id: str) -> int:
        """Return how many other searches on exactly these symbols have looked at a hold-out that overlaps [start, stop).

        Args:
            before_run_id: The search that asks, which does not count itself; one that is not finished has not looked.
        """
        row = TuningRunRow
        query = select(func.count()).where(
            row.symbols == joined(symbols),
            row.timeframe == timeframe,
            row.hold_out_start < stop,
            row.hold_out_stop > start,
            row.status == "finished",
            row.id != before_run_id,
        )
        with answered(self._database), self._database.connect() as connection:
            return connection.scalar(query) or 0

    def trial_sharpes(
        self, symbols: Iterable[str], timeframe: str, start: datetime, stop: datetime, *, other_than: str
    ) -> Mapping[str, float]:
        """Return by `run_id/kind/number` the annualised Sharpe ratios of all that other searches tried on the same market.

        Counted are complete and pruned trials, of the search and of the random one beside it, of searches on exactly these
        symbols whose period overlaps [start, stop).

        Args:
            other_than: Id of the search that asks.
        """
        run, trial = TuningRunRow, TuningTrialRow
        query = (
            select(trial.run_id, trial.kind, trial.number, trial.sharpe)
            .join(run, run.id == trial.run_id)
            .where(
                run.symbols == joined(symbols),
                run.timeframe == timeframe,
                run.start < stop,
                run.stop > start,
                run.id != other_than,
                trial.kind.in_(("search", "random")),
                trial.state.in_(("complete", "pruned")),
                trial.sharpe.is_not(None),
            )
            .order_by(run.begun_at, trial.run_id, trial.kind, trial.number)
        )
        with answered(self._database), self._database.connect() as connection:
            return {f"{row.run_id}/{row.kind}/{row.number}": row.sharpe for row in connection.execute(query)}

    def _change(self, run_id: str, changed: dict[str, Any]) -> None:
        with answered(self._database), writing(self._database).begin() as connection:
            if not connection.execute(update(TuningRunRow).where(TuningRunRow.id == run_id).values(changed)).rowcount:
                raise LookupError(f"there is no search {run_id}")


def _with_settings() -> Select[Any, str]:
    return select(TuningRunRow, EngineSettingsRow.content).join(
        EngineSettingsRow, EngineSettingsRow.settings_hash == TuningRunRow.settings_hash
    )


def _run(connection: Connection, which: ColumnElement[bool]) -> TuningRun:
    with Session(connection) as session:
        return run_record(*session.execute(_with_settings().where(which)).one())


def _fold_row(run_id: str, kind: str, number: int, fold: TuningFoldRecord) -> dict[str, Any]:
    return {"run_id": run_id, "kind": str(kind), "number": number, **fold_values(fold)}


def _upsert(connection: Connection, table: type[TuningTrialRow | TuningFoldRow], row: dict[str, Any]) -> None:
    key = [column.name for column in inspect(table).primary_key]
    connection.execute(insert_into(connection, table).values(row).on_conflict_do_update(index_elements=key, set_=row))


def _differences(found: TuningRun, recorded: TuningRun) -> list[str]:
    """Return in words what two searches of one name do not have in common."""
    told = [
        f"{name}: found {value}, recorded {recorded.identity[name]}"
        for name, value in found.identity.items()
        if value != recorded.identity[name] and name != "settings"
    ]
    if found.settings_hash != recorded.settings_hash:
        told += _differing_settings(json.loads(found.settings), json.loads(recorded.settings))
    return told


def _differing_settings(found: object, recorded: object) -> list[str]:
    mine, theirs = dict(_leaves("settings", found)), dict(_leaves("settings", recorded))
    told = [
        f"{path}: found {mine.get(path, 'nothing')}, recorded {theirs.get(path, 'nothing')}"
        for path in sorted(mine.keys() | theirs.keys())
        if mine.get(path) != theirs.get(path)
    ]
    more = len(told) - _MOST_DIFFERENCES
    return [*told[:_MOST_DIFFERENCES], f"{more} settings more"] if more > 0 else told


def _leaves(path: str, node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for name, child in cast("dict[str, object]", node).items():
            yield from _leaves(f"{path}.{name}", child)
    else:
        yield path, json.dumps(node)
