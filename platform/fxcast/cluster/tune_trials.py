"""The trials of a search: asked of Optuna in generations, judged after every fold, kept in the database."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as StudyState

from fxcast.cluster.tune_progress import SearchProgress, search_progress
from fxcast.cluster.tune_setup import SearchSetup, TrialKeeper
from fxcast.errors import BadSetup, FxcastError, Unavailable
from fxcast.tuning.objective import measures_of, objectives_of
from fxcast.tuning.pruning import is_behind
from fxcast.tuning.stopping import ended
from fxcast.tuning.trial import FoldScore, Trial, TrialMeasures, TrialState, Values

_FEWEST_TO_GIVE_UP = 4  # trials, before a search whose trials mostly fail ends itself


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOut:
    """A trial to be worked on.

    Attributes:
        first_fold: Those before it are done.
        attempt: Counts from 1; more after a crash.
    """

    number: int
    values: Values
    first_fold: int
    attempt: int


class SearchTrials:
    """What a search knows, and the only one that writes it: to the keeper first, then to Optuna.

    All that a resumed search needs is in these two. A trial that the keeper has as finished is told to Optuna, should that have
    been missed; one that was begun is handed out again under its number, without the folds that are done; and a generation that was
    only partly asked is asked to its end, before one of its trials begins.

    What is decided about a trial depends on its own folds and on trials of earlier generations, never on what runs beside it.

    Args:
        study: Of this search, in which no other process asks at the same time.

    Raises:
        BadSetup: If the study has a finished trial that the keeper has not.
    """

    def __init__(
        self, study: optuna.Study, setup: SearchSetup, keeper: TrialKeeper, show: Callable[[SearchProgress], None] | None = None
    ) -> None:
        self._study, self._setup, self._keeper, self._show = study, setup, keeper, show
        self._trials: dict[int, Trial] = {}
        self._asked = 0
        self._begun: dict[int, optuna.Trial] = {}  # all but those that had finished before
        self._reported: dict[int, set[int]] = {}  # folds of which Optuna knows the score
        self._measures: dict[tuple[int, int], TrialMeasures] = {}  # by number and folds
        self._queue: deque[int] = deque()
        self._running: set[int] = set()
        self._crashes: Counter[int] = Counter()
        self._done_now = self._failed_now = 0
        self._spent, self._began = keeper.spent(), time.monotonic()
        self._accounted = self._began
        self.gave_up: FxcastError | None = None
        self.why_ended = ""
        self._resume()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those that were begun, by number."""
        return tuple(self._trials[number] for number in sorted(self._trials))

    @property
    def seconds(self) -> float:
        """How long the search has taken, earlier parts too."""
        return self._spent + time.monotonic() - self._began

    def next(self) -> HandedOut | None:
        """Return a trial to work on; None while a generation's last trials are at work, and when the search has ended."""
        if self.gave_up is not None:
            return None
        budget = self._setup.budget
        if self._queue and budget.seconds is not None and self.seconds >= budget.seconds:
            self.why_ended = f"the budget of {budget.seconds:.0f} seconds is used up"
            return None
        if not self._queue and not self._running:
            self.why_ended = self._why_end()
            if self.why_ended:
                return None
            self._ask()
        if not self._queue:
            return None
        number = self._queue.popleft()
        if number not in self._trials:
            self._trials[number] = Trial(number=number, values=self._values(number), state=TrialState.RUNNING)
            self._keeper.keep(self._trials[number])
        self._running.add(number)
        self._show_progress()
        trial = self._trials[number]
        return HandedOut(number=number, values=trial.values, first_fold=len(trial.folds) + 1, attempt=self._crashes[number] + 1)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is handed out, and nothing is at work."""
        return bool(self.why_ended or self.gave_up is not None) and not self._running

    def fold_done(self, number: int, fold: FoldScore) -> TrialState:
        """Keep a fold that was traded, and return what becomes of its trial: RUNNING if it goes on."""
        trial = self._trials[number]
        if fold.fold != len(trial.folds) + 1:
            error = f"fold {len(trial.folds) + 1} was to be traded, and the score is of fold {fold.fold}"
            return self._fail(number, error, refused=True)
        measures = measures_of((*trial.folds, fold), self._setup.objective)
        if not all(map(math.isfinite, (measures.score, *objectives_of(measures, self._setup.objective)))):
            error = f"found a score of {measures.score} after fold {fold.fold}; needed: a finite number"
            return self._fail(number, error, refused=True)
        self._keeper.keep_fold(number, fold)
        self._account()
        self._trials[number] = replace(trial, folds=(*trial.folds, fold))
        state = self._judge(number)
        if state is TrialState.RUNNING:
            self._show_progress()
        return state

    def crashed(self, number: int, error: str, *, again: bool) -> None:
        """Hand out a trial that crashed once more, or give it up.

        Args:
            error: What happened, in words.
            again: Whether it may go better next time.
        """
        self._crashes[number] += 1
        self._account()
        if again and self._crashes[number] <= self._setup.max_failures:
            self._running.discard(number)
            self._queue.appendleft(number)
            return
        self._fail(number, error, refused=not again)

    def is_running(self, number: int) -> bool:
        """Whether a trial is at work."""
        return number in self._running

    def measures(self, number: int) -> TrialMeasures | None:
        """Return what a trial is worth over the folds that it has done; None before the first."""
        folds = len(self._trials[number].folds)
        return self._measures_at(number, folds) if folds else None

    def close(self) -> None:
        """Add what this part has taken to the search's time."""
        self._account()

    # Asking

    def _why_end(self) -> str:
        scores = [
            each.measures.score if each.state is TrialState.COMPLETE and each.measures is not None else None for each in self.trials
        ]
        return ended(self._setup.budget, asked=self._asked, scores=scores, seconds=self.seconds)

    def _ask(self) -> None:
        """Ask up to the end of a generation, whose bounds are multiples of its size."""
        size = self._setup.generation
        upto = min((self._asked // size + 1) * size, self._setup.budget.trials)
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(self._setup.space.encode(self._setup.defaults))
        while self._asked < upto:
            trial = self._study.ask(fixed_distributions=self._setup.space.distributions())
            self._begun[trial.number] = trial
            self._queue.append(trial.number)
            self._asked += 1

    def _values(self, number: int) -> Values:
        return self._setup.space.decode(self._begun[number].params)

    # Judging

    def _judge(self, number: int) -> TrialState:
        """Decide on a trial after its last fold, and end it unless it goes on."""
        setup, trial = self._setup, self._trials[number]
        folds = len(trial.folds)
        if not folds:
            return TrialState.RUNNING
        measures = self._measures_at(number, folds)
        self._report(number)
        if folds == setup.folds:
            found, needed = len(objectives_of(measures, setup.objective)), len(self._study.directions)
            if found != needed:
                return self._fail(number, f"found {found} objectives, those of forecasts missing; needed: {needed}", refused=True)
            return self._finish(number, TrialState.COMPLETE)
        if setup.objective.kind == "score" and is_behind(measures.score, folds, self._earlier(number, folds), setup.pruning):
            return self._finish(number, TrialState.PRUNED)
        return TrialState.RUNNING

    def _earlier(self, number: int, folds: int) -> list[float]:
        """Scores after as many folds of the trials of earlier generations."""
        first = number // self._setup.generation * self._setup.generation
        return [
            self._measures_at(each.number, folds).score
            for each in self.trials
            if each.number < first and each.state in {TrialState.COMPLETE, TrialState.PRUNED} and len(each.folds) >= folds
        ]

    def _measures_at(self, number: int, folds: int) -> TrialMeasures:
        key = (number, folds)
        if key not in self._measures:
            self._measures[key] = measures_of(self._trials[number].folds[:folds], self._setup.objective)
        return self._measures[key]

    # Ending

    def _fail(self, number: int, error: str, *, refused: bool = False) -> TrialState:
        self._failed_now += 1
        state = self._finish(number, TrialState.FAILED, error)
        if self._done_now >= _FEWEST_TO_GIVE_UP and 2 * self._failed_now > self._done_now:
            kind = BadSetup if refused else Unavailable
            self.gave_up = kind(f"{self._failed_now} of {self._done_now} trials failed; the last, number {number}: {error}")
        return state

    def _finish(self, number: int, state: TrialState, error: str = "") -> TrialState:
        trial = self._trials[number]
        finished = replace(trial, state=state, measures=self.measures(number), error=error)
        self._keeper.keep(finished)
        self._trials[number] = finished
        self._tell_study(finished)
        self._running.discard(number)
        self._done_now += 1
        self._show_progress()
        return state

    def _report(self, number: int) -> None:
        """Tell Optuna the scores after each fold; it takes none where there are several objectives."""
        if len(self._study.directions) > 1:
            return
        reported = self._reported.setdefault(number, set())
        for folds in range(1, len(self._trials[number].folds) + 1):
            if folds not in reported:
                self._begun[number].report(self._measures_at(number, folds).score, folds)
                reported.add(folds)

    def _tell_study(self, trial: Trial) -> None:
        if trial.state is TrialState.COMPLETE:
            assert trial.measures is not None, "a complete trial has folds"
            self._study.tell(trial.number, objectives_of(trial.measures, self._setup.objective))
        else:
            pruned = trial.state is TrialState.PRUNED
            self._study.tell(trial.number, state=StudyState.PRUNED if pruned else StudyState.FAIL)

    def _account(self) -> None:
        now = time.monotonic()
        self._keeper.spend(now - self._accounted)
        self._accounted = now

    def _show_progress(self) -> None:
        if self._show is not None:
            self._show(
                search_progress(
                    self.trials,
                    running=len(self._running),
                    budget=self._setup.budget,
                    objective=self._setup.objective,
                    done_now=self._done_now,
                    seconds_now=time.monotonic() - self._began,
                    seconds=self.seconds,
                )
            )

    # Resuming

    def _resume(self) -> None:
        known = {each.number: each for each in self._keeper.known()}
        for frozen in self._study.get_trials(deepcopy=False):
            if frozen.state is StudyState.WAITING:
                continue  # enqueued and not yet asked
            self._asked += 1
            kept = known.get(frozen.number)
            if frozen.state.is_finished():
                if kept is None or kept.state is TrialState.RUNNING:
                    raise BadSetup(
                        f"study {self._setup.study}: trial {frozen.number} is finished, and the search has not kept it; "
                        "begin another search, under a new name"
                    )
                self._trials[frozen.number] = kept
                continue
            self._begun[frozen.number] = self._asked_again(frozen)
            self._reported[frozen.number] = set(frozen.intermediate_values)
            if kept is None:
                self._queue.append(frozen.number)
            else:
                self._take_up(kept)
        if self._queue and self._asked % self._setup.generation:
            self._ask()

    def _take_up(self, kept: Trial) -> None:
        """Go on with a trial that Optuna believes to be at work."""
        self._trials[kept.number] = replace(kept, folds=_first(kept.folds))
        if kept.state is not TrialState.RUNNING:
            self._trials[kept.number] = kept
            if kept.state is not TrialState.FAILED:
                self._report(kept.number)
            self._tell_study(kept)
        elif self._judge(kept.number) is TrialState.RUNNING:
            self._queue.append(kept.number)

    def _asked_again(self, frozen: FrozenTrial) -> optuna.Trial:
        """Return a trial that was asked before; one that was killed in the middle of asking is asked to its end."""
        # Optuna offers no public way to go on with a trial that another process has asked.
        trial = optuna.Trial(self._study, frozen._trial_id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        for name, distribution in self._setup.space.distributions().items():
            trial._suggest(name, distribution)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return trial


def _first(folds: tuple[FoldScore, ...]) -> tuple[FoldScore, ...]:
    """Return the folds from the first on without a gap."""
    ordered = sorted(folds, key=lambda each: each.fold)
    return tuple(each for position, each in enumerate(ordered, start=1) if each.fold == position)
