"""Level model of jobs.tune on a real cluster: each trial trains its own models, and nothing later than a fold is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import yaml
from ray.exceptions import RayError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import list_models
from fxcast.cluster.batch_forecast import folder_hash
from fxcast.cluster.tune_driver import SearchProgress, trials_at_once
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.errors import BadSetting
from fxcast.models.index import check_folder
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.trial import FoldScore, Resources, TrialState, Values
from jobs.tune import tune
from jobs.tune_market import Shared, share
from jobs.tune_model import ModelEvaluator
from jobs.tune_plan import TunePlan, plan_tune
from jobs.tune_record import NEIGHBOUR, RANDOM, DatabaseKeeper, Record, open_record
from jobs.tune_settings import TuneJob
from tests.integration.training_run import SHORT, registered_step
from tests.state import job_database
from tests.tuning_problems import make_setup
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("dashboard_url")

OTHERS: Values = {
    "training.learning_rate": 0.002,
    "training.window_stride_bars": 3,
    "training.min_snr_gamma": 5.0,
    "model.unet_channels": (16, 16),
    "model.condition_width": 32,
    "sampler.steps": 1,
    "trading.min_quality": 0.3,
}
SPACE: dict[str, Any] = {
    "training.learning_rate": {"low": 3e-4, "high": 3e-3, "log": True},
    "training.window_stride_bars": {"low": 1, "high": 4},
    "training.min_snr_gamma": {"choices": [None, 1.0, 5.0, 20.0]},
    "model.unet_channels": {"choices": [[16, 16], [16, 32]]},
    "model.condition_width": {"low": 32, "high": 64, "step": 16},
    "sampler.steps": {"low": 1, "high": 2},
    "trading.min_quality": {"low": 0.1, "high": 0.4},
}


def planned(folder: Path, store: str, **changes: Any) -> TunePlan:
    """Plan a search of two short folds and a hold-out, trained in seconds, that keeps everything below a folder."""
    content: dict[str, Any] = {
        "name": "sizes",
        "store": store,
        "timeframe": "1h",
        "level": "model",
        "refit": "scratch",
        "space": SPACE,
        "train_days": 30,
        "validation_days": 15,
        "test_days": 10,
        "max_folds": 3,
        "training": SHORT.model_dump(mode="json"),
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


def _silent(name: str, done: int, total: int) -> None:
    del name, done, total


def _unseen(kind: str, found: SearchProgress) -> None:
    del kind, found


def shared_of(plan: TunePlan) -> tuple[Shared, ModelEvaluator]:
    shared = share(plan, show=_silent)
    assert isinstance(shared.evaluator, ModelEvaluator)
    return shared, shared.evaluator


def told(score: FoldScore) -> tuple[object, ...]:
    """Return what must be the same of two scores."""
    return score.fold, score.trades, score.curve.returns.tolist(), score.horizons


def models_of(plan: TunePlan) -> dict[str, Path]:
    """Return the folders of the trials' models by name."""
    return {path.name: path for path in (plan.settings.folder / "trials" / "models").iterdir()}


def trained_with(plan: TunePlan, trial: str, model: str) -> dict[str, Any]:
    """Return what a model's training was made of."""
    return json.loads((plan.settings.folder / "trials" / trial / "train" / model / "run.json").read_text())


@pytest.fixture(scope="module")
def done(dashboard_url: str, store: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TunePlan, Record, TuningFindings]:
    """A search of two trials at once, with its guard."""
    assert dashboard_url
    plan = planned(tmp_path_factory.mktemp("search"), store)
    record = open_record(plan, "python -m jobs.tune")
    return plan, record, tune(plan, record, command="python -m jobs.tune", show=_silent, show_search=_unseen)


