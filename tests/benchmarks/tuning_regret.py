"""Measure how much better a search finds than random search does, on a known function and on real candles. `make bench`.

The simple regret of a search is what its best trial lacks of the optimum: of the known function (Hartmann's in six dimensions,
as in Dixon & Szegö 1978) the known one, of the trading-level search on the packaged sample the best score that any of the
runs found. That search has the space of `configs/tune.yaml`, with 50 samples, two folds and no pruning. Forecasts alone would not
trade there, and all values score about the same: trend and mean reversion stay in the space.

Runs go through the product's own `SearchTrials` and `SeededSampler`, in its generations, but without Ray Tune and the database,
which change no trial. Random search of the same seed begins with the same trials: all searches draw the first ones at random.

    python -m tests.benchmarks.tuning_regret                50 trials over 5 seeds; about five minutes on two idle cores
    python -m tests.benchmarks.tuning_regret --seeds 10     over more; TPE on the known function is cheap, and has 20 anyway
    python -m tests.benchmarks.tuning_regret --quick        14 trials over 2 seeds, to see that it works; into runs/bench/quick
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
from scipy import stats

from fxcast.cluster.backtests import quieten as quieten_worker
from fxcast.cluster.local import ray_session
from fxcast.cluster.tune_sampler import SeededSampler
from fxcast.cluster.tune_setup import Searcher, SearchSetup
from fxcast.cluster.tune_trials import SearchTrials
from fxcast.domain.candle import FloatArray
from fxcast.performance.daily import DAYS_A_YEAR
from fxcast.tuning.objective import ObjectiveConfig, ObjectiveWeights, best_of
from fxcast.tuning.pruning import PruningConfig
from fxcast.tuning.ranges import ParameterRange
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import Budget, FoldEvaluator, FoldScore, Resources, Trial, Values
from tests.benchmarks.result import Against, Figure
from tests.benchmarks.tuning import CORES, bench_folder, plan_search, quieten, share_quietly, tell_load
from tests.tuning_factories import make_fold

_COMMAND = "python -m tests.benchmarks.tuning_regret"
_GENERATION = 4  # the job's default
_LEVEL = 0.95  # of intervals

# Hartmann's function: four hills, of which one is the highest.
_HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_STEEPNESS = np.array(
    [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ]
)
_TOPS = 1e-4 * np.array(
    [
        [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
        [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
        [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
        [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
    ]
)
_OPTIMUM = 3.32237
_PATHS = tuple(f"trading.x{number}" for number in range(1, 7))
_SWINGS = np.where(np.arange(20) % 2, 1.0, -1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is searched.

    Attributes:
        optimum: Score of the best values; None where nobody knows it.
    """

    name: str
    space: SearchSpace
    defaults: Values
    objective: ObjectiveConfig
    folds: int
    evaluator: FoldEvaluator
    optimum: float | None


@dataclass(frozen=True, slots=True)
class Hartmann:
    """Implements `FoldEvaluator`: the annualised Sharpe ratio is the function's value."""

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Return days with that ratio."""
        del trial
        point = np.array([float(str(values[path])) for path in _PATHS])
        height = float(_HEIGHTS @ np.exp(-np.sum(_STEEPNESS * (point - _TOPS) ** 2, axis=1)))
        return make_fold(0.01 * (_SWINGS + height * np.std(_SWINGS, ddof=1) / DAYS_A_YEAR**0.5), fold=fold)


class _Memory:
    """Implements `TrialKeeper` for a search that is never resumed."""

    def known(self) -> tuple[Trial, ...]:
        """Return none."""
        return ()

    def keep_fold(self, number: int, fold: FoldScore) -> None:
        """Keep none."""

    def keep(self, trial: Trial) -> None:
        """Keep none."""

    def spent(self) -> float:
        """Return no time."""
        return 0.0

    def spend(self, seconds: float) -> None:
        """Add none."""


def search(problem: Problem, searcher: Searcher, seed: int, trials: int) -> float:
    """Search in this process, and return the best score."""
    setup = SearchSetup(
        study=f"{searcher} {seed}",
        database_url="",
        space=problem.space,
        defaults=problem.defaults,
        searcher=searcher,
        seed=seed,
        objective=problem.objective,
        pruning=PruningConfig(rule="none"),
        budget=Budget(trials=trials),
        folds=problem.folds,
        generation=_GENERATION,
        concurrency=1,
        resources=Resources(),
        storage_path=Path(),
    )
    study = optuna.create_study(direction="maximize", sampler=SeededSampler(searcher, seed))
    found = SearchTrials(study, setup, _Memory())
    # The trials of a generation have all been asked when its first is handed out: their order changes none of them.
    while (trial := found.next()) is not None:
        for fold in range(1, problem.folds + 1):
            found.fold_done(trial.number, problem.evaluator.evaluate(trial.values, fold, trial=trial.number))
    best = best_of(found.trials, problem.objective)
    assert best is not None, "nothing is pruned, and what fails would end the run"
    assert best.measures is not None, "a complete trial has them"
    assert len(found.trials) == trials, "the budget is of trials alone"
    return best.measures.score


@ray.remote(num_cpus=1, max_retries=0)
def _search_task(problem: Problem, searcher: Searcher, seed: int, trials: int) -> float:
    quieten_worker()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return search(problem, searcher, seed, trials)


def known_problem() -> Problem:
    """Return Hartmann's function."""
    weights = ObjectiveWeights(drawdown=0, few_trades=0, crps_skill=0, coverage_error=0)
    return Problem(
        name="known",
        space=SearchSpace(ranges={path: ParameterRange(low=0.0, high=1.0, type="float") for path in _PATHS}),
        defaults=dict.fromkeys(_PATHS, 0.5),
        objective=ObjectiveConfig(weights=weights),
        folds=1,
        evaluator=Hartmann(),
        optimum=_OPTIMUM,
    )


