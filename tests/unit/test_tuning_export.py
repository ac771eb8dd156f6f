"""A search as data: plain JSON without NaN that holds what the tables hold, and a row a trial as Parquet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fxcast.tuning.export import to_dict, write_json, write_trials
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.trial import Value
from tests.tuning_findings_factories import CRASH, HORIZONS, REVERSION, SAMPLES, THRESHOLD, make_findings, make_trials


@pytest.fixture(scope="module")
def findings() -> TuningFindings:
    return make_findings()


def no_constant(name: str) -> None:
    raise AssertionError(name)


def read(path: Path) -> Any:  # whatever JSON can hold
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=no_constant)


def test_json_comes_back_as_it_was_written(findings: TuningFindings, tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "findings.json", findings)
    assert read(tmp_path / "new" / "findings.json") == to_dict(findings)


def test_what_is_not_finite_is_null(findings: TuningFindings, tmp_path: Path) -> None:
    first = findings.trials[0]
    assert first.measures is not None
    odd = replace(first, measures=replace(first.measures, sharpe=float("nan"), score=float("-inf")))
    assert findings.robustness is not None
    broken = replace(
        findings,
        trials=(odd, *findings.trials[1:]),
        deflated_sharpe=float("nan"),
        importances={THRESHOLD: np.float64("nan")},
        robustness=replace(findings.robustness, worst=float("inf")),
    )
    write_json(tmp_path / "findings.json", broken)
    found = read(tmp_path / "findings.json")
    assert found["trials"][0]["measures"]["sharpe"] is None
    assert found["trials"][0]["measures"]["score"] is None
    assert found["deflated_sharpe"] is None
    assert found["importances"] == {THRESHOLD: None}
    assert found["robustness"]["worst"] is None


def test_json_holds_what_the_tables_are_made_of(findings: TuningFindings) -> None:
    found = to_dict(findings)
    assert found["verdict"] == findings.verdict
    assert [each["holds"] for each in found["conditions"]] == [False, True, False, True]
    assert [each["key"] for each in found["hold_out"]] == ["winner", "default", "random"]
    for run, kept in zip(findings.hold_out, found["hold_out"], strict=True):
        assert kept["measures"]["sharpe"] == {
            "value": run.measures.sharpe.value,
            "low": run.measures.sharpe.low,
            "high": run.measures.sharpe.high,
        }
        assert set(kept["differences"]) == {each.measure for each in run.differences}
        assert kept["values"][HORIZONS] == list(run.values[HORIZONS] or ())  # type: ignore[arg-type]  # it is a tuple
    winner = findings.trials[findings.winner]
    assert winner.measures is not None
    assert found["trials"][findings.winner]["measures"]["score"] == winner.measures.score
    assert found["trials"][findings.winner]["values"][THRESHOLD] == winner.values[THRESHOLD]
    assert findings.overfitting is not None
    assert found["overfitting"]["probability"] == findings.overfitting.probability
    assert found["counted_trials"] == 180
    assert found["importances"] == findings.importances
    assert found["command"] == findings.command


def test_json_has_no_daily_returns_and_no_curves(findings: TuningFindings) -> None:
    text = json.dumps(to_dict(findings))
    for name in ("returns", "curve", "equity", "falls", "times"):
        assert f'"{name}"' not in text
    assert str(float(findings.trials[0].folds[0].curve.returns[3])) not in text


def test_a_bare_search_is_exported_too() -> None:
    found = to_dict(make_findings(trials=make_trials(1), bare=True))
    assert found["overfitting"] is None
    assert found["robustness"] is None
    assert found["hold_out"] == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_each_trial_of_both_searches_is_a_row(findings: TuningFindings, tmp_path: Path) -> None:
    write_trials(tmp_path / "new" / "trials.parquet", findings)
    rows = pq.read_table(tmp_path / "new" / "trials.parquet").to_pylist()
    assert [row["kind"] for row in rows] == ["search"] * 60 + ["random"] * 60
    assert [row["number"] for row in rows] == [*range(60), *range(60)]
    for row, trial in zip(rows, [*findings.trials, *findings.random_trials], strict=True):
        assert row["state"] == trial.state.value
        assert row[THRESHOLD] == trial.values[THRESHOLD]
        assert tuple(row[HORIZONS]) == trial.values[HORIZONS]
        assert row[SAMPLES] == trial.values[SAMPLES]
        assert row[REVERSION] is trial.values[REVERSION]
        assert row["score"] == (None if trial.measures is None else trial.measures.score)
        assert row["folds"] == (None if trial.measures is None else len(trial.folds))
    failed = rows[17]
    assert (failed["state"], failed["error"], failed["sharpe"]) == ("failed", CRASH, None)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ((1, 2.5), [1.0, 2.5]),
        ((None, 0.5), [None, 0.5]),
        (((15, 60), None), [[15, 60], None]),
        (("kelly", (15, 60)), ['"kelly"', "[15, 60]"]),
        ((True, 3), ["true", "3"]),
    ],
)
def test_choices_of_several_kinds_have_a_column_too(values: tuple[Value, Value], kept: list[Any], tmp_path: Path) -> None:
    trials = [replace(trial, values={"trading.any": value}) for trial, value in zip(make_trials(2), values, strict=True)]
    findings = replace(make_findings(bare=True), trials=tuple(trials))
    write_trials(tmp_path / "trials.parquet", findings)
    assert pq.read_table(tmp_path / "trials.parquet")["trading.any"].to_pylist() == kept