@pytest.mark.long
def test_each_trial_trains_its_folds_with_its_own_values_and_nothing_is_registered(
    done: tuple[TunePlan, Record, TuningFindings],
) -> None:
    plan, _, findings = done
    assert plan.walk is not None
    assert [each.state for each in findings.trials] == [TrialState.COMPLETE] * 2
    assert dict(findings.trials[0].values) == dict(plan.defaults)
    assert findings.trials[1].values["training.learning_rate"] != plan.defaults["training.learning_rate"]
    models = models_of(plan)
    for trial in findings.trials:
        values, name = trial.values, f"sizes-search-{trial.number:04}"
        for fold in plan.walk.folds[:2]:
            model = f"{name}-fold-{fold.number:02}"
            index = check_folder(models[model])
            assert index.config.unet_channels == values["model.unet_channels"]
            assert index.config.condition_width == values["model.condition_width"]
            assert index.config.sampler_steps == values["sampler.steps"]
            assert index.data_end == fold.validation[1] < fold.test[0]
            run = trained_with(plan, name, model)
            for path, value in values.items():
                if path.startswith("training."):
                    assert run["training"].get(path.removeprefix("training.")) == value
    assert list_models(open_database(plan.settings.database_url)) == ()


@pytest.mark.long
def test_the_hold_out_is_forecast_by_models_trained_for_it_and_neighbours_have_the_winners(
    done: tuple[TunePlan, Record, TuningFindings],
) -> None:
    plan, record, findings = done
    assert [run.key for run in findings.hold_out] == ["winner", "default"]
    held = {0, findings.winner}
    folds = {f"sizes-search-{trial:04}-fold-{fold:02}" for trial in (0, 1) for fold in (1, 2)}
    assert set(models_of(plan)) == folds | {f"sizes-search-{trial:04}-fold-03" for trial in held}
    neighbours = DatabaseKeeper(record=record, kind=NEIGHBOUR, plan=plan).known()
    winner = findings.trials[findings.winner]
    moved = [{path for path, value in each.values.items() if value != winner.values[path]} for each in neighbours]
    assert {path for paths in moved for path in paths} == {"sampler.steps", "trading.min_quality"}
    assert all(len(paths) == 1 for paths in moved)
    crps = [each.horizons[0].crps for each in winner.folds]
    for each, paths in zip(neighbours, moved, strict=True):
        same = [fold.horizons[0].crps for fold in each.folds] == crps
        assert same == (paths == {"trading.min_quality"}), "other steps forecast again, with the same model"


@pytest.mark.long
def test_models_that_are_there_are_not_trained_again_and_give_the_same_score(
    done: tuple[TunePlan, Record, TuningFindings],
) -> None:
    plan, _, findings = done
    trial = findings.trials[1]
    before = {path: path.stat().st_mtime_ns for folder in models_of(plan).values() for path in folder.rglob("*")}
    shared, evaluator = shared_of(plan)
    assert shared.resources == Resources(cpus=0.0)
    assert told(evaluator.evaluate(trial.values, 2, trial=1)) == told(trial.folds[1])
    assert {path: path.stat().st_mtime_ns for folder in models_of(plan).values() for path in folder.rglob("*")} == before


@pytest.mark.long
def test_a_random_trial_of_the_same_number_has_models_of_its_own_that_have_seen_no_later_candle(
    done: tuple[TunePlan, Record, TuningFindings], series: CandleSeries, tmp_path: Path
) -> None:
    plan, _, findings = done
    assert plan.walk is not None
    _, evaluator = shared_of(plan)
    random, fold = replace(evaluator, kind=RANDOM), plan.walk.folds[0]
    source = random.source_of(OTHERS, 1, trial=1)
    assert source.name == "sizes-random-0001-fold-01"
    assert check_folder(models_of(plan)[source.name]).config.unet_channels == (16, 16)
    assert (
        check_folder(models_of(plan)["sizes-search-0001-fold-01"]).config.unet_channels
        == (findings.trials[1].values["model.unet_channels"])
    )
    short = tmp_path / "short"
    last = int(np.searchsorted(series.close_times, to_datetime64(fold.validation[1]), side="right"))
    CandleStore(short).append(series.slice(0, last))
    settings = evaluator.settings.model_copy(update={"store": str(short), "tunes": tmp_path / "tunes"})
    of_less = replace(random, settings=settings).source_of(OTHERS, 1, trial=1)
    assert of_less.name == source.name
    weights = [plan.settings.folder, settings.folder]
    own, less = (folder_hash(folder / "trials" / "models" / source.name) for folder in weights)
    assert own == less, "candles after its validation period change nothing in a model"


