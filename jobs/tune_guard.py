"""After the search: random search, overfitting, neighbours, the hold-out, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fxcast.cluster.batch_forecast import ForecastSource
from fxcast.cluster.train_card import code_version
from fxcast.cluster.tune_evaluate import WantedFold, evaluate_folds
from fxcast.cluster.tune_sampling import STEPS, with_steps
from fxcast.errors import BadSetup
from fxcast.performance.daily import daily_curve
from fxcast.performance.luck import expected_best_sharpe, sharpe_above
from fxcast.tuning.findings import Neighbour, Robustness, TuningFindings
from fxcast.tuning.importance import importances
from fxcast.tuning.objective import best_of, measures_of, pareto_of
from fxcast.tuning.overfitting import probability_of_overfitting, returns_of
from fxcast.tuning.robustness import robustness_of
from fxcast.tuning.space import Level, level_of
from fxcast.tuning.trial import FoldScore, Trial, TrialState, Values
from fxcast.tuning.verdict import DEFAULT, RANDOM, WINNER, Guarded, conditions, verdict_of
from jobs.tune_hold_out import Candidate, hold_out_runs
from jobs.tune_market import Shared, own_source
from jobs.tune_model import ModelEvaluator
from jobs.tune_plan import TunePlan
from jobs.tune_record import NEIGHBOUR, SEARCH, DatabaseKeeper, Record, other_sharpes
from jobs.tune_record import RANDOM as RANDOM_KIND

Show = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A search and the random one beside it."""

    trials: tuple[Trial, ...]
    random_trials: tuple[Trial, ...]


def guard(plan: TunePlan, shared: Shared, searched: Searched, record: Record, *, command: str, show: Show) -> TuningFindings:
    """Ask of the best trial all that it must be asked, on the connected cluster.

    Raises:
        BadSetup: If no trial was completed.
    """
    settings = plan.settings
    winner = best_of(searched.trials, settings.objective)
    if winner is None:
        raise BadSetup(f"no trial of {settings.name} was completed, so that there is no best one; their errors are in the database")
    best_random = best_of(searched.random_trials, settings.objective)
    whole = {
        kind: _completed(plan, shared, trials, DatabaseKeeper(record=record, kind=kind, plan=plan), show)
        for kind, trials in ((SEARCH, searched.trials), (RANDOM_KIND, searched.random_trials))
    }
    tried = [
        replace(each, state=TrialState.COMPLETE)
        for each in (*whole[SEARCH], *whole[RANDOM_KIND])
        if each.state is not TrialState.FAILED and len(each.folds) == len(plan.folds)
    ]
    overfitting = probability_of_overfitting(returns_of(tried))
    sharpes = [each.measures.sharpe for each in tried if each.measures is not None]
    others = other_sharpes(record)
    counted = len(sharpes) + len(others)
    expected = deflated = None
    if len(sharpes) > 1:
        expected = expected_best_sharpe(counted, float(np.var([*sharpes, *others], ddof=1)))
        deflated = sharpe_above(winner.daily_returns, expected)
    robustness = _robustness(plan, shared, whole[SEARCH], winner, record, show)
    runs = hold_out_runs(plan, _candidates(plan, shared, winner, best_random, show), show=show)
    first = runs[0].equity
    days = len(daily_curve(first.times, first.equity, float(first.equity[0]) if len(first) else 1.0))
    guarded = Guarded(
        winner=winner.number,
        hold_out=runs,
        overfitting=overfitting,
        deflated_sharpe=deflated,
        robustness=robustness,
        days=days,
    )
    verdict, promotes = verdict_of(guarded, settings.guard)
    return TuningFindings(
        name=settings.name,
        level=settings.level.value,
        symbols=settings.symbols,
        timeframe=settings.timeframe,
        verdict=verdict,
        promotes=promotes,
        conditions=conditions(guarded, settings.guard),
        trials=whole[SEARCH],
        random_trials=whole[RANDOM_KIND],
        winner=winner.number,
        pareto=pareto_of(searched.trials, settings.objective),
        overfitting=overfitting,
        counted_trials=counted,
        expected_best_sharpe=expected,
        deflated_sharpe=deflated,
        robustness=robustness,
        hold_out=runs,
        importances=importances(searched.trials, plan.space, settings.seed),
        warnings=(*plan.warnings, *_warnings(plan, searched, record)),
        facts=_facts(plan),
        command=command,
    )


