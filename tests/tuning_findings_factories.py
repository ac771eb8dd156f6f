"""A search as it could have gone: made-up days that some parameters improve, and all that is found from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from fxcast.backtest.result import EquityCurve
from fxcast.domain.candle import FloatArray, to_datetime64
from fxcast.performance.compare import MEASURES
from fxcast.performance.daily import DailyCurve
from fxcast.performance.measure import measure_curve
from fxcast.performance.measures import Difference, Interval
from fxcast.performance.ratios import sharpe, total_return
from fxcast.tuning.findings import Condition, HoldOutRun, Neighbour, Overfitting, Robustness, TuningFindings
from fxcast.tuning.importance import importances
from fxcast.tuning.ranges import ParameterRange
from fxcast.tuning.space import SearchSpace
from fxcast.tuning.trial import FoldScore, HorizonScore, Trial, TrialMeasures, TrialState, Value, Values
from tests.performance_factories import HOUR, MONDAY, make_trade

FOLDS, FOLD_DAYS, HOLD_OUT_DAYS = 4, 30, 120
START = 100_000.0
SEED = 3
THRESHOLD, KELLY, STOP = "trading.ldm4ts_uncertainty_threshold", "trading.sizing.kelly_fraction", "trading.management.stop_multiple"
STRENGTH, VOLATILE = "trading.ldm4ts_min_strength", "trading.sizing.regime_multipliers.volatile"
HORIZONS, SAMPLES, REVERSION = "trading.ldm4ts_horizons", "trading.ldm4ts_num_samples", "trading.use_mean_reversion"
DEFAULTS: Values = {
    THRESHOLD: 0.5,
    HORIZONS: (15, 60, 240),
    STRENGTH: 0.3,
    SAMPLES: 50,
    KELLY: 0.25,
    STOP: 1.0,
    VOLATILE: 0.5,
    REVERSION: True,
}
CRASH = "WorkerCrashedError: the worker died <script>alert('unexpectedly')</script>"
_LISTS = ((15, 60), (15, 60, 240), (60, 240))
SPACE = SearchSpace(
    ranges={
        THRESHOLD: ParameterRange(low=0.3, high=0.7),
        HORIZONS: ParameterRange(choices=_LISTS),
        STRENGTH: ParameterRange(low=0.2, high=0.5),
        SAMPLES: ParameterRange(choices=(30, 50, 100)),
        KELLY: ParameterRange(low=0.05, high=0.5, log=True),
        STOP: ParameterRange(low=0.5, high=3.0),
        VOLATILE: ParameterRange(low=0.0, high=1.0),
        REVERSION: ParameterRange(choices=(True, False)),
    }
)


def make_values(rng: np.random.Generator, *, near: Values | None = None) -> Values:
    """Draw values of the space, or some near others."""
    drawn: dict[str, Value] = {
        THRESHOLD: _between(rng, 0.3, 0.7, near, THRESHOLD),
        HORIZONS: _LISTS[int(rng.integers(3))],
        STRENGTH: _between(rng, 0.2, 0.5, near, STRENGTH),
        SAMPLES: (30, 50, 100)[int(rng.integers(3))],
        KELLY: _between(rng, 0.05, 0.5, near, KELLY),
        STOP: _between(rng, 0.5, 3.0, near, STOP),
        VOLATILE: _between(rng, 0.0, 1.0, near, VOLATILE),
        REVERSION: bool(rng.integers(2)),
    }
    return drawn


def make_trial(
    number: int, values: Values, *, seed: int = SEED, state: TrialState = TrialState.COMPLETE, folds: int = FOLDS, error: str = ""
) -> Trial:
    """Build a trial whose days are those of all trials with the same seed, some better for its values."""
    scores = tuple(_fold(fold, values, seed) for fold in range(1, folds + 1))
    return Trial(number=number, values=values, state=state, folds=scores, measures=_measures(scores), error=error)


def make_trials(count: int, *, seed: int = SEED, learns: bool = True) -> tuple[Trial, ...]:
    """Build trials that come ever nearer to what is best, some of them pruned, a few failed; the first has the default values."""
    rng = np.random.default_rng([seed, learns])
    trials = [make_trial(0, DEFAULTS, seed=seed)]
    for number in range(1, count):
        done = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.measures is not None]
        best = max(done, key=lambda trial: trial.measures.score if trial.measures is not None else 0.0)
        trial = make_trial(number, make_values(rng, near=best.values if learns and number > 10 else None), seed=seed)
        if number % 23 == 17:
            trial = make_trial(number, trial.values, seed=seed, state=TrialState.FAILED, folds=0, error=CRASH)
        elif learns and number > 8 and trial.measures is not None and trial.measures.score < -1.0:
            trial = make_trial(number, trial.values, seed=seed, state=TrialState.PRUNED, folds=2)
        trials.append(trial)
    return tuple(trials)


def make_curve(days: int, *, drift: float, seed: int) -> EquityCurve:
    """Build the account at each hour's close of some weekdays."""
    hours = [MONDAY + HOUR * hour for hour in range(1, days * 7 * 24 // 5)]
    times = np.array([to_datetime64(hour) for hour in hours if hour.weekday() * 24 + hour.hour <= 4 * 24 + 21])
    rng = np.random.default_rng(seed)
    trading = np.repeat(rng.random(len(times) // 8 + 1) < 0.6, 8)[: len(times)]
    steps = trading * rng.normal(drift / 24, 0.004 / np.sqrt(24), len(times))
    equity: FloatArray = START * np.cumprod(1.0 + steps, dtype=np.float64)
    at_work = np.where(steps != 0.0, 0.8 * equity, 0.0)
    return EquityCurve(times=times, balance=equity, open_profit=np.zeros(len(times)), exposure=at_work)


def make_hold_out(winner: Values, random: Values | None) -> tuple[HoldOutRun, ...]:
    """Build the three runs on the hold-out, two where there was no random search."""
    runs = [("winner", "winner", winner, 0.0004, 40, 11), ("default", "default values", DEFAULTS, 0.0002, 52, 1)]
    if random is not None:
        runs.append(("random", "best of random search", random, -0.0001, 47, 12))
    made: list[HoldOutRun] = []
    for key, title, values, drift, trades, seed in runs:
        equity = make_curve(HOLD_OUT_DAYS, drift=drift, seed=seed)
        closed = [
            make_trade((-1) ** n * (40 + 7 * n % 50), opened_at=datetime.fromtimestamp(int(at.astype(np.int64)), tz=UTC))
            for n, at in enumerate(equity.times[:: len(equity) // trades][:trades])
        ]
        measures = measure_curve(equity, START, trades=closed, seed=1, draws=200)
        differences = ()
        if made:
            first = made[0].measures
            pairs = {
                "sharpe": (first.sharpe.value, measures.sharpe.value, 1.4),
                "max_drawdown": (first.max_drawdown.value, measures.max_drawdown.value, 0.02),
                "win_rate": (first.win_rate.value, measures.win_rate.value, 0.1),
                "total_return": (first.total_return, measures.total_return, 0.01),
            }
            differences = tuple(_difference(name, *pairs[name]) for name in MEASURES)
        made.append(HoldOutRun(key=key, title=title, values=values, equity=equity, measures=measures, differences=differences))
    return tuple(made)


def make_findings(
    *,
    trials: Sequence[Trial] | None = None,
    random_trials: Sequence[Trial] | None = None,
    space: SearchSpace = SPACE,
    bare: bool = False,
) -> TuningFindings:
    """Build what a search of 60 trials and a random search of 60 found.

    Args:
        bare: Leave out all that a search may lack: the random search, the guard's parts and the hold-out.
    """
    searched = tuple(make_trials(60) if trials is None else trials)
    beside = () if bare else tuple(make_trials(60, learns=False) if random_trials is None else random_trials)
    best = _best(searched)
    scored = [trial for trial in searched if trial.state is TrialState.COMPLETE and trial.measures is not None]
    return TuningFindings(
        name="EURUSD 1h: trading",
        level="trading",
        symbols=("EURUSD", "GBPUSD"),
        timeframe="1h",
        verdict="Keep the default values: on the hold-out the winner's Sharpe ratio can't be told from theirs.",
        promotes=False,
        conditions=()
        if bare
        else (
            Condition(name="better on the hold-out", holds=False, told="The Sharpe ratio's difference is not surely above 0."),
            Condition(name="unlikely to be overfitted", holds=True, told="Its probability is 21 %; needed: below 50 %."),
            Condition(
                name="more than luck", holds=False, told="The deflated Sharpe ratio is 61 %; needed: 95 % or more, of 180 trials."
            ),
            Condition(name="robust", holds=True, told="81 % of the neighbours score above the default; needed: half of them."),
        ),
        trials=searched,
        random_trials=beside,
        winner=best.number,
        pareto=_pareto(scored),
        overfitting=None if bare else _overfitting(len(scored)),
        counted_trials=180,
        expected_best_sharpe=None if bare else 2.31,
        deflated_sharpe=None if bare else 0.612,
        robustness=None if bare else _robustness(best, searched[0]),
        hold_out=() if bare else make_hold_out(best.values, _best(beside).values if beside else None),
        importances=importances(searched, space, seed=7),
        warnings=() if bare else ("The model was trained on a part of the search's period: <forced>.",),
        facts={"model": "ldm4ts-small", "settings": "ab" * 32, "data": "cd" * 32, "hold-out": "6 March 2017 to 18 August 2017"},
        command="python -m jobs.tune --symbols EURUSD GBPUSD --timeframe 1h --level trading --trials 60 --seed 7",
    )


def _between(rng: np.random.Generator, low: float, high: float, near: Values | None, path: str) -> float:
    if near is None:
        return float(rng.uniform(low, high))
    middle = near[path]
    assert isinstance(middle, float)
    return float(np.clip(rng.normal(middle, 0.2 * (high - low)), low, high))


def _edge(values: Values) -> float:
    """Return the return a day that values bring."""
    threshold, kelly, stop = (values[path] for path in (THRESHOLD, KELLY, STOP))
    assert isinstance(threshold, float)
    assert isinstance(kelly, float)
    assert isinstance(stop, float)
    return 0.0003 - 0.02 * (threshold - 0.42) ** 2 - 0.0002 * (stop - 1.6) ** 2 + 0.0002 * (values[HORIZONS] == (60, 240))


def _fold(fold: int, values: Values, seed: int) -> FoldScore:
    rng = np.random.default_rng([seed, fold])
    kelly = values[KELLY]
    assert isinstance(kelly, float)
    own = np.random.default_rng([abs(hash(round(kelly, 9))) % 2**32, fold])  # what only these values did
    noise = rng.normal(0.0, 0.004, FOLD_DAYS) + own.normal(0.0, 0.001, FOLD_DAYS)
    returns = (0.6 + kelly) * (noise - 0.8 * noise.mean() + _edge(values))
    days = np.datetime64("2016-01-04") + np.arange(FOLD_DAYS) + (fold - 1) * FOLD_DAYS
    threshold = values[THRESHOLD]
    assert isinstance(threshold, float)
    crps = 0.0009 * (1.0 - 0.05 * (0.7 - threshold))
    horizons = tuple(
        HorizonScore(minutes=each, windows=400, crps=400 * crps, walk_crps=400 * 0.0009, inside=352) for each in (15, 60)
    )
    return FoldScore(fold=fold, curve=_daily(days, returns), trades=20 + fold, horizons=horizons, seconds=3.5)


def _daily(days: np.ndarray, returns: FloatArray) -> DailyCurve:
    ends = 1.0 + returns
    return DailyCurve(
        days=days, returns=returns, lows=np.minimum(ends, 1.0), highs=np.maximum(ends, 1.0), falls=np.maximum(-returns, 0.0)
    )


def _measures(folds: Sequence[FoldScore]) -> TrialMeasures | None:
    if not folds:
        return None
    returns = np.concatenate([fold.curve.returns for fold in folds])
    worth = np.cumprod(1.0 + returns)
    fall = float(np.max(1.0 - worth / np.maximum.accumulate(np.maximum(worth, 1.0))))
    ratio = float(sharpe(returns))
    crps = [1.0 - each.crps / each.walk_crps for fold in folds for each in fold.horizons]
    return TrialMeasures(
        folds=len(folds),
        sharpe=ratio,
        max_drawdown=fall,
        total_return=float(total_return(returns)),
        trades=sum(fold.trades for fold in folds),
        crps_skill=float(np.mean(crps)),
        coverage=0.88,
        coverage_error=0.02,
        score=ratio - 2.0 * fall,
    )


def _best(trials: Sequence[Trial]) -> Trial:
    return max(
        (trial for trial in trials if trial.state is TrialState.COMPLETE),
        key=lambda trial: trial.measures.score if trial.measures is not None else -np.inf,
    )


def _pareto(trials: Sequence[Trial]) -> tuple[int, ...]:
    found = {
        trial.number: np.array([trial.measures.sharpe, -trial.measures.max_drawdown, trial.measures.crps_skill or 0.0])
        for trial in trials
        if trial.measures is not None
    }
    return tuple(
        number
        for number, ours in found.items()
        if not any(bool((theirs >= ours).all() and (theirs > ours).any()) for theirs in found.values())
    )


def _overfitting(trials: int) -> Overfitting:
    logits = np.sort(np.random.default_rng(3).normal(1.0, 1.3, 252)).tolist()
    return Overfitting(
        probability=float(np.mean(np.array(logits) < 0)),
        splits=252,
        blocks=10,
        trials=trials,
        logits=tuple(logits),
        loss_probability=0.34,
    )


def _robustness(winner: Trial, default: Trial) -> Robustness:
    assert winner.measures is not None
    assert default.measures is not None
    neighbours: list[Neighbour] = []
    for path, value in winner.values.items():
        moved: list[Value] = [0.9 * value, 1.1 * value] if isinstance(value, float) else []
        if path == HORIZONS:
            moved = [each for each in _LISTS if each != value]
        for each in moved:
            measures = make_trial(0, {**winner.values, path: each}).measures
            assert measures is not None
            neighbours.append(Neighbour(parameter=path, value=each, score=measures.score, sharpe=measures.sharpe))
    scores = [each.score for each in neighbours]
    return Robustness(
        winner=winner.measures.score,
        default=default.measures.score,
        neighbours=tuple(neighbours),
        share_better=float(np.mean(np.array(scores) > default.measures.score)),
        worst=min(scores),
    )


def _difference(name: str, ours: float | None, theirs: float | None, width: float) -> Difference:
    assert ours is not None
    assert theirs is not None
    less = ours - theirs
    return Difference(
        measure=name, ours=ours, theirs=theirs, difference=Interval(value=less, low=less - width, high=less + 0.8 * width)
    )
