"""Time the trials of a search: on shared forecasts and on their own, one at a time and two, and what the driver adds. `make bench`.

The search is that of `configs/tune.yaml`, on the packaged sample, always with 50 samples and without pruning. Times are by the
clock: leave the machine alone. Forecasts that trials share are kept in `runs/forecasts`, as the job keeps them.

    python -m tests.benchmarks.tuning             all of it; about five minutes on two idle cores
    python -m tests.benchmarks.tuning --quick     short folds and few trials, to see that it works; into runs/bench/quick
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import ray
import structlog

from fxcast.cluster.backtests import prepare_forecasts
from fxcast.cluster.forecast_cache import ForecastCache
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.tune_driver import SearchProgress, SearchSetup, run_search
from fxcast.cluster.tune_sampler import SeededSampler
from fxcast.cluster.tune_sampling import SamplingEvaluator
from fxcast.cluster.tune_trading import TradingEvaluator
from fxcast.tuning.objective import measures_of
from fxcast.tuning.pruning import PruningConfig
from fxcast.tuning.space import Level
from fxcast.tuning.trial import Budget, FoldEvaluator, FoldScore, Resources, Trial, Values
from jobs.tune_market import Shared, share_spans
from jobs.tune_plan import TunePlan, plan_tune
from jobs.tune_record import SEARCH, DatabaseKeeper, open_record
from jobs.tune_settings import TuneJob
from tests.benchmarks.result import Against, Figure
from tests.tuning_factories import make_fold

_COMMAND = "python -m tests.benchmarks.tuning"
_TARGET_SHARED, _TARGET_TWO = 20.0, 1.6
CORES = 2
_SAMPLES = "trading.ldm4ts_num_samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        test_days: Of a fold.
        folds: Of a trial, where two ways to forecast are compared.
        shared: Trials on shared forecasts.
        recomputed: Trials that forecast for themselves, which are the first of these.
        generation: Trials that are asked at once, where one at a time is compared with two.
        searched: Trials there.
        searched_folds: Of a trial there; None for all that are not held out.
        empty: Trials that do nothing.
    """

    test_days: float
    folds: int
    shared: int
    recomputed: int
    generation: int
    searched: int
    searched_folds: int | None
    empty: int


_FULL = Size(test_days=45, folds=2, shared=40, recomputed=3, generation=8, searched=32, searched_folds=None, empty=40)
_QUICK = Size(test_days=12, folds=1, shared=4, recomputed=1, generation=2, searched=6, searched_folds=1, empty=6)


@dataclass(slots=True)
class _Stopwatch:
    """Notes when each trial of a search had finished, as what a search shows its progress with."""

    began: float = field(default_factory=time.perf_counter)
    ends: list[float] = field(default_factory=list[float])

    def __call__(self, progress: SearchProgress) -> None:
        """Look at the clock."""
        now = time.perf_counter()
        self.ends += [now] * (progress.done - len(self.ends))

    def whole_s(self) -> float:
        """Return how long all trials took, with the start of their processes."""
        return self.ends[-1] - self.began

    def later_s(self, first: int) -> float:
        """Return how long all but the first ones took."""
        return self.ends[-1] - self.ends[first - 1]