def _completed(plan: TunePlan, shared: Shared, trials: Sequence[Trial], keeper: DatabaseKeeper, show: Show) -> tuple[Trial, ...]:
    """Return the trials for the guard: where a fold costs a backtest alone, those that were stopped do the folds that they lack.

    Left out, they would make the others look better chosen than they are. They stay stopped, and their measures are of all folds.
    """
    stopped = {each.number: each for each in trials if each.state is TrialState.PRUNED}
    if plan.settings.level is not Level.TRADING or not stopped:
        return tuple(trials)
    # With the folds of an earlier part of this that was killed.
    stopped = {each.number: each for each in keeper.known() if each.number in stopped}
    whole = _evaluated(plan, shared, stopped, keeper, show, f"folds that stopped trials lack ({keeper.kind})")
    for each in whole.values():
        keeper.keep(each)
    return tuple(whole.get(each.number, each) for each in trials)


def _evaluated(
    plan: TunePlan,
    shared: Shared,
    trials: Mapping[int, Trial],
    keeper: DatabaseKeeper,
    show: Show,
    name: str,
    of: int | None = None,
) -> dict[int, Trial]:
    """Return trials, which were kept, with all folds and their measures; each fold that one lacks is kept when it is done.

    Args:
        of: Number of the trial whose models forecast them; by default each has its own.
    """
    lacking = [
        (each, fold)
        for each in trials.values()
        for fold in range(1, len(plan.folds) + 1)
        if fold not in {done.fold for done in each.folds}
    ]
    wanted = [WantedFold(values=each.values, fold=fold, trial=each.number if of is None else of) for each, fold in lacking]
    scores = evaluate_folds(
        shared.evaluator,
        wanted,
        shared.resources,
        at_once=plan.settings.concurrency or shared.at_once,
        keep=lambda position, score: keeper.keep_fold(lacking[position][0].number, score),
        show=partial(show, name),
    )
    added: dict[int, list[FoldScore]] = {}
    for (each, _), score in zip(lacking, scores, strict=True):
        added.setdefault(each.number, []).append(score)
    whole: dict[int, Trial] = {}
    for number, each in trials.items():
        folds = tuple(sorted((*each.folds, *added.get(number, [])), key=lambda score: score.fold))
        whole[number] = replace(each, folds=folds, measures=measures_of(folds, plan.settings.objective))
    return whole


def _robustness(
    plan: TunePlan, shared: Shared, trials: Sequence[Trial], winner: Trial, record: Record, show: Show
) -> Robustness | None:
    """Score the winner's neighbours on the search's folds; those that would have to be trained are left out."""
    default = next((each for each in trials if each.number == 0), None)
    if winner.measures is None or default is None or default.measures is None:
        return None
    moved = [(path, value) for path, value in plan.space.neighbours(winner.values) if level_of(path) is not Level.MODEL]
    if not moved:
        return None
    keeper = DatabaseKeeper(record=record, kind=NEIGHBOUR, plan=plan)
    trying = {each.number: each for each in keeper.known()}
    for number, (path, value) in enumerate(moved):
        if number not in trying:
            trying[number] = Trial(number=number, values={**winner.values, path: value}, state=TrialState.RUNNING)
            keeper.keep(trying[number])
    # Neighbours differ in nothing that is trained: the winner's models are there.
    trains = isinstance(shared.evaluator, ModelEvaluator)
    done = _evaluated(plan, shared, trying, keeper, show, "the winner's neighbours", of=winner.number if trains else None)
    neighbours: list[Neighbour] = []
    for number, (path, value) in enumerate(moved):
        keeper.keep(replace(done[number], state=TrialState.COMPLETE))
        measures = done[number].measures
        assert measures is not None, "all its folds are done"
        neighbours.append(Neighbour(parameter=path, value=value, score=measures.score, sharpe=measures.sharpe))
    return robustness_of(winner.measures.score, default.measures.score, neighbours)


