"""A short training run, and something that kills its workers."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

import ray
from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME
from ray.util.state import list_actors

from fxcast.adapters.storage.database import migrate
from fxcast.training.config import TrainingConfig
from jobs.train import TrainJob
from jobs.train_opponent import SSSDOptions, TrainOpponentJob
from tests.state import job_database

SHORT = TrainingConfig(
    steps=6,
    batch_size=16,
    evaluate_every_steps=3,
    checkpoint_every_steps=3,
    validation_windows=24,
    scored_windows=20,
    scored_samples=4,
    width_steps=20,
    fusion_steps=4,
    calibration_windows=20,
    calibration_samples=4,
)


def make_job(store: str, folder: Path) -> TrainJob:
    """A run of two workers that writes everything below a folder."""
    database_url = job_database(folder, "registry")
    migrate(database_url)
    return TrainJob(name="short", store=store, models=folder / "models", database_url=database_url, training=SHORT, workers="2")


def make_sssd_job(store: str, folder: Path, training: TrainingConfig, *, name: str = "sssd") -> TrainOpponentJob:
    """A run of SSSD's smallest network on two workers that writes everything below a folder."""
    database_url = job_database(folder, "registry")
    migrate(database_url)
    return TrainOpponentJob(
        kind="sssd",
        name=name,
        store=store,
        models=folder / "models",
        database_url=database_url,
        training=training,
        sssd=SSSDOptions(channels=8, blocks=1, states=2, sampler_steps=2),
        workers=2,
    )


class Killer(threading.Thread):
    """Kills one of this cluster's Ray Train workers with SIGKILL as soon as Ray can resume the run.

    A checkpoint on disk is not enough: Ray's controller looks at the workers every two seconds, and loses what it has not heard of.

    Args:
        run: The run's folder.
        checkpoints: Folder in it that is Ray Train's.
    """

    def __init__(self, run: Path, *, checkpoints: str = "train") -> None:
        super().__init__(daemon=True)
        self._checkpoints = run / checkpoints
        self.pid: int | None = None
        self.registered_step = 0

    def run(self) -> None:
        while not (step := registered_step(self._checkpoints)):
            time.sleep(0.02)  # between looks at what another process writes
        self.registered_step = step
        # Without the address Ray would ask the newest cluster on this machine, whosever that is.
        address = ray.get_runtime_context().gcs_address
        workers = cast("list[Any]", list_actors(address, filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")]))
        pid = int(next(worker.pid for worker in workers if worker.pid))
        os.kill(pid, signal.SIGKILL)
        self.pid = pid


def registered_step(checkpoints: Path) -> int:
    """Return the step of the last checkpoint that Ray's controller knows; 0 if there is none yet."""
    try:
        snapshot = json.loads((checkpoints / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME).read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # not there yet, or half written
        return 0
    latest = snapshot["latest_checkpoint_result"]
    return 0 if latest is None else int(latest["metrics"]["step"])
