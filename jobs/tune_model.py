"""One fold of a trial on the level that trains: Ray Train inside the trial, then forecasts and a backtest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

from fxcast.cluster.batch_forecast import ForecastSource, folder_source
from fxcast.cluster.tune_sampling import STEPS, ForecastRequest, forecast_and_trade, with_steps
from fxcast.cluster.tune_trading import FoldForecasts, TunedMarket
from fxcast.data.store import absolute_location
from fxcast.models.load import load_forecaster
from fxcast.tuning.trial import FoldScore, Values
from jobs.tune_parameters import walk_forward_with
from jobs.tune_settings import TuneJob
from jobs.walk_forward_plan import WalkForwardPlan
from jobs.walk_forward_training import train_fold


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEvaluator:
    """Implements `tuning.trial.FoldEvaluator`: each trial trains the models of its folds, and reads nothing behind a fold's test.

    A training that was stopped goes on from its last checkpoint when the trial is run again; a model that is there is not trained
    again. The trial's actor reserves no CPU: training workers, forecasters and the backtest are actors and tasks of their own.

    Attributes:
        walk: Of the default values; a trial's differs in what is trained.
        first_fold: Number in the walk-forward of what is fold 1 here.
        kind: Of trials: what a search and the random one beside it train has different names.
    """

    settings: TuneJob
    walk: WalkForwardPlan
    market: TunedMarket
    others: tuple[FoldForecasts, ...]
    requests: tuple[ForecastRequest, ...]
    first_fold: int = 1
    kind: str = "search"

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Train, forecast and trade a fold on the connected cluster."""
        began = time.monotonic()
        source = self.source_of(values, self.first_fold + fold - 1, trial=trial)
        score = forecast_and_trade(self.market, source, self.requests[fold - 1], self.others[fold - 1], values, fold)
        return replace(score, seconds=time.monotonic() - began)

    def source_of(self, values: Values, number: int, *, trial: int) -> ForecastSource:
        """Return a trial's model of a fold of the walk-forward, trained if it is not there.

        Values that differ from the trial's in what is traded or in the sampler's steps have its models: so the winner's neighbours.
        """
        walk = self._walk_of(values, trial)
        fold = walk.folds[number - 1]
        train_fold(walk, fold, walk.start_from, _unseen, registers=False)
        folder = walk.model_folder(fold)
        source = folder_source(folder, partial(load_forecaster, folder, timeframe=walk.timeframe.name))
        return with_steps(source, values.get(STEPS))

    def _walk_of(self, values: Values, trial: int) -> WalkForwardPlan:
        folder, name = self.settings.folder / "trials", f"{self.settings.name}-{self.kind}-{trial:04}"
        given = self.settings.storage_path
        settings = walk_forward_with(
            self.settings,
            values,
            name=name,
            walk_forwards=folder,
            models=folder / "models",
            # Two trials that encode the same windows at the same time must not write the same files.
            storage_path=None if given is None else f"{absolute_location(given).rstrip('/')}/{name}",
            benchmarks=(),
        )
        return replace(self.walk, settings=settings)


def _unseen(stage: str, done: int, total: int) -> None:
    """Show nothing: trials train side by side, and the search's bar counts them."""
    del stage, done, total
