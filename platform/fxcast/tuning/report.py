"""What a search found, as a folder: one HTML file that no link leads out of, its pictures, and the data behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fxcast.performance.page import render
from fxcast.performance.pictures import Picture
from fxcast.tuning import export, report_charts, report_guard_charts, report_parameters, report_rows
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.importance import LEAST_TRIALS
from fxcast.tuning.space import SearchSpace

_MOST_TRIALS = 10
_LEAST_DRAWN = 2  # complete trials: one alone shows nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pictures:
    """By the section of the page that they stand in; empty where there is nothing to draw."""

    hold_out: list[Picture]
    overfitting: list[Picture]
    robustness: list[Picture]
    search: list[Picture]
    importances: list[Picture]
    parameters: list[Picture]
    beside_random: list[Picture]


def write_report(folder: Path, findings: TuningFindings, space: SearchSpace) -> None:
    """Write report.html, pictures/*.png, findings.json and trials.parquet.

    Args:
        folder: Made if it is missing; what an earlier report left there under these names is replaced.
        space: That was searched.
    """
    text = render(
        "fxcast.tuning",
        "report.html.jinja",
        findings=findings,
        subtitle=_subtitle(findings),
        hold_out=(report_rows.hold_out_head(findings), report_rows.hold_out_rows(findings)),
        differences=(report_rows.difference_head(findings), report_rows.difference_rows(findings)),
        values=(report_rows.values_head(findings), report_rows.values_rows(findings, space)),
        overfitting=report_rows.overfitting_rows(findings.overfitting) if findings.overfitting is not None else [],
        luck=report_rows.luck_rows(findings),
        robustness=report_rows.robustness_rows(findings.robustness) if findings.robustness is not None else [],
        states=report_rows.states(findings.trials),
        random_states=report_rows.states(findings.random_trials),
        trials=(list(report_rows.TRIAL_HEAD), report_rows.trial_rows(findings.trials, _MOST_TRIALS)),
        failures=report_rows.failures(findings.trials),
        least_trials=LEAST_TRIALS,
        pictures=_draw(folder / "pictures", findings, space),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(text, encoding="utf-8")
    export.write_json(folder / "findings.json", findings)
    export.write_trials(folder / "trials.parquet", findings)


def _draw(folder: Path, findings: TuningFindings, space: SearchSpace) -> _Pictures:
    for old in folder.glob("*.png"):  # of an earlier report, which may have had others
        old.unlink()
    guard, search, parameters = report_guard_charts, report_charts, report_parameters
    overfitting, robustness, shares = findings.overfitting, findings.robustness, findings.importances
    searched = len(report_rows.complete(findings.trials)) >= _LEAST_DRAWN

    def drawn(name: str, draw: Callable[[Path], Picture], *, there: bool = True) -> list[Picture]:
        return [draw(folder / name)] if there else []

    runs = tuple(run for run in findings.hold_out if len(run.equity))
    return _Pictures(
        hold_out=drawn("hold-out.png", lambda path: guard.hold_out(path, runs), there=bool(runs)),
        overfitting=[guard.logits(folder / "logits.png", overfitting)] if overfitting is not None and overfitting.logits else [],
        robustness=[guard.neighbours(folder / "neighbours.png", robustness)]
        if robustness is not None and robustness.neighbours
        else [],
        search=drawn("history.png", lambda path: search.history(path, findings), there=searched)
        + drawn("pareto.png", lambda path: search.pareto(path, findings), there=searched),
        importances=drawn("importances.png", lambda path: parameters.importances(path, shares), there=bool(shares)),
        parameters=drawn("slices.png", lambda path: parameters.slices(path, findings, space), there=searched)
        + drawn("parallel.png", lambda path: parameters.parallel(path, findings, space), there=searched),
        beside_random=drawn(
            "beside-random.png",
            lambda path: search.beside_random(path, findings),
            there=searched and bool(report_rows.complete(findings.random_trials)),
        ),
    )


def _subtitle(findings: TuningFindings) -> str:
    random = f" Beside it a random search of {report_rows.states(findings.random_trials)}." if findings.random_trials else ""
    return (
        f"{findings.name}. Search over {', '.join(findings.symbols)} {findings.timeframe} on the level {findings.level}: "
        f"{report_rows.states(findings.trials)}.{random}"
    )