def _candidates(plan: TunePlan, shared: Shared, winner: Trial, best_random: Trial | None, show: Show) -> list[Candidate]:
    """Return the winner, the default values, and the best of the random search."""

    def source(values: Values, trial: int, kind: str) -> Callable[[int], ForecastSource | None]:
        def of_fold(number: int) -> ForecastSource | None:
            if isinstance(shared.evaluator, ModelEvaluator):
                return replace(shared.evaluator, kind=kind).source_of(values, number, trial=trial)
            own = own_source(plan, number, show)
            return own if own is None else with_steps(own, values.get(STEPS))

        return of_fold

    candidates = [
        Candidate(
            key=WINNER,
            title=f"the winner, trial {winner.number}",
            values=winner.values,
            source=source(winner.values, winner.number, SEARCH),
        ),
        Candidate(key=DEFAULT, title="the default values", values=plan.defaults, source=source(plan.defaults, 0, SEARCH)),
    ]
    if best_random is not None:
        values, number = best_random.values, best_random.number
        candidates.append(
            Candidate(
                key=RANDOM,
                title=f"the best of random search, its trial {number}",
                values=values,
                source=source(values, number, RANDOM_KIND),
            )
        )
    return candidates


def _warnings(plan: TunePlan, searched: Searched, record: Record) -> list[str]:
    run, warnings = record.run, list[str]()
    looks = record.records.hold_out_looks(run.symbols, run.timeframe, *plan.hold_out, before_run_id=run.id)
    if looks:
        warnings.append(
            f"{looks} earlier {'search has' if looks == 1 else 'searches have'} looked at candles of this hold-out: what is chosen "
            "after a look at it is no longer judged by something unseen."
        )
    start, stop = plan.hold_out
    chosen_on = [
        each
        for each in record.records.runs(run.symbols, run.timeframe)
        if each.id != run.id and each.start < stop and each.stop > start
    ]
    if chosen_on:
        warnings.append(
            f"Candles of this hold-out were searched on before, by {', '.join(each.name for each in chosen_on)}: what was learned "
            "from that, by whoever chose this space and its default values, is not unseen here."
        )
    pruned = sum(each.state is TrialState.PRUNED for each in (*searched.trials, *searched.random_trials))
    if pruned and plan.settings.level is not Level.TRADING:
        warnings.append(
            f"{pruned} trials that were stopped early are not in the probability of overfitting, nor in the deflated Sharpe ratio: "
            "their other folds would have to be forecast, which was the cost that stopping them saved."
        )
    failed = [each for each in searched.trials if each.state is TrialState.FAILED]
    if failed:
        warnings.append(f"{len(failed)} of {len(searched.trials)} trials failed; the first one: {failed[0].error}")
    if plan.settings.level is Level.MODEL:
        warnings.append("Neighbours in training and size of the model were not tried: each would have to be trained.")
    return warnings


def _facts(plan: TunePlan) -> Mapping[str, str]:
    settings = plan.settings
    own = {f"model {name}": f"{each.name}, {each.model_hash[:16]}" for name, each in plan.models.sources.items()}
    return {
        "code": code_version(),
        **own,
        "candles": plan.data_hash[:16],
        "settings": plan.settings_hash,
        "folds": "; ".join(f"{start:%Y-%m-%d} to {stop:%Y-%m-%d}" for start, stop in plan.folds),
        "hold-out": f"{plan.hold_out[0]:%Y-%m-%d %H:%M} to {plan.hold_out[1]:%Y-%m-%d %H:%M} UTC, seen by no trial",
        "search": f"{settings.searcher}, seed {settings.seed}, generations of {settings.generation}, "
        f"pruning {settings.pruning.rule}",
        "regime": "all" if settings.regime is None else settings.regime.value,
        "costs": "; ".join(plan.data.described),
        "space": "; ".join(f"{path}: {told}" for path, told in plan.space.describe()),
    }
