"""jobs.train on a real Ray cluster: two workers, DDP, checkpoints, a killed worker, resume, registry."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
from ray.util.state import list_actors

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.cluster.train_driver import TrainOutcome, train_model
from fxcast.cluster.train_plan import TrainPlan
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import predict
from fxcast.errors import BadCandles, BadModelFolder, BadSetting, BadSetup
from fxcast.models.folder import from_pretrained
from fxcast.training.config import TrainingConfig
from jobs.train import TrainJob, plan_training, train

_SHORT = TrainingConfig(
    steps=6,
    batch_size=16,
    evaluate_every_steps=3,
    validation_windows=16,
    fusion_steps=4,
    calibration_windows=20,
    calibration_samples=4,
)


@pytest.fixture
def job(store: Path, tmp_path: Path) -> TrainJob:
    database_url = f"sqlite:///{tmp_path / 'registry.db'}"
    migrate(database_url)
    return TrainJob(
        name="short", store=str(store), models=tmp_path / "models", database_url=database_url, training=_SHORT, workers=2
    )


class _Killer(threading.Thread):
    """Kills one of this cluster's Ray Train workers with SIGKILL as soon as Ray can resume the run.

    A checkpoint on disk is not enough: Ray's controller looks at the workers every two seconds, and loses what it has not heard of.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(daemon=True)
        self._run = run
        self.pid: int | None = None
        self.registered_step = 0

    def run(self) -> None:
        while not (step := _registered_step(self._run)):
            time.sleep(0.02)  # between looks at what another process writes
        self.registered_step = step
        workers = cast("list[Any]", list_actors(filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]))
        pid = int(next(worker.pid for worker in workers if worker.pid))
        os.kill(pid, signal.SIGKILL)
        self.pid = pid


def _registered_step(run: Path) -> int:
    """Return the step of the last checkpoint that Ray's controller knows; 0 if there is none yet."""
    try:
        snapshot = json.loads((run / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME).read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # not there yet, or half written
        return 0
    latest = snapshot["latest_checkpoint_result"]
    return 0 if latest is None else int(latest["metrics"]["step"])


def test_a_run_goes_on_after_a_worker_was_killed_and_ends_in_a_registered_active_model_that_forecasts(
    dashboard_url: str, job: TrainJob, series: CandleSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dashboard_url
    longer = _SHORT.model_copy(update={"steps": 120, "evaluate_every_steps": 10, "patience": 100})
    job = job.model_copy(update={"training": longer})
    steps: list[int] = []

    def listening(plan: TrainPlan, progress: Callable[[str, int, int], None]) -> TrainOutcome:
        def both(stage: str, done: int, total: int) -> None:
            if stage == "denoiser":
                steps.append(done)
            progress(stage, done, total)

        return train_model(plan, both)

    monkeypatch.setattr("jobs.train.train_model", listening)
    plan = plan_training(job)
    killer = _Killer(Path(plan.storage_path) / plan.name)
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
    assert model.metrics["train_windows"] > 1700, "of every other window"
    checkpoints = [path for path in (job.models.parent / "train" / "short").glob("checkpoint_*") if path.is_dir()]
    assert len(checkpoints) == 2, "the best and the last are kept"
    pipeline = from_pretrained(model.folder, preset="tiny", timeframe="1h")
    assert pipeline.calibration.windows == 20
    prediction = predict(pipeline, series.slice(5000, 5100), horizons_minutes=(240, 960, 3840), num_samples=5, seed=1)
    assert set(prediction.horizons) == {240, 960, 3840}
    card = (model.folder / "card.md").read_text()
    assert "EURUSD" in card
    assert registered.data_hash in card
    assert registered.data_end < registered.data_start.replace(month=10, day=30), "the test period is not part of the data"
    with pytest.raises(BadSetting, match="a model named short exists"):
        train(job)

    weights = {path: (model.folder / path).read_bytes() for path in ("unet/diffusion_pytorch_model.safetensors", "card.md")}
    shutil.rmtree(model.folder)  # as if the job had been killed between the training's end and here
    with pytest.raises(BadSetting, match=r"a run named short of another plan: training\.seed was 0, is 1;"):
        train(job.model_copy(update={"training": longer.model_copy(update={"seed": 1})}))
    assert train(job) == model
    assert {path: (model.folder / path).read_bytes() for path in weights} == weights


def test_wrong_inputs_are_refused_before_any_worker_starts(job: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="the autoencoder can't be loaded"):
        train(job.model_copy(update={"autoencoder": str(tmp_path / "absent")}))
    with pytest.raises(BadCandles, match="EURUSD 1h"):
        train(job.model_copy(update={"symbols": ("GBPUSD",)}))
    with pytest.raises(BadCandles, match="in each period"):
        train(job.model_copy(update={"test_share": 0.01}))
    with pytest.raises(BadSetup, match=r"jobs\.migrate"):
        train(job.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'absent.db'}"}))