@pytest.mark.long
def test_a_trial_killed_in_its_training_goes_on_from_the_last_checkpoint(store: str, tmp_path: Path) -> None:
    longer = SHORT.model_copy(update={"steps": 80, "evaluate_every_steps": 10, "checkpoint_every_steps": 5, "patience": 100})
    plan = planned(tmp_path, store, training=longer.model_dump(mode="json"))
    _, evaluator = shared_of(plan)
    run = plan.settings.folder / "trials" / "sizes-search-0000" / "train" / "sizes-search-0000-fold-01"
    shared = ray.put(evaluator)
    running = _source_task.remote(shared, dict(plan.defaults))
    wait_for(lambda: registered_step(run / "train") >= 10, timeout_s=300)
    ray.cancel(running, force=True)
    with pytest.raises(RayError):
        ray.get(running)
    assert registered_step(run / "train") < longer.steps
    assert not (plan.settings.folder / "trials" / "models").exists()
    assert ray.get(_source_task.remote(shared, dict(plan.defaults))) == "sizes-search-0000-fold-01"
    first, second = _first_steps(run / "tensorboard")
    assert first == 10 < second, "the second process went on"


def _first_steps(folder: Path) -> list[int]:
    """Return the step of the first validation of the denoiser in each process that trained it, ascending."""
    firsts: list[int] = []
    for path in folder.glob("events.*"):
        curves: Any = EventAccumulator(str(path)).Reload()
        steps = [each.step for tag in curves.Tags()["scalars"] if tag.startswith("denoiser/") for each in curves.Scalars(tag)]
        firsts += [min(steps)] if steps else []
    return sorted(firsts)


@ray.remote(num_cpus=0)
def _source_task(evaluator: ModelEvaluator, values: Values) -> str:
    return evaluator.source_of(values, 1, trial=0).name


def test_trials_with_half_a_gpu_each_are_two_to_a_gpu_and_train_on_what_is_there(gpu_node: str, store: str, tmp_path: Path) -> None:
    assert gpu_node
    plan = planned(tmp_path, store, use_gpu=True, gpus_per_worker=0.5)
    shared, evaluator = shared_of(plan)
    assert (shared.cpus, shared.gpus) == (1.0, 0.5)
    setup = make_setup(
        tmp_path,
        "sqlite://",
        concurrency=None,
        generation=8,
        resources=shared.resources,
        cpus_a_trial=shared.cpus,
        gpus_a_trial=shared.gpus,
    )
    assert trials_at_once(setup) == 4, "two GPUs, which are not there"
    name = ray.get(_source_task.remote(ray.put(evaluator), OTHERS))
    run = trained_with(plan, "sizes-search-0000", name)
    assert run["training"]["learning_rate"] == 0.002


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"refit": "none", "start": "2017-02-01T00:00:00Z"}, r"refit: found none, with level model; allowed: scratch"),
        ({"refit": "fine-tune"}, r"refit: found fine-tune, with level model; allowed: scratch"),
        ({"space": {"training.learning_rte": {"low": 0.1, "high": 1.0}}}, r"did you mean training\.learning_rate"),
        (
            {"space": {"model.unet_chanels": {"choices": [[16, 16], [16, 32]]}}},
            r"space\.model\.unet_chanels: unknown; allowed: model\.unet_ch",
        ),
        ({"space": {"training.learning_rate": {"low": 0.0, "high": 0.1}}}, r"space\.training\.learning_rate: 0"),
        ({"space": {"model.condition_width": {"low": 32, "high": 66}}}, r"space\.model\.condition_width: 66 is refused"),
        ({"space": {"model.unet_channels": {"choices": [[16, 32], []]}}}, r"space\.model\.unet_channels: \[\] is refused"),
        ({"space": {"model.unet_channels": {"choices": [[16, 32], [8, 16]]}}}, r"\[8, 16\] is refused: no U-Net can be built"),
        ({"start_from": "shipped"}, r"space\.model\.condition_width: 32 is refused: found start_from"),
        ({"space": {"sampler.steps": {"low": 0, "high": 4}}}, r"space\.sampler\.steps"),
        ({"level": "sampling"}, r"space\.training\.learning_rate: needs level model, found sampling"),
    ],
)
def test_what_can_not_be_trained_is_refused_before_anything_is(
    changes: dict[str, Any], said: str, store: str, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match=said):
        planned(tmp_path, store, **changes)
