"""Level sampling of jobs.tune on a real cluster: forecasts with other steps are made once, and those that are there are read."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import list_models
from fxcast.cluster.tune_driver import SearchProgress
from fxcast.errors import BadSetting
from fxcast.tuning.space import Level
from fxcast.tuning.trial import FoldScore, TrialState, Values
from jobs.tune import rerun, tune
from jobs.tune_market import Shared, share
from jobs.tune_plan import TunePlan, plan_tune
from jobs.tune_record import NEIGHBOUR, DatabaseKeeper, open_record
from jobs.tune_settings import TuneJob
from tests.state import job_database

pytestmark = pytest.mark.usefixtures("dashboard_url")

DEFAULTS: Values = {"sampler.steps": 2, "trading.min_quality": 0.2}
SPACE = {"sampler.steps": {"low": 1, "high": 3}, "trading.min_quality": {"low": 0.1, "high": 0.4}}


def planned(folder: Path, store: str, model: Path | str, **changes: Any) -> TunePlan:
    """Plan a search of two short folds and a hold-out that keeps everything below a folder."""
    content: dict[str, Any] = {
        "name": "steps",
        "store": store,
        "timeframe": "1h",
        "level": "sampling",
        "space": SPACE,
        "model": str(model),
        "start": "2017-02-01T00:00:00Z",
        "stop": "2017-03-03T00:00:00Z",
        "test_days": 10,
        "trials": 2,
        "random_trials": 0,
        "generation": 2,
        "pruning": {"rule": "none"},
        "draws": 100,
        "actors": 1,
        "trading": {
            "ldm4ts_horizons": [240, 960, 3840],
            "ldm4ts_num_samples": 4,
            "forecast_interval_bars": 24,
            "min_quality": 0.2,
            "ldm4ts_uncertainty_threshold": 3.0,
        },
        "market": {"candle_side": "ask"},
        "tunes": str(folder / "tunes"),
        "forecasts": str(folder / "forecasts"),
        "database_url": job_database(folder),
    }
    migrate(content["database_url"])
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return plan_tune(TuneJob.parse(["--config", str(path)]))


@pytest.fixture
def plan(tmp_path: Path, store: str, model_folder: Path) -> TunePlan:
    return planned(tmp_path, store, model_folder)


@pytest.fixture
def two_cpus() -> Generator[None]:
    """Take all but two of the CPUs that are free away, or all but nearly three: a share of one cannot be taken."""
    actor: Any = ray.remote(_Holder)
    holder = actor.options(num_cpus=max(int(ray.available_resources()["CPU"]) - 2, 0)).remote()
    ray.get(holder.ready.remote())
    yield
    ray.kill(holder)


class _Holder:
    def ready(self) -> None:
        """Return when the CPUs are reserved."""


def shared_of(plan: TunePlan) -> Shared:
    return share(plan, show=_silent)


def _silent(name: str, done: int, total: int) -> None:
    del name, done, total


def _unseen(kind: str, found: SearchProgress) -> None:
    del kind, found


def told(score: FoldScore) -> tuple[object, ...]:
    """Return what must be the same of two scores."""
    return score.fold, score.trades, score.curve.returns.tolist(), score.horizons


def stored(plan: TunePlan) -> dict[Path, int]:
    """Return the files of stored forecasts, with when each was written."""
    return {path: path.stat().st_mtime_ns for path in Path(plan.settings.forecasts).rglob("*.parquet")}


def test_forecasts_of_the_same_steps_are_made_once_and_other_steps_give_others(plan: TunePlan) -> None:
    shared = shared_of(plan)
    assert (shared.computed, stored(plan)) == (0, {}), "nothing is forecast before a trial asks"
    first = shared.evaluator.evaluate(DEFAULTS, 1, trial=0)
    of_two = stored(plan)
    assert of_two
    again = shared.evaluator.evaluate(DEFAULTS, 1, trial=1)
    assert told(again) == told(first)
    stricter = shared.evaluator.evaluate({**DEFAULTS, "trading.min_quality": 0.4}, 1, trial=2)
    assert stricter.horizons == first.horizons
    assert stored(plan) == of_two, "the same steps have the same forecasts, whatever is traded on them"
    three = shared.evaluator.evaluate({**DEFAULTS, "sampler.steps": 3}, 1, trial=3)
    assert {path.parents[3].name for path in stored(plan)} > {path.parents[3].name for path in of_two}
    assert [each.crps for each in three.horizons] != [each.crps for each in first.horizons]
    assert [each.windows for each in three.horizons] == [each.windows for each in first.horizons]


def test_the_models_own_steps_are_what_everything_else_forecasts_with(
    plan: TunePlan, tmp_path: Path, store: str, model_folder: Path
) -> None:
    assert dict(plan.defaults) == DEFAULTS
    sampled = shared_of(plan).evaluator
    scores = [sampled.evaluate(DEFAULTS, fold, trial=0) for fold in (1, 2)]
    space = {"trading.min_quality": SPACE["trading.min_quality"]}
    trading = planned(tmp_path, store, model_folder, name="trades", level="trading", space=space)
    shared = shared_of(trading)
    assert shared.computed == 0, "level trading reads what level sampling has stored"
    assert shared.reused > 0
    values: Values = {"trading.min_quality": 0.2}
    assert [told(shared.evaluator.evaluate(values, fold, trial=0)) for fold in (1, 2)] == [told(each) for each in scores]


@pytest.mark.usefixtures("two_cpus")
def test_a_search_with_two_trials_at_once_on_two_cpus_ends_and_trades_the_hold_out(
    tmp_path: Path, store: str, model_folder: Path
) -> None:
    plan = planned(tmp_path, store, model_folder, actors=None)  # each trial would like forecasters on all CPUs
    record = open_record(plan, "python -m jobs.tune")
    findings = tune(plan, record, command="python -m jobs.tune", show=_silent, show_search=_unseen)
    assert [each.state for each in findings.trials] == [TrialState.COMPLETE] * 2
    assert dict(findings.trials[0].values) == DEFAULTS
    steps = {each.values["sampler.steps"] for each in findings.trials}
    crps = {each.values["sampler.steps"]: each.measures.crps_skill for each in findings.trials if each.measures is not None}
    assert len(steps) == len(set(crps.values())) > 1, "each number of steps has its own forecasts"
    assert [run.key for run in findings.hold_out] == ["winner", "default"]
    neighbours = DatabaseKeeper(record=record, kind=NEIGHBOUR, plan=plan).known()
    assert {each.state for each in neighbours} == {TrialState.COMPLETE}
    assert findings.robustness is not None
    assert len(neighbours) == len(findings.robustness.neighbours) > 0

    before = stored(plan)
    kept, again = rerun(plan, record, 1, show=_silent)
    assert kept.measures == again.measures
    assert stored(plan) == before, "a trial that is run again reads its forecasts"
    assert list_models(open_database(plan.settings.database_url)) == ()


def test_a_model_that_takes_no_steps_is_refused_by_name(tmp_path: Path, store: str) -> None:
    with pytest.raises(BadSetting, match=r"space\.sampler\.steps: found the model random-walk; allowed: a model of LDM4TS"):
        planned(tmp_path, store, "random-walk")
    trading_alone = planned(tmp_path, store, "random-walk", space={"trading.min_quality": {"low": 0.1, "high": 0.4}})
    assert trading_alone.settings.level is Level.SAMPLING


@pytest.mark.parametrize("space", [{"sampler.steps": {"low": 0, "high": 3}}, {"sampler.steps": {"low": 1.5, "high": 3}}])
def test_steps_that_are_no_whole_number_from_1_on_are_refused(
    space: dict[str, Any], tmp_path: Path, store: str, model_folder: Path
) -> None:
    with pytest.raises(BadSetting, match=r"space\.sampler\.steps: "):
        planned(tmp_path, store, model_folder, space=space)
