"""Train on the past, trade what follows, move on: python -m jobs.walk_forward."""

from __future__ import annotations

import json
import math
import os
import queue
import shlex
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray
import ray.data
from filelock import FileLock, Timeout
from rich.console import Console

from fxcast.adapters.storage.backtests import FoldStatus
from fxcast.backtest.folds import Fold
from fxcast.cluster.local import ray_session
from fxcast.cluster.train_card import code_version
from fxcast.cluster.train_checkpoint import claim
from fxcast.cluster.train_storage import RunStorage
from fxcast.data.store import CandleStore, absolute_location
from fxcast.errors import BadSetup, FxcastError
from fxcast.performance.export import to_dict
from fxcast.performance.measure_table import table
from fxcast.performance.measures import Findings
from fxcast.performance.report import write_report
from fxcast.terminal import new_console, progress_bar
from jobs.backtest_record import Origin, open_records, other_trials
from jobs.backtest_settings import renamed
from jobs.entry import run
from jobs.walk_forward_files import unmark_done
from jobs.walk_forward_findings import find_stitched, fold_row, fold_table
from jobs.walk_forward_fold import Diary, run_fold, seconds_of_done
from jobs.walk_forward_plan import WalkForwardPlan, plan_walk_forward
from jobs.walk_forward_progress import FoldBars
from jobs.walk_forward_settings import WalkForwardJob


def walk_forward(plan: WalkForwardPlan, *, command: str = "") -> Findings:
    """Do the folds that are not done, on the connected cluster, and stitch all; write the report and the records.

    Raises:
        BadSetup: If another process is at this walk-forward.
        FxcastError: Of the first fold that failed, after those beside it have ended; the same command goes on.
    """
    with _alone(plan.settings.folder):
        return _walk_forward(plan, command)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Keep other processes off a run's folder; the lock of one that was killed is gone with it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadSetup(f"{folder}: another process is at this walk-forward; wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def _walk_forward(plan: WalkForwardPlan, command: str) -> Findings:
    settings = plan.settings
    claim(RunStorage.of(absolute_location(settings.walk_forwards), settings.name), plan.identity)
    diary = Diary.of(plan, open_records(settings.database_url))
    diary.begin()
    _do_folds(plan, diary)
    origin = Origin(models={}, data_hash=plan.data_hash, settings=plan.content, seen_by_model=bool(plan.seen))
    tests = plan.folds[0].test[0], plan.folds[-1].test[1]
    warnings = list(plan.warnings)
    if diary.records is None:
        warnings.append("There is no database of earlier backtests: this one counts as the only trial, which it may not be.")
    findings = find_stitched(
        plan,
        other_sharpes=other_trials(diary.records, settings, origin, *tests),
        warnings=warnings,
        facts=_facts(plan),
        command=command,
    )
    store = CandleStore(settings.store)
    candles = {symbol: store.read(symbol, plan.timeframe, *tests) for symbol in settings.symbols}
    write_report(settings.folder, findings, candles=candles)
    diary.finish(json.dumps(to_dict(findings), sort_keys=True))
    return findings


def folds_at_once(settings: WalkForwardJob, folds: int) -> int:
    """Return how many folds are done side by side: as many as the connected cluster has room to train, unless it is said."""
    if settings.refit == "fine-tune":
        return 1
    if settings.concurrency is not None:
        return min(settings.concurrency, folds)
    resources = ray.cluster_resources()
    workers = settings.fewest_workers if settings.trains else 1
    room = resources.get("CPU", 1.0) / (workers * settings.cpus_per_worker)
    if settings.use_gpu:
        room = min(room, resources.get("GPU", 0.0) / workers)
    return max(1, min(folds, math.floor(room)))


def _do_folds(plan: WalkForwardPlan, diary: Diary) -> None:
    known = {fold.number: seconds for fold in plan.folds if (seconds := seconds_of_done(plan, fold)) is not None}
    missing = [fold for fold in plan.folds if fold.number not in known]
    for fold in missing:
        unmark_done(plan.fold_folder(fold))
    at_once = folds_at_once(plan.settings, len(plan.folds))
    ray.data.DataContext.get_current().enable_progress_bars = False  # for all threads; each forecast would set it back for itself
    with progress_bar() as progress:
        bars = FoldBars(progress, plan.folds, known=known, at_once=at_once)

        def do(fold: Fold) -> None:
            bars.begin(fold)
            try:
                run_fold(
                    plan,
                    fold,
                    diary,
                    start_from=_start_of(plan, fold),
                    show=lambda stage, done, all_: bars.show(fold, stage, done, all_),
                )
            except FxcastError as error:
                diary.tell(fold, FoldStatus.FAILED, reason=str(error))
                raise
            row = fold_row(plan, fold.number - 1)
            bars.finish(fold, f"{row['trades']} trades, return {row['return']}")

        _side_by_side(missing, do, at_once)


