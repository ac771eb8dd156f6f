"""The paper preset through the job that trains it: 224 pixels, an SD-like VAE, CLIP, and workers that ask for GPUs.

The GPUs are declared and not there: what is shown is how the work is scheduled, and that it goes on on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import ray
from ray.util.state import list_actors, list_tasks

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.models.load import load_forecaster
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.config import TrainingConfig
from jobs.train import train
from jobs.train_opponent import train_opponent
from tests.integration.training_run import make_job, make_sssd_job
from tests.paper_factories import TEXT_WIDTH, save_autoencoder, save_text_encoder

_SHORT = TrainingConfig(
    steps=2,
    batch_size=4,
    window_stride_bars=400,
    evaluate_every_steps=2,
    checkpoint_every_steps=2,
    validation_windows=4,
    scored_windows=4,
    scored_samples=2,
    width_steps=5,
    fusion_steps=2,
    calibration_windows=20,
    calibration_samples=2,
)


def test_the_paper_preset_is_trained_by_workers_that_reserve_a_gpu_each_and_forecasts(
    gpu_node: str, store: str, series: CandleSeries, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = make_job(store, tmp_path).model_copy(
        update={
            "name": "paper",
            "preset": "paper",
            "autoencoder": str(save_autoencoder(tmp_path_factory.mktemp("vae"))),
            "text_encoder": str(save_text_encoder(tmp_path_factory.mktemp("clip"))),
            "unet_channels": (16, 16),
            "condition_width": 16,
            "sampler_steps": 2,
            "training": _SHORT,
            "use_gpu": True,
        }
    )
    model = train(job)
    workers = workers_on(gpu_node)
    assert len(workers) == 2, "both workers were where the GPUs are"
    assert all(gpus_of(worker.required_resources) == 1.0 for worker in workers)
    address = ray.get_runtime_context().gcs_address
    tasks = cast("list[Any]", list_tasks(address, filters=[("name", "=", "_encode"), ("node_id", "=", gpu_node)], detail=True))
    assert tasks, "windows were encoded there too"
    assert all(gpus_of(task.required_resources) == 1.0 for task in tasks)

    assert (model.preset, model.metrics["step"], model.metrics["stopped_by"]) == ("paper", 2, "steps")
    assert model.metrics["validation_windows"] == 4
    active = active_model(open_database(job.database_url), "EURUSD", "1h")
    assert active is not None
    assert active.version == "paper"
    pipeline = load_forecaster(model.folder, preset="paper", timeframe="1h")
    assert isinstance(pipeline, LDM4TSPipeline)
    assert pipeline.calibration.windows == 20
    assert pipeline.conditioner.sentence_embeddings.shape[1] == TEXT_WIDTH, "CLIP's, not the packaged encoder's"
    window = series.slice(5000, 5100)
    futures = pipeline.sample_paths(WindowBatch.of(window), num_samples=2, seeds=[1])
    assert futures.charts.shape == (1, 2, 3, 224, 224)
    prediction = predict(pipeline, window, horizons_minutes=(240, 960, 3840), num_samples=4, seed=1)
    assert prediction.model_version == "paper"
    assert all(horizon.std > 0 for horizon in prediction.horizons.values())


@pytest.mark.long
def test_sssd_is_trained_by_workers_that_reserve_a_gpu_each_too(gpu_node: str, store: str, tmp_path: Path) -> None:
    job = make_sssd_job(store, tmp_path, _SHORT).model_copy(update={"use_gpu": True})
    assert train_opponent(job).metrics["step"] == 2
    workers = workers_on(gpu_node)
    assert len(workers) == 2
    assert all(gpus_of(worker.required_resources) == 1.0 for worker in workers)


def workers_on(node: str) -> list[Any]:
    """Return Ray Train's workers, those that have ended too."""
    address = ray.get_runtime_context().gcs_address  # without it Ray asks the newest cluster on this machine
    found = list_actors(address, filters=[("class_name", "=", "RayTrainWorker"), ("node_id", "=", node)], detail=True)
    return cast("list[Any]", found)


def gpus_of(resources: Mapping[str, float]) -> float:
    """Return the GPUs that something reserves, by itself or as a part of a placement group."""
    return max((amount for name, amount in resources.items() if name == "GPU" or name.startswith("GPU_group_")), default=0.0)
