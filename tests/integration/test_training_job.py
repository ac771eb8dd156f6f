"""jobs.train on a real Ray cluster: two workers, DDP, checkpoints, resume, registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.domain.candle import CandleSeries
from fxcast.errors import BadCandles, BadModelFolder, BadSetting, BadSetup
from fxcast.models.folder import from_pretrained
from fxcast.training.config import TrainingConfig
from jobs.train import TrainJob, train

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


def test_training_ends_in_a_registered_active_model_that_forecasts(dashboard_url: str, job: TrainJob, series: CandleSeries) -> None:
    assert dashboard_url
    model = train(job)

    registered = active_model(open_database(job.database_url), "EURUSD", "1h")
    assert registered is not None
    assert registered.version == model.version == "short"
    assert model.metrics["step"] == 6
    assert model.metrics["train_windows"] > 3000
    checkpoints = sorted(
        path.name for path in (job.models.parent / "train" / "short").iterdir() if path.name.startswith("checkpoint")
    )
    assert len(checkpoints) == 2, "the best and the last are kept"
    pipeline = from_pretrained(model.folder, preset="tiny", timeframe="1h")
    assert pipeline.calibration.windows == 20
    prediction = pipeline.forecast(series.slice(5000, 5100), horizons_minutes=(240, 960, 3840), num_samples=5, seed=1)
    assert set(prediction.horizons) == {240, 960, 3840}
    card = (model.folder / "card.md").read_text()
    assert "EURUSD" in card
    assert registered.data_hash in card
    assert registered.data_end < registered.data_start.replace(month=10, day=30), "the test period is not part of the data"
    with pytest.raises(BadSetting, match="a model named short exists"):
        train(job)


def test_wrong_inputs_are_refused_before_any_worker_starts(job: TrainJob, tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="no autoencoder can be loaded"):
        train(job.model_copy(update={"autoencoder": str(tmp_path / "absent")}))
    with pytest.raises(BadCandles, match="EURUSD 1h"):
        train(job.model_copy(update={"symbols": ("GBPUSD",)}))
    with pytest.raises(BadCandles, match="in each period"):
        train(job.model_copy(update={"test_share": 0.01}))
    with pytest.raises(BadSetup, match=r"jobs\.migrate"):
        train(job.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'absent.db'}"}))