@dataclass(frozen=True, slots=True)
class _Empty:
    """Implements `FoldEvaluator`: trades nothing, so that what is left is the driver's time."""

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Return the same days at once."""
        del values, trial
        return make_fold(fold=fold)


def plan_search(folder: Path, *, test_days: float, name: str = "bench") -> TunePlan:
    """Plan the search of `configs/tune.yaml` with 50 samples in all trials; its database lies in a folder.

    Forecasts are then shared and recomputed with as many samples, and both ways the same trial scores the same.
    """
    options = ("--name", name, "--test-days", f"{test_days}", "--database-url", f"sqlite:///{folder / 'fx.db'}")
    settings = TuneJob.parse(["--config", str(REPOSITORY / "configs" / "tune.yaml"), *options, "--tunes", str(folder / "tune")])
    space = {path: each for path, each in settings.space.items() if path != _SAMPLES}
    return plan_tune(settings.model_copy(update={"space": space}))


def share_quietly(plan: TunePlan, folds: int | None) -> Shared:
    """Prepare the first folds of a search, or all."""
    return share_spans(plan, plan.data, plan.folds[:folds], first_fold=1, show=_nothing)


def _nothing(stage: str, done: int, total: int) -> None:
    del stage, done, total


def time_forecasts(plan: TunePlan, size: Size, folder: Path, bench: Path) -> None:
    """Time trials on shared forecasts, and some of the same trials that forecast for themselves; one at a time either way."""
    values = _drawn(plan, size.shared)
    trading = share_quietly(plan, size.folds).evaluator
    alone = replace(plan, settings=plan.settings.model_copy(update={"level": Level.SAMPLING}))
    sampling = share_quietly(alone, size.folds).evaluator
    assert isinstance(trading, TradingEvaluator), "what the level asks for"
    assert isinstance(sampling, SamplingEvaluator), "what the level asks for"
    _evaluated(trading, values[0], plan, size.folds)  # this process has read what trials share
    started = time.perf_counter()
    scores = [_evaluated(trading, each, plan, size.folds) for each in values]
    shared_s = (time.perf_counter() - started) / size.shared
    started = time.perf_counter()
    for number in range(size.recomputed):
        score = _evaluated(_with_new_cache(sampling, folder / f"forecasts-{number}"), values[number], plan, size.folds)
        if score != scores[number]:
            raise SystemExit(f"trial {number}: scored {scores[number]} on shared forecasts, {score} on its own; expected: the same")
    recomputed_s = (time.perf_counter() - started) / size.recomputed
    start_s = _start_s(_with_new_cache(sampling, folder / "forecasts-start"))
    windows = sum(len(ends) for request in sampling.requests for ends in request.ends.values())
    samples = plan.settings.trading.ldm4ts_num_samples
    print(
        f"a trial: {len(plan.space.ranges)} parameters, {size.folds} fold(s) of {size.test_days:g} days of hourly EUR/USD traded "
        f"one after the other; one that forecasts for itself also samples {windows} windows {samples} times with the shipped "
        f"model, on {CORES} cores"
    )
    against = Against(name="recomputing forecasts", value=60 / recomputed_s)
    _publish(bench, "tuning_trials_a_minute", 60 / shared_s, "", against)
    _publish(bench, "tuning_shared_forecasts", recomputed_s / shared_s, "×", Against(name="target", value=_TARGET_SHARED))
    print(
        f"{1000 * shared_s:.0f} ms a trial beside {recomputed_s:.1f} s, over {size.shared} and {size.recomputed} trials; of the "
        f"latter {start_s:.1f} s start the forecasters of each fold: without that it would be "
        f"{(recomputed_s - start_s) / shared_s:.0f} times"
    )


def _drawn(plan: TunePlan, trials: int) -> list[Values]:
    """Return the default values, then random ones."""
    study = optuna.create_study(sampler=SeededSampler("random", seed=0))
    drawn = [plan.space.decode(study.ask(plan.space.distributions()).params) for _ in range(trials - 1)]
    return [plan.defaults, *drawn]


def _evaluated(evaluator: FoldEvaluator, values: Values, plan: TunePlan, folds: int) -> float:
    scores = [evaluator.evaluate(values, fold, trial=0) for fold in range(1, folds + 1)]
    return measures_of(scores, plan.settings.objective).score


def _with_new_cache(evaluator: SamplingEvaluator, folder: Path) -> SamplingEvaluator:
    """Return an evaluator that finds no forecast."""
    return replace(evaluator, requests=tuple(replace(each, cache=str(folder)) for each in evaluator.requests))


def _start_s(evaluator: SamplingEvaluator) -> float:
    """Return what a trial takes to have forecasters: as many are started for two windows of each fold as for all."""
    started = time.perf_counter()
    series = {symbol: ray.get(each) for symbol, each in evaluator.market.series.items()}
    for source, request in zip(evaluator.sources, evaluator.requests, strict=True):
        prepare_forecasts(
            source,
            series,
            {symbol: ends[:CORES] for symbol, ends in request.ends.items()},
            num_samples=2,
            cache=ForecastCache(request.cache),
            workers=request.workers,
        )
    return time.perf_counter() - started


def time_two_at_once(plan: TunePlan, size: Size, bench: Path) -> None:
    """Search with one trial at a time, then with two, then with trials that do nothing, all with Ray Tune and the database."""
    shared = share_quietly(plan, size.searched_folds)
    folds, first = len(shared.prepared), size.generation
    search = partial(_search, plan, size, folds)
    one, alone = search(shared.evaluator, size.searched, concurrency=1)
    two, together = search(shared.evaluator, size.searched, concurrency=2)
    if _told(alone) != _told(together):
        raise SystemExit("the searches with one and two trials at once found other trials; expected: the same")
    empty, _ = search(_Empty(), size.empty, concurrency=1)
    for which, watch in (("one trial at a time", one), ("two trials at once", two)):
        whole, later = 60 * size.searched / watch.whole_s(), 60 * (size.searched - first) / watch.later_s(first)
        print(
            f"{which}: {size.searched} trials of {folds} fold(s) in {watch.whole_s():.1f} s, {whole:.1f} "
            f"a minute; without the first generation of {first}, {later:.1f} a minute"
        )
    target = Against(name="target", value=_TARGET_TWO)
    _publish(bench, "tuning_two_at_once", one.later_s(first) / two.later_s(first), "×", target)
    _publish(bench, "tuning_two_at_once_with_start", one.whole_s() / two.whole_s(), "×", target)
    empty_ms = 1000 * empty.later_s(first) / (size.empty - first)
    each_ms = 1000 * one.later_s(first) / (size.searched - first)
    _publish(bench, "tuning_driver_a_trial", empty_ms, "ms", Against(name="a trial alone", value=each_ms))
    print(
        f"of trials that trade nothing, {folds} fold(s) each, kept in SQLite and for TensorBoard; {empty_ms / folds:.0f} ms a fold"
    )


def _search(
    plan: TunePlan, size: Size, folds: int, evaluator: FoldEvaluator, trials: int, *, concurrency: int
) -> tuple[_Stopwatch, tuple[Trial, ...]]:
    name = f"{type(evaluator).__name__}-{concurrency}"
    plan = replace(plan, settings=plan.settings.model_copy(update={"name": name}))
    settings = plan.settings
    setup = SearchSetup(
        study=name,
        database_url=settings.database_url,
        space=plan.space,
        defaults=plan.defaults,
        searcher=settings.searcher,
        seed=settings.seed,
        objective=settings.objective,
        pruning=PruningConfig(rule="none"),
        budget=Budget(trials=trials),
        folds=folds,
        generation=size.generation,
        concurrency=concurrency,
        resources=Resources(cpus=1.0),
        storage_path=settings.folder / "ray",
    )
    keeper = DatabaseKeeper(record=open_record(plan, _COMMAND), kind=SEARCH, plan=plan)
    watch = _Stopwatch()
    found = run_search(setup, evaluator, keeper, show=watch)
    return watch, found


def _told(trials: Sequence[Trial]) -> list[tuple[Values, float]]:
    return [(each.values, np.nan if each.measures is None else each.measures.score) for each in trials]


def bench_folder(*, quick: bool) -> Path:
    """Return where figures are written; those of a quick run are no figures, and lie elsewhere."""
    folder = REPOSITORY / "runs" / "bench"
    return folder / "quick" if quick else folder


def tell_load() -> None:
    """Say whether the machine was busy with other things."""
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _publish(bench: Path, name: str, value: float, unit: str, against: Against) -> None:
    Figure(name=name, value=value, unit=unit, against=against, command=_COMMAND).publish(bench)


def quieten() -> None:
    """Let neither the engine nor Optuna tell of each trial."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short folds and few trials")
    quick: bool = parser.parse_args(arguments).quick
    size, bench = (_QUICK if quick else _FULL), bench_folder(quick=quick)
    quieten()
    with tempfile.TemporaryDirectory() as name, ray_session(num_cpus=CORES):
        plan = plan_search(Path(name), test_days=size.test_days)
        tell_load()
        time_forecasts(plan, size, Path(name), bench)
        time_two_at_once(plan, size, bench)
        tell_load()


if __name__ == "__main__":
    main()
