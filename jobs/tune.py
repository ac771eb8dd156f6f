"""Search the parameters of the whole system, and guard against fooling ourselves: python -m jobs.tune."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from fxcast.cluster.local import ray_session
from fxcast.cluster.tune_driver import SearchProgress, SearchSetup, run_search
from fxcast.cluster.tune_evaluate import WantedFold, evaluate_folds
from fxcast.errors import BadSetting
from fxcast.terminal import new_console, progress_bar
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.objective import measures_of
from fxcast.tuning.report import write_report
from fxcast.tuning.table import summary
from fxcast.tuning.trial import Budget, Trial
from jobs.backtest import bars
from jobs.backtest_settings import renamed
from jobs.entry import FAILED, run
from jobs.tune_guard import Searched, guard
from jobs.tune_market import Shared, share
from jobs.tune_model import ModelEvaluator
from jobs.tune_plan import TunePlan, plan_tune
from jobs.tune_record import RANDOM, SEARCH, DatabaseKeeper, Record, finish, open_record
from jobs.tune_settings import Searcher, TuneJob
from jobs.walk_forward_progress import in_words

Show = Callable[[str, int, int], None]
ShowSearch = Callable[[str, SearchProgress], None]

_TOLERANCE = 1e-9  # of a score and of a day's return: a trial that is run again differs by no more than the order of a sum


def tune(plan: TunePlan, record: Record, *, command: str, show: Show, show_search: ShowSearch) -> TuningFindings:
    """Search, guard, and write it down, on the connected cluster.

    Raises:
        BadSetup: If no trial was completed.
        FxcastError: As models, forecasts and backtests.
    """
    settings = plan.settings
    shared = share(plan, show=show)
    trials = _search(plan, shared, record, SEARCH, settings.searcher, settings.trials, show_search)
    wanted = settings.trials if settings.random_trials is None else settings.random_trials
    random_trials: tuple[Trial, ...] = ()
    if wanted > 1:
        beside, evaluator = shared, shared.evaluator
        if isinstance(evaluator, ModelEvaluator):
            beside = replace(shared, evaluator=replace(evaluator, kind=RANDOM))
        random_trials = _search(plan, beside, record, RANDOM, "random", wanted, show_search)
    findings = guard(plan, shared, Searched(trials=trials, random_trials=random_trials), record, command=command, show=show)
    write_report(settings.folder, findings, plan.space)
    finish(record, findings, settings.folder)
    return findings


def _search(
    plan: TunePlan, shared: Shared, record: Record, kind: str, searcher: Searcher, trials: int, show: ShowSearch
) -> tuple[Trial, ...]:
    settings = plan.settings
    setup = SearchSetup(
        study=settings.name if kind == SEARCH else f"{settings.name} {kind}",
        database_url=settings.database_url,
        space=plan.space,
        defaults=plan.defaults,
        searcher=searcher,
        seed=settings.seed if kind == SEARCH else settings.seed + 1,
        objective=settings.objective,
        pruning=settings.pruning,
        budget=Budget(
            trials=trials,
            seconds=None if settings.max_hours is None else settings.max_hours * 3600,
            patience=settings.patience if kind == SEARCH else None,
        ),
        folds=len(plan.folds),
        forecasts=plan.settings.trading.use_ldm4ts,
        generation=settings.generation,
        concurrency=settings.concurrency,
        resources=shared.resources,
        cpus_a_trial=shared.cpus,
        gpus_a_trial=shared.gpus,
        storage_path=settings.folder / "ray",
        max_failures=settings.max_failures,
    )
    keeper = DatabaseKeeper(record=record, kind=kind, plan=plan)
    return run_search(setup, shared.evaluator, keeper, show=lambda progress: show(kind, progress))


def rerun(plan: TunePlan, record: Record, number: int, *, show: Show) -> tuple[Trial, Trial]:
    """Run a trial of a search again on the connected cluster; return it as it was kept, and as it is now.

    Raises:
        BadSetting: If the search has no such trial.
    """
    keeper = DatabaseKeeper(record=record, kind=SEARCH, plan=plan)
    known = keeper.known()
    kept = next((each for each in known if each.number == number), None)
    if kept is None or not kept.folds:
        raise BadSetting(f"rerun: found {number}; allowed: a trial of {plan.settings.name} that was run, 0 to {len(known) - 1}")
    shared = share(plan, show=show)
    wanted = [WantedFold(values=kept.values, fold=each.fold, trial=number) for each in kept.folds]
    scores = evaluate_folds(
        shared.evaluator,
        wanted,
        shared.resources,
        at_once=plan.settings.concurrency or shared.at_once,
        show=lambda done, total: show(f"trial {number} again", done, total),
    )
    found = measures_of(scores, plan.settings.objective)
    before, score = measures_of(kept.folds, plan.settings.objective), keeper.scored(number)
    written = before if score is None else replace(before, score=score)
    return replace(kept, measures=written), replace(kept, folds=tuple(scores), measures=found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    given = renamed(sys.argv[1:] if arguments is None else arguments)
    return run(lambda: _report(TuneJob.parse(given), shlex.join(["python", "-m", "jobs.tune", *given])))


def _report(settings: TuneJob, command: str) -> int:
    plan = plan_tune(settings)
    settings = plan.settings
    record = open_record(plan, command)
    console = new_console()
    with ray_session(num_cpus=max(os.cpu_count() or 1, 2)), progress_bar() as progress:
        if settings.rerun is not None:
            kept, again = rerun(plan, record, settings.rerun, show=bars(progress))
            return _compare(console, kept, again)
        console.print(
            f"{settings.name}: {len(plan.folds)} folds from {plan.start:%Y-%m-%d} to {plan.stop:%Y-%m-%d}, held out "
            f"{plan.hold_out[0]:%Y-%m-%d} to {plan.hold_out[1]:%Y-%m-%d}",
            markup=False,
        )
        began = time.monotonic()
        findings = tune(plan, record, command=command, show=bars(progress), show_search=SearchBars(progress))
    for warning in findings.warnings:
        console.print(warning, style="bold red", markup=False)
    console.print(summary(findings, plan.space))
    console.print(
        f"written to {settings.folder}: report.html, findings.json, trials.parquet, pictures/, ray/ (TensorBoard), "
        f"after {in_words(time.monotonic() - began)}",
        markup=False,
    )
    if findings.promotes:
        console.print(f"python -m jobs.promote --run {settings.name} lets engines take it with --params best", markup=False)
    return 0


def _compare(console: Console, kept: Trial, again: Trial) -> int:
    assert kept.measures is not None, "it has folds"
    assert again.measures is not None, "it has folds"
    days, days_again = kept.daily_returns, again.daily_returns
    same = abs(kept.measures.score - again.measures.score) <= _TOLERANCE and (
        days.shape == days_again.shape and bool(np.allclose(days, days_again, rtol=0.0, atol=_TOLERANCE))
    )
    console.print(
        f"trial {kept.number}: score {again.measures.score!r}, kept {kept.measures.score!r}; Sharpe ratio "
        f"{again.measures.sharpe!r}, kept {kept.measures.sharpe!r}: {'the same' if same else 'NOT the same'}",
        markup=False,
    )
    return 0 if same else FAILED


class SearchBars:
    """Shows a bar for each search, with the best trial so far, those that were stopped, and the time that is left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, kind: str, found: SearchProgress) -> None:
        """Say how far a search is."""
        if kind not in self._tasks:
            self._tasks[kind] = self._progress.add_task(kind, total=found.trials)
        best = "" if found.best is None else f", best {found.best:.3f} (trial {found.best_number})"
        left = "" if found.left_s is None else f", {in_words(found.left_s)} left"
        name = "random search" if kind == RANDOM else "search"
        told = f"{name}{best}, {found.pruned} stopped, {found.failed} failed{left}"
        self._progress.update(self._tasks[kind], completed=found.done, description=told)


if __name__ == "__main__":
    raise SystemExit(main())
