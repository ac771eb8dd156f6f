"""jobs.train on a real Ray cluster: two workers, DDP, checkpoints, a killed worker, resume, registry."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.cluster.train_driver import TrainOutcome, train_model
from fxcast.cluster.train_plan import TrainPlan
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import predict
from fxcast.errors import BadCandles, BadModelFolder, BadSetting, BadSetup, Unavailable
from fxcast.models.folder import from_pretrained
from fxcast.models.index import check_folder
from jobs.train import TrainJob, plan_training, train
from tests.factories import make_series
from tests.integration.training_run import SHORT, Killer, make_job


@pytest.fixture
def job(store: str, tmp_path: Path) -> TrainJob:
    return make_job(store, tmp_path)


def denoiser_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills with the denoiser's steps as the workers say them."""
    steps: list[int] = []

    def listening(plan: TrainPlan, progress: Callable[[str, int, int], None], **options: Any) -> TrainOutcome:
        def both(stage: str, done: int, total: int) -> None:
            if stage == "denoiser":
                steps.append(done)
            progress(stage, done, total)

        return train_model(plan, both, **options)

    monkeypatch.setattr("jobs.train.train_model", listening)
    return steps


def test_a_run_goes_on_after_a_worker_was_killed_and_ends_in_a_registered_active_model_that_forecasts(
    dashboard_url: str, job: TrainJob, series: CandleSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dashboard_url
    longer = SHORT.model_copy(
        update={"steps": 120, "evaluate_every_steps": 60, "checkpoint_every_steps": 10, "patience": 100, "scored_windows": 20}
    )
    job = job.model_copy(update={"training": longer})
    steps = denoiser_steps(monkeypatch)
    plan = plan_training(job)
    run = Path(plan.storage_path) / plan.name
    killer = Killer(run)
    killer.start()
    model = train(job)

    assert killer.pid is not None
    assert 10 <= killer.registered_step < 120, "it was killed in the middle"
    assert (model.metrics["step"], model.metrics["stopped_by"]) == (120, "steps")
    before = [done for done in steps if done <= killer.registered_step]
    assert before == list(range(5, killer.registered_step + 1, 5)), "what the checkpoint holds was not done again"
    assert sorted(set(steps)) == list(range(5, 121, 5)), "and nothing was left out"

    registered = active_model(open_database(job.database_url), "EURUSD", "1h")
    assert registered is not None
    assert registered.version == model.version == "short"
    assert 1700 < model.metrics["train_windows"] < 2100, "every other window"
    assert model.metrics["validation_windows"] == 24
    assert 0.5 < model.metrics["validation_crps_ratio"] < 2.0
    assert 0.0 <= model.metrics["validation_coverage_90"] <= 1.0
    assert model.metrics["seconds"] > 0
    assert model.metrics["code_version"].startswith("0.")
    checkpoints = [path for path in (run / "train").glob("checkpoint_*") if path.is_dir()]
    assert len(checkpoints) == 2, "the best and the last are kept"
    curves = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {event.step for event in curves.Scalars("denoiser/validation_crps_ratio")} == {60, 120}
    assert all(math.isfinite(event.value) for event in curves.Scalars("denoiser/train_loss"))
    pipeline = from_pretrained(model.folder, preset="tiny", timeframe="1h")
    assert pipeline.calibration.windows == 20
    assert check_folder(model.folder).data_end == registered.data_end, "so that an evaluation refuses what the model has seen"
    prediction = predict(pipeline, series.slice(5000, 5100), horizons_minutes=(240, 960, 3840), num_samples=5, seed=1)
    assert set(prediction.horizons) == {240, 960, 3840}
    card = (model.folder / "card.md").read_text()
    assert "EURUSD" in card
    assert registered.data_hash in card
    assert model.metrics["code_version"] in card
    assert "| validation_crps_ratio |" in card
    assert registered.data_end < registered.data_start.replace(month=10, day=30), "the test period is not part of the data"
    with pytest.raises(BadSetting, match="a model named short exists"):
        train(job)

    weights = {path: (model.folder / path).read_bytes() for path in ("unet/diffusion_pytorch_model.safetensors", "card.md")}
    shutil.rmtree(model.folder)  # as if the job had been killed between the training's end and here
    with pytest.raises(BadSetting, match=r"a run named short of another plan: training\.seed was 0, is 1;"):
        train(job.model_copy(update={"training": longer.model_copy(update={"seed": 1})}))
    assert train(job) == model
    assert {path: (model.folder / path).read_bytes() for path in weights} == weights


def with_quarters(job: TrainJob, folder: Path) -> TrainJob:
    """Give the job a store of its own, with quarters of an hour from three days before the hours' training ends, too."""
    plan = plan_training(job)
    start, stop = plan.train[1] - timedelta(hours=75), plan.validation[0] + timedelta(hours=110)
    quarters = make_series(bars=(stop - start) // timedelta(minutes=15), timeframe="15m", start=start, range_width=1e-4)
    store = Path(shutil.copytree(job.store, folder / "store"))
    CandleStore(store).append(quarters)
    return job.model_copy(update={"store": store, "also_timeframes": ("15m",)})


@pytest.mark.long
def test_a_run_of_two_timeframes_that_failed_goes_on_with_another_number_of_workers_and_forecasts_both(
    dashboard_url: str, job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dashboard_url
    longer = SHORT.model_copy(update={"steps": 60, "evaluate_every_steps": 60, "checkpoint_every_steps": 5})
    job = with_quarters(job.model_copy(update={"training": longer, "max_failures": 0}), tmp_path)
    steps = denoiser_steps(monkeypatch)
    plan = plan_training(job)
    killer = Killer(Path(plan.storage_path) / plan.name)
    killer.start()
    with pytest.raises(Unavailable, match=r"a worker died once more .* the same command goes on from the last checkpoint"):
        train(job)
    died_after = max(steps)
    assert 5 <= killer.registered_step <= died_after < 60
    steps.clear()
    model = train(job.model_copy(update={"workers": "1"}))
    assert min(steps) > killer.registered_step
    assert sorted(set(steps)) == list(range(min(steps), 61, 5))
    assert model.metrics["step"] == 60

    assert model.timeframe == "1h"
    assert model.metrics["validation_windows"] == 24, "all of the main timeframe"
    assert model.metrics["calibration_windows"] == model.metrics["calibration_15m_windows"] == 20
    for timeframe, horizons in (("1h", (240, 960, 3840)), ("15m", (60, 240, 960))):
        pipeline = from_pretrained(model.folder, timeframe=timeframe)
        assert (pipeline.timeframe.name, pipeline.horizons_minutes) == (timeframe, horizons)
        assert pipeline.calibration.fitted_on.startswith(f"EURUSD {timeframe} 2017-")
        window = make_series(timeframe=timeframe)
        assert set(predict(pipeline, window, horizons_minutes=horizons, num_samples=5, seed=1).horizons) == set(horizons)
    assert "- Also 15m candles, horizons 60, 240, 960 minutes: trained on 300 of EURUSD" in (model.folder / "card.md").read_text()


def test_wrong_inputs_are_refused_before_any_worker_starts(job: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="the autoencoder can't be loaded"):
        train(job.model_copy(update={"autoencoder": str(tmp_path / "absent")}))
    with pytest.raises(BadCandles, match="EURUSD 1h"):
        train(job.model_copy(update={"symbols": ("GBPUSD",)}))
    with pytest.raises(BadCandles, match="in each period"):
        train(job.model_copy(update={"test_share": 0.01}))
    with pytest.raises(BadSetup, match=r"jobs\.migrate"):
        train(job.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'absent.db'}"}))