def _start_of(plan: WalkForwardPlan, fold: Fold) -> Path | None:
    """Return the folder of the model that a fold's training begins with."""
    if plan.settings.refit == "fine-tune" and fold.number > 1:
        return plan.model_folder(plan.folds[fold.number - 2])
    return plan.start_from


def _side_by_side(folds: Sequence[Fold], do: Callable[[Fold], None], at_once: int) -> None:
    """Do folds in so many threads; after one has failed no other is begun, and its error is raised when those beside it have ended.

    The threads end with the process, so that Ctrl-C does not wait for what they wait for.
    """
    waiting: queue.Queue[Fold] = queue.Queue()
    for fold in folds:
        waiting.put(fold)
    ended: queue.Queue[BaseException | None] = queue.Queue()
    failed = threading.Event()

    def work() -> None:
        try:
            while not failed.is_set():
                do(waiting.get_nowait())
        except queue.Empty:
            ended.put(None)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is raised again in the thread that waits
            failed.set()
            ended.put(error)
        else:
            ended.put(None)

    threads = [threading.Thread(target=work, name=f"fold-{number}", daemon=True) for number in range(min(at_once, len(folds)))]
    for thread in threads:
        thread.start()
    errors = [error for _ in threads if (error := ended.get()) is not None]
    if errors:
        raise errors[0]


def _facts(plan: WalkForwardPlan) -> dict[str, str]:
    settings = plan.settings
    how = {
        "scratch": "each fold trains anew",
        "fine-tune": "each fold begins with the model of the one before",
        "none": f"{settings.model} trades all folds",
    }[settings.refit]
    return {
        "code": code_version(),
        "candles": plan.data_hash[:16],
        "settings": plan.settings_hash,
        "folds": f"{len(plan.folds)}, {settings.scheme.value}: {settings.train_days:g} days of training, "
        f"{settings.validation_days:g} of validation, {settings.test_days:g} of test; "
        f"{plan.identity['purge_bars']} candles purged, {settings.embargo_bars} more before the test; {how}",
        "account": "each fold begins with a new account; here their returns are compounded, and sizes and money of a fold's trades "
        "are multiplied by what the folds before it have grown to. What a fold held at its end counts as it was last marked.",
        "folds' own figures": f"{settings.folder}/fold-01 …: findings.json, trades.parquet, equity.parquet",
        **plan.parameters.facts,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    given = renamed(sys.argv[1:] if arguments is None else arguments)
    return run(lambda: _report(WalkForwardJob.parse(given), shlex.join(["python", "-m", "jobs.walk_forward", *given])))


def _report(settings: WalkForwardJob, command: str) -> int:
    plan = plan_walk_forward(settings)
    console = new_console()
    for sentence in plan.parameters.told:
        console.print(sentence, markup=False)
    with ray_session(num_cpus=_cpus(settings)):
        findings = walk_forward(plan, command=command)
    tell(console, findings)
    console.print(
        f"written to {settings.folder}: report.html, findings.json, trades.parquet, equity.parquet, pictures/, fold-01/ …",
        markup=False,
    )
    return 0


def _cpus(settings: WalkForwardJob) -> int:
    """Return the CPUs of a cluster of our own: the machine's, but never too few to train at all."""
    needed = math.ceil(settings.fewest_workers * settings.cpus_per_worker) if settings.trains else 1
    return max(os.cpu_count() or 1, 2, needed)


def tell(console: Console, findings: Findings) -> None:
    """Print what was found: warnings, the folds, the measures, and the three answers."""
    for warning in findings.warnings:
        console.print(warning, style="bold red", markup=False)
    console.print(fold_table(findings.folds))
    console.print()
    console.print(table(findings))
    for sentence in findings.verdicts:
        console.print(sentence, markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
