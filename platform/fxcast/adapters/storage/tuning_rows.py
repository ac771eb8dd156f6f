"""Searches, their trials, and promotions as records; and between these and the rows that keep them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxcast.adapters.storage.backtest_rows import joined
from fxcast.adapters.storage.tuning_tables import PromotionRow, TuningFoldRow, TuningRunRow, TuningTrialRow
from fxcast.domain.candle import FloatArray
from fxcast.trading.parameters import Value, Values

TRIAL_KINDS = ("search", "random", "neighbour")
TRIAL_STATES = ("running", "complete", "pruned", "failed")
RUN_STATUSES = ("running", "finished")

# A fold's arrays, and as what each is kept.
_ARRAYS = {"days": "<i8", "returns": "<f8", "lows": "<f8", "highs": "<f8", "falls": "<f8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRun:
    """A search over [start, stop), judged on [hold_out_start, hold_out_stop), with what came of it.

    Attributes:
        name: Of one search only in a database.
        symbols: They come back in alphabetical order; the order says nothing.
        level: trading, sampling or model.
        regime: The one that it is for, None for all.
        trials: How many were wanted.
        data_hash: Of the candles.
        settings: All that can change the outcome, as JSON; kept once for each `settings_hash`.
        study: Name of its Optuna study.
        command: What to run to get the same.
        status: running or finished.
        seconds: Spent so far, over all parts of a run that was resumed.
        winner: Number of the best trial.
        promotes: Whether its guard lets it be promoted.
        hold_out_sharpe: The winner's, annualised.
        default_hold_out_sharpe: The default values', annualised.
        deflated_sharpe: Probability that the winner's true Sharpe ratio is above the best of so many without skill.
        overfitting_probability: Share of splits in which the best one lies below the median in the other half.
        findings: All of them, as JSON.
    """

    name: str
    begun_at: datetime
    symbols: tuple[str, ...]
    timeframe: str
    level: str
    regime: str | None
    searcher: str
    seed: int
    start: datetime
    stop: datetime
    hold_out_start: datetime
    hold_out_stop: datetime
    trials: int
    data_hash: str
    settings_hash: str
    settings: str
    code_version: str
    study: str
    command: str
    status: str = "running"
    seconds: float = 0.0
    finished_at: datetime | None = None
    winner: int | None = None
    winner_values: Values | None = None
    promotes: bool | None = None
    verdict: str = ""
    hold_out_sharpe: float | None = None
    default_hold_out_sharpe: float | None = None
    deflated_sharpe: float | None = None
    overfitting_probability: float | None = None
    findings: str | None = None
    report_folder: str = ""

    def __post_init__(self) -> None:
        _check_one_of("status", self.status, RUN_STATUSES)
        _check_floats(self)

    @property
    def id(self) -> str:
        """The same name with all that can change the outcome is the same search: begun again, it goes on."""
        return sha256(json.dumps([self.name, *self.identity.values()]).encode()).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """All that can change the outcome, in words."""
        return {
            "symbols": joined(self.symbols),
            "timeframe": self.timeframe,
            "level": self.level,
            "regime": self.regime or "all",
            "searcher": self.searcher,
            "seed": str(self.seed),
            "search period": _period(self.start, self.stop),
            "hold-out": _period(self.hold_out_start, self.hold_out_stop),
            "trials": str(self.trials),
            "candles": self.data_hash,
            "settings": self.settings_hash,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TuningFoldRecord:
    """One fold of a trial; its arrays come back bit for bit, and can't be written to.

    Attributes:
        fold: Counts from 1.
        trades: Closed.
        seconds: That it took.
        horizons: Of each, `minutes`, `windows`, `crps`, `walk_crps` and `inside`.
        days: (n,) int64, days since 1970.
        returns: (n,)
        lows: (n,) lowest equity at a candle's close, over the day's first.
        highs: (n,) highest, over the day's first.
        falls: (n,) deepest fall below a peak of the same day, as a share of that peak.
    """

    fold: int
    trades: int
    seconds: float
    horizons: tuple[Mapping[str, int | float], ...]
    days: NDArray[np.int64]
    returns: FloatArray
    lows: FloatArray
    highs: FloatArray
    falls: FloatArray

    def __post_init__(self) -> None:
        _check_floats(self)
        for name in _ARRAYS:
            array = getattr(self, name)
            if array.shape != (len(self.days),):
                raise ValueError(f"{name} of fold {self.fold}: found shape {array.shape}; allowed: ({len(self.days)},), as days")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} of fold {self.fold} holds NaN or infinity")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrialRecord:
    """A trial; a measure is None where it can't be told.

    Attributes:
        kind: search, random (the search of equal budget beside it) or neighbour (of the winner).
        number: Counts from 0 in each kind.
        state: running, complete, pruned or failed.
        sharpe: Annualised, as the other measures of the folds that were done.
        error: Why it failed.
        folds: By number.
    """

    kind: str
    number: int
    state: str
    values: Values
    began_at: datetime
    score: float | None = None
    sharpe: float | None = None
    max_drawdown: float | None = None
    total_return: float | None = None
    trades: int | None = None
    crps_skill: float | None = None
    coverage: float | None = None
    coverage_error: float | None = None
    error: str = ""
    finished_at: datetime | None = None
    folds: tuple[TuningFoldRecord, ...] = ()

    def __post_init__(self) -> None:
        _check_one_of("kind", self.kind, TRIAL_KINDS)
        _check_one_of("state", self.state, TRIAL_STATES)
        _check_floats(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRecord:
    """Values that engines take for one symbol and timeframe.

    Attributes:
        regime: The one in which they are taken, None for all.
        trial: Its number in the search.
        retired_at: None while it is active.
        guard_passed: Whether the search's guard let it be promoted.
        forced: Whether it was promoted all the same.
        id: Counts up; None before it is kept.
        restores: Id of the promotion that a roll-back brought back with this one.
        rolled_back_by: Who rolled it back; None of one that was not.
        rolled_back_because: Why.
    """

    symbol: str
    timeframe: str
    regime: str | None
    run_id: str
    run_name: str
    trial: int
    values: Values
    promoted_at: datetime
    guard_passed: bool
    by: str
    reason: str
    forced: bool = False
    retired_at: datetime | None = None
    id: int | None = None
    restores: int | None = None
    rolled_back_by: str | None = None
    rolled_back_because: str | None = None


# Columns that are no field as it is.
_KEPT_OTHERWISE = ("symbols", "settings", "values", "winner_values", "folds", "horizons", "regime", "id", *_ARRAYS)
_RUN, _TRIAL, _FOLD, _PROMOTION = (
    tuple(each.name for each in fields(record) if each.name not in _KEPT_OTHERWISE)
    for record in (TuningRun, TrialRecord, TuningFoldRecord, PromotionRecord)
)


def run_values(run: TuningRun) -> dict[str, Any]:
    return {
        "id": run.id,
        **_columns(run, _RUN),
        "symbols": joined(run.symbols),
        "regime": run.regime,
        "winner_values": None if run.winner_values is None else values_json(run.winner_values),
    }


def run_record(row: TuningRunRow, settings: str) -> TuningRun:
    return TuningRun(
        **_columns(row, _RUN),
        symbols=tuple(row.symbols.split(",")),
        regime=row.regime,
        winner_values=None if row.winner_values is None else _values(row.winner_values),
        settings=settings,
    )


def trial_values(trial: TrialRecord) -> dict[str, Any]:
    return {**_columns(trial, _TRIAL), "kind": str(trial.kind), "state": str(trial.state), "values": values_json(trial.values)}


def trial_record(row: TuningTrialRow, folds: Iterable[TuningFoldRecord]) -> TrialRecord:
    return TrialRecord(**_columns(row, _TRIAL), values=_values(row.values), folds=tuple(folds))


def fold_values(fold: TuningFoldRecord) -> dict[str, Any]:
    arrays = {name: getattr(fold, name).astype(kept_as).tobytes() for name, kept_as in _ARRAYS.items()}
    horizons = json.dumps([dict(each) for each in fold.horizons], allow_nan=False)
    return {**_columns(fold, _FOLD), "horizons": horizons, **arrays}


def fold_record(row: TuningFoldRow) -> TuningFoldRecord:
    arrays: dict[str, Any] = {name: np.frombuffer(getattr(row, name), dtype=kept_as) for name, kept_as in _ARRAYS.items()}
    return TuningFoldRecord(**_columns(row, _FOLD), horizons=tuple(json.loads(row.horizons)), **arrays)


def promotion_values(promotion: PromotionRecord) -> dict[str, Any]:
    return {**_columns(promotion, _PROMOTION), "regime": promotion.regime or "", "values": values_json(promotion.values)}


def promotion_record(row: PromotionRow) -> PromotionRecord:
    return PromotionRecord(**_columns(row, _PROMOTION), id=row.id, regime=row.regime or None, values=_values(row.values))


def values_json(values: Values) -> str:
    """Return values as JSON, in which a float keeps every bit.

    Raises:
        ValueError: If one is NaN or infinite.
    """
    return json.dumps(dict(values), allow_nan=False)


def check_finite(name: str, value: object) -> None:
    """Refuse NaN, which SQLite would keep as null, and infinity.

    Raises:
        ValueError: If the value is a float and not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; a measure that can't be told is None")


def _values(text: str) -> Values:
    found: dict[str, Any] = json.loads(text)
    return {path: _value(value) for path, value in found.items()}


def _value(value: Any) -> Value:  # noqa: ANN401 (JSON)
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples


def _columns(holder: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(holder, name) for name in names}


def _period(start: datetime, stop: datetime) -> str:
    return " to ".join(moment.astimezone(UTC).isoformat() for moment in (start, stop))


def _check_floats(record: TuningRun | TrialRecord | TuningFoldRecord) -> None:
    for each in fields(record):
        check_finite(each.name, getattr(record, each.name))


def _check_one_of(name: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise ValueError(f"{name}: found {found!r}; allowed: {', '.join(allowed)}")
