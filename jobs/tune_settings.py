"""What a search is told: the walk-forward that it is judged by, the space, the budget and the guard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from fxcast.domain.signal import Regime
from fxcast.tuning.objective import ObjectiveConfig
from fxcast.tuning.pruning import PruningConfig
from fxcast.tuning.space import Level, ParameterRange
from fxcast.tuning.verdict import GuardConfig
from jobs.walk_forward_settings import Refit, WalkForwardJob

Searcher = Literal["tpe", "gp", "nsga2", "random"]


class TuneJob(WalkForwardJob):
    """Search the parameters of the whole system, judged fold by fold, and say whether the best of them may be trusted.

    The last folds are held out: no trial sees them. With refit none `model` forecasts all folds; with scratch or fine-tune each
    fold has a model of its own, trained before the search, or at level model by each trial. --from and --to are other names of
    --start and --stop.
    """

    level: Level = Field(
        default=Level.TRADING,
        description="trading: no forecast is computed again; sampling: forecasts again; model: each trial trains its models",
    )
    space: Mapping[str, ParameterRange] = Field(
        default_factory=dict[str, ParameterRange],
        description="by path (trading.min_quality, sampler.steps, training.learning_rate …): low and high, or choices",
    )
    regime: Regime | None = Field(default=None, description="the values hold in this regime alone; by default in all")
    refit: Refit = Field(default="none", description="none: `model` forecasts all folds; scratch, fine-tune: each fold has its own")
    test_days: float = Field(default=60.0, gt=0, description="length of a fold")
    hold_out_folds: int = Field(default=1, ge=1, description="so many folds at the end are held out")

    searcher: Searcher = Field(default="tpe", description="tpe (multivariate), gp, nsga2, or random")
    trials: int = Field(default=100, ge=2, description="trials of the search, that with the default values among them")
    max_hours: float | None = Field(default=None, gt=0, description="no trial is begun after so long")
    patience: int | None = Field(default=None, ge=1, description="ends after so many trials without a better one")
    random_trials: int | None = Field(
        default=None, ge=0, description="of the random search that the result is compared with; by default as many as the search"
    )
    generation: int = Field(default=4, ge=1, description="trials that are drawn at once, knowing all earlier ones")
    max_failures: int = Field(default=2, ge=0, description="a trial that crashed is tried again so often")
    objective: ObjectiveConfig = ObjectiveConfig()
    pruning: PruningConfig = PruningConfig()
    guard: GuardConfig = GuardConfig()

    resume: bool = Field(default=False, description="go on with a search of this name that was stopped")
    rerun: int | None = Field(default=None, ge=0, description="instead: run this trial of a finished search again, and compare")
    tunes: Path = Field(default=Path("runs/tune"), description="folder of the searches; this one is a sub-folder named as it")

    @property
    def folder(self) -> Path:
        """Where the search keeps its models and its report."""
        return self.tunes / self.name
