"""What a search found as data for other programs: JSON, and the trials as Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fxcast.performance.export import measures_to_dict, plain
from fxcast.tuning.findings import HoldOutRun, TuningFindings
from fxcast.tuning.trial import Trial, Value

_MEASURES = {
    "score": pa.float64(),
    "sharpe": pa.float64(),
    "max_drawdown": pa.float64(),
    "total_return": pa.float64(),
    "trades": pa.int64(),
    "crps_skill": pa.float64(),
    "coverage": pa.float64(),
    "coverage_error": pa.float64(),
    "folds": pa.int64(),
}


def to_dict(findings: TuningFindings) -> dict[str, Any]:
    """Return plain JSON types: shares are of 1, what can't be told is None; daily returns and curves are not in it."""
    return plain(
        {
            "name": findings.name,
            "level": findings.level,
            "symbols": findings.symbols,
            "timeframe": findings.timeframe,
            "verdict": findings.verdict,
            "promotes": findings.promotes,
            "conditions": [asdict(condition) for condition in findings.conditions],
            "warnings": findings.warnings,
            "winner": findings.winner,
            "pareto": findings.pareto,
            "hold_out": [_hold_out(run) for run in findings.hold_out],
            "overfitting": None if findings.overfitting is None else asdict(findings.overfitting),
            "counted_trials": findings.counted_trials,
            "expected_best_sharpe": findings.expected_best_sharpe,
            "deflated_sharpe": findings.deflated_sharpe,
            "robustness": None if findings.robustness is None else asdict(findings.robustness),
            "importances": findings.importances,
            "trials": [_trial(trial) for trial in findings.trials],
            "random_trials": [_trial(trial) for trial in findings.random_trials],
            "facts": findings.facts,
            "command": findings.command,
        }
    )


def write_json(path: Path, findings: TuningFindings) -> None:
    """Write `to_dict` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_dict(findings), indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def write_trials(path: Path, findings: TuningFindings) -> None:
    """Write a row a trial of both searches: number, kind (search or random), state, the parameters by path, and the measures.

    What a trial lacks is null: measures of one that failed before its first fold.
    """
    rows = [("search", trial) for trial in findings.trials] + [("random", trial) for trial in findings.random_trials]
    trials = [trial for _, trial in rows]
    paths = dict.fromkeys(path for trial in trials for path in trial.values)
    columns = {
        "number": pa.array([trial.number for trial in trials], pa.int64()),
        "kind": pa.array([kind for kind, _ in rows], pa.string()),
        "state": pa.array([trial.state.value for trial in trials], pa.string()),
        **{path: _column([trial.values.get(path) for trial in trials]) for path in paths},
        **{name: pa.array([_measure(trial, name) for trial in trials], kind) for name, kind in _MEASURES.items()},
        "seconds": pa.array([sum(fold.seconds for fold in trial.folds) for trial in trials], pa.float64()),
        "error": pa.array([trial.error for trial in trials], pa.string()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="zstd")


def _hold_out(run: HoldOutRun) -> dict[str, Any]:
    return {
        "key": run.key,
        "title": run.title,
        "values": dict(run.values),
        "measures": measures_to_dict(run.measures),
        "differences": {
            each.measure: {"ours": each.ours, "theirs": each.theirs, **asdict(each.difference)} for each in run.differences
        },
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.value,
        "values": dict(trial.values),
        "measures": None if trial.measures is None else asdict(trial.measures),
        "folds": [
            {
                "fold": fold.fold,
                "days": len(fold.curve),
                "trades": fold.trades,
                "horizons": [asdict(horizon) for horizon in fold.horizons],
                "seconds": fold.seconds,
            }
            for fold in trial.folds
        ],
        "error": trial.error,
    }


def _measure(trial: Trial, name: str) -> float | None:
    return None if trial.measures is None else plain(getattr(trial.measures, name))


def _column(values: Sequence[Value]) -> Any:  # noqa: ANN401  # a pyarrow array, of which it publishes no type
    """Return values as they are; where choices are of several kinds, as JSON text."""
    kinds = {float if type(value) is int else type(value) for value in values if value is not None}
    if len(kinds) > 1:
        return pa.array([json.dumps(value) for value in values], pa.string())
    return pa.array([list(value) if isinstance(value, tuple) else value for value in values])