def traded_problem(folder: Path, *, test_days: float, folds: int) -> Problem:
    """Return the search on real candles; its forecasts are computed, unless they are kept."""
    plan = plan_search(folder, test_days=test_days)
    return Problem(
        name="traded",
        space=plan.space,
        defaults=plan.defaults,
        objective=plan.settings.objective,
        folds=folds,
        evaluator=share_quietly(plan, folds).evaluator,
        optimum=None,
    )


def measure(problem: Problem, searchers: Sequence[Searcher], *, seeds: int, trials: int, bench: Path) -> None:
    """Search with every searcher and at random, and compare what they found."""
    began = time.perf_counter()
    names: tuple[Searcher, ...] = ("random", *searchers)
    tasks = {name: [_search_task.remote(problem, name, seed, trials) for seed in range(seeds)] for name in names}
    best = {name: np.array(ray.get(each)) for name, each in tasks.items()}
    taken = time.perf_counter() - began
    optimum = max(each.max() for each in best.values()) if problem.optimum is None else problem.optimum
    regrets = {name: optimum - each for name, each in best.items()}
    whence = "the best that any run found" if problem.optimum is None else "known"
    print(
        f"\n{problem.name}: {len(problem.space.ranges)} parameters, {trials} trials, {seeds} seeds; optimum {optimum:.4f}, {whence}"
    )
    for name, each in regrets.items():
        print(f"  regret of {name:<8} mean {each.mean():.4f}   by seed {'  '.join(f'{regret:.4f}' for regret in each)}")
    for name in searchers:
        _compare(problem, name, regrets, trials, bench)
    print(f"  {len(names) * seeds * trials} trials in {taken:.0f} s")


def _compare(problem: Problem, name: Searcher, regrets: Mapping[str, FloatArray], trials: int, bench: Path) -> None:
    """Say whether a searcher can be told apart from random search: paired by seed, Student's t."""
    own, other = regrets[name], regrets["random"]
    saved = other - own
    low, high = _interval(saved)
    verdict = (
        "better than random search" if low > 0 else "worse than random search" if high < 0 else "can't be told from random search"
    )
    print(
        f"  {name}: {saved.mean():+.4f} less regret than random search, {100 * _LEVEL:.0f} % interval {low:+.4f} to {high:+.4f} "
        f"(t, paired, {len(saved)} seeds), better in {int(np.sum(saved > 0))}: {verdict}"
    )
    figure = f"tuning_regret_{problem.name}_{name}"
    random = Against(name="random search", value=float(other.mean()))
    if own.any():  # a figure is published as a ratio to another, which a regret of 0 has not
        Figure(name=figure, value=float(own.mean()), unit="", against=random, command=_COMMAND).publish(bench)
    told: dict[str, Any] = {
        "trials": trials,
        "regret_by_seed": own.tolist(),
        "random_regret_by_seed": other.tolist(),
        "less_than_random": {"mean": float(saved.mean()), "low": low, "high": high, "level": _LEVEL},
        "verdict": verdict,
        "command": _COMMAND,
    }
    bench.mkdir(parents=True, exist_ok=True)
    (bench / f"{figure}_by_seed.json").write_text(json.dumps(told, indent=2) + "\n")


def _interval(values: FloatArray) -> tuple[float, float]:
    """Return Student's interval of a mean."""
    half = float(stats.t.ppf((1 + _LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(values.mean()) - half, float(values.mean()) + half


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few trials, two seeds, one short fold")
    parser.add_argument("--seeds", type=int, default=None, help="instead of 5; at least 2")
    options = parser.parse_args(arguments)
    quick: bool = options.quick
    seeds: int = options.seeds or (2 if quick else 5)
    trials, bench = (14 if quick else 50), bench_folder(quick=quick)
    quieten()
    with tempfile.TemporaryDirectory() as name, ray_session(num_cpus=CORES):
        tell_load()
        measure(known_problem(), ("tpe", "gp"), seeds=seeds, trials=trials, bench=bench)
        measure(replace(known_problem(), name="known_more"), ("tpe",), seeds=4 * seeds, trials=trials, bench=bench)
        problem = traded_problem(Path(name), test_days=12 if quick else 45, folds=1 if quick else 2)
        measure(problem, ("tpe",), seeds=seeds, trials=trials, bench=bench)


if __name__ == "__main__":
    main()
