"""The stages that are trained by Ray Train's workers together: denoiser, temporal fusion, calibration."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.util.queue import Queue
from safetensors.torch import load_file
from torch import nn

from fxcast import __version__
from fxcast.cluster.train_card import model_card
from fxcast.cluster.train_checkpoint import MODEL_FOLDER, write_identity
from fxcast.cluster.train_device import worker_device
from fxcast.cluster.train_log import RunLog
from fxcast.cluster.train_plan import SeriesFacts, TrainPlan, calibration_facts
from fxcast.cluster.train_start import begin
from fxcast.cluster.train_storage import STAGES, RunStorage, Stage, StageResult, scratch
from fxcast.cluster.train_width import WIDTH_FOLDER
from fxcast.cluster.train_windows import chosen_windows
from fxcast.cluster.window_encoding import load_in_time_order, load_shard
from fxcast.cluster.window_shards import WindowShards, read_manifest
from fxcast.errors import BadModelFolder
from fxcast.models.autoencoder import load_autoencoder
from fxcast.models.calibration import Calibration
from fxcast.models.folder import save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training import denoiser, fusion
from fxcast.training.calibrate import calibrate
from fxcast.training.callbacks import Callbacks
from fxcast.training.charts import join
from fxcast.training.stream import OpenStream, stream_opener
from fxcast.training.validation import ValidationSet
from fxcast.training.workers import gather, rank

_WEIGHTS = "diffusion_pytorch_model.safetensors"
# Which parts of the pipeline a stage has made; each is a folder of that name in its result.
_MADE: dict[Stage, tuple[str, ...]] = {"width": (WIDTH_FOLDER,), "denoiser": ("unet", "conditioner"), "fusion": ("fusion",)}


def run_stages(config: dict[str, Any], resume_from: Path | None) -> None:
    """Do on this worker the stages that are asked for and not done; what each makes is kept before the next begins.

    Args:
        config: As `train_worker` gets it.
        resume_from: Folder of Ray Train's last checkpoint of the run.
    """
    with ExitStack() as stack:
        worker = _Worker(config, stack, resume_from)
        for stage in gather(worker.missing())[0]:  # as the first worker sees it, for all
            worker.do(stage)


class _Worker:
    """A worker of one run; its pipeline holds what the stages so far have made."""

    def __init__(self, config: dict[str, Any], stack: ExitStack, resume_from: Path | None) -> None:
        self._plan = TrainPlan.model_validate(config["plan"])
        self._facts: tuple[SeriesFacts, ...] = config["facts"]
        self._storage: RunStorage = config["storage"]
        self._identity: Mapping[str, Any] = config["identity"]
        self._stages: tuple[Stage, ...] = tuple(config["stages"])
        self._code_version: str = config["code_version"]
        self._queue: Queue = config["queue"]
        self._resume_from = resume_from
        torch.set_num_threads(self._plan.threads_per_worker)
        torch.manual_seed(self._plan.training.seed)  # the same untrained weights on every worker
        windows = read_manifest(self._storage, config["windows"])
        if windows is None:
            raise BadModelFolder(self._plan.name, f"the encoded windows {config['windows']} are gone from {self._storage.shared}")
        self._windows: WindowShards = windows
        embeddings = torch.from_numpy(config["sentence_embeddings"].copy())
        pipeline = LDM4TSPipeline.untrained(self._plan.model, load_autoencoder(self._plan.autoencoder), embeddings)
        begin(self._plan, pipeline)
        self._load_what_is_done(pipeline)
        self._pipeline = pipeline.to(worker_device())
        self._log = None if rank() else stack.enter_context(RunLog(self._storage))

    def missing(self) -> tuple[Stage, ...]:
        """Return the stages to do, in their order."""
        return tuple(stage for stage in self._stages if self._storage.result(stage) is None)

    def do(self, stage: Stage) -> None:
        """Do a stage and keep what it makes."""
        started = time.monotonic()
        training, callbacks = self._plan.training, self._callbacks()
        parts = _MADE.get(stage, ())
        if stage == "denoiser":
            shards = self._windows.of("validation")
            checked = load_in_time_order(self._storage, self._windows.key, shards).to(self._pipeline.device)
            fitted = denoiser.fit_denoiser(
                self._pipeline,
                self._stream(training.batch_size),
                ValidationSet.of(checked, training),
                training,
                callbacks,
                self._checkpoint(denoiser.CHECKPOINT_FILE),
                is_trained=self._plan.start_from is not None,
            )
            metrics: dict[str, float | str] = {
                "step": fitted.steps,
                "best_loss": fitted.best_loss,
                "best_step": fitted.best_step,
                "stopped_by": fitted.stopped_by,
                **{f"validation_{name.removeprefix('validation_')}": value for name, value in fitted.scores.items()},
            }
        elif stage == "fusion":
            stream, checkpoint = self._stream(fusion.FUSION_BATCH), self._checkpoint(fusion.CHECKPOINT_FILE)
            metrics = {"fusion_path_sigma": fusion.fit_fusion(self._pipeline, stream, training, callbacks, checkpoint)}
        else:
            metrics = self._calibrate(callbacks)
        seconds = time.monotonic() - started
        if rank():
            return
        with scratch() as folder:
            for part in parts:
                getattr(self._pipeline, part).save_pretrained(folder / part, safe_serialization=True)
            if stage == "calibration":
                self._save_model(folder / MODEL_FOLDER, metrics, seconds)
            self._storage.finish(stage, StageResult(metrics=metrics, seconds=seconds, facts={}), folder)

    def _calibrate(self, callbacks: Callbacks) -> dict[str, float | str]:
        """Calibrate the main timeframe, and each other one that has validation windows enough."""
        plan = self._plan
        metrics: dict[str, float | str] = {"code_version": self._code_version}
        fitted: dict[str, Calibration] = {}
        for timeframe, facts in calibration_facts(plan, self._facts).items():
            symbols = ", ".join(one.symbol for one in facts)
            fitted_on = f"{symbols} {timeframe} {plan.validation[0]:%Y-%m-%d} to {plan.validation[1]:%Y-%m-%d}"
            windows = join(list(chosen_windows(plan, facts, "validation", plan.training.calibration_windows)))
            of, stage = ("", "calibration") if timeframe == plan.model.timeframe else (f"_{timeframe}", f"calibration {timeframe}")
            calibrated = calibrate(self._pipeline.at(timeframe), windows, plan.training, callbacks, fitted_on, stage=stage)
            fitted[timeframe] = calibrated.calibration
            metrics[f"calibration{of}_windows"] = len(windows)
            for horizon in calibrated.calibration.horizons:
                metrics[f"width{of}_{horizon.horizon_minutes}"] = horizon.width
                metrics[f"mean_weight{of}_{horizon.horizon_minutes}"] = horizon.mean_weight
        self._pipeline = replace(self._pipeline, calibration=fitted.pop(plan.model.timeframe), other_calibrations=fitted)
        return metrics

    def _save_model(self, folder: Path, metrics: Mapping[str, Any], seconds: float) -> None:
        plan = self._plan
        results = {stage: self._storage.result(stage) for stage in STAGES[:-1]}
        scores: dict[str, Any] = {}
        for result in results.values():
            scores |= {} if result is None else result.metrics
        taken = {stage: result.seconds for stage, result in results.items() if result is not None} | {"calibration": seconds}
        card = model_card(plan, self._facts, {**scores, **metrics}, taken, self._identity["candles_hash"])
        final = replace(self._pipeline, model_version=plan.name)
        save_pretrained(final, folder, card=card, fxcast_version=__version__, data_end=plan.validation[1])

    def _load_what_is_done(self, pipeline: LDM4TSPipeline) -> None:
        for stage, parts in _MADE.items():
            if self._storage.result(stage) is None:
                continue
            with self._storage.made_by(stage).as_directory() as folder:
                for part in parts:
                    module: nn.Module = getattr(pipeline, part)
                    module.load_state_dict(load_file(Path(folder) / part / _WEIGHTS))

    def _stream(self, batch_size: int) -> OpenStream:
        shards = self._windows.of("train")
        return stream_opener(
            [shard.rows for shard in shards],
            lambda number: load_shard(self._storage, self._windows.key, shards[number]),
            seed=self._plan.training.seed,
            batch_size=batch_size,
            open_shards=self._plan.training.open_shards,
        )

    def _checkpoint(self, file: str) -> Path | None:
        """Return the folder of the last checkpoint, if it is of the stage that writes such a file."""
        return self._resume_from if self._resume_from is not None and (self._resume_from / file).is_file() else None

    def _callbacks(self) -> Callbacks:
        is_first = rank() == 0
        device = self._pipeline.device

        def wrap(module: nn.Module) -> nn.Module:
            return ray.train.torch.prepare_model(module, move_to_device=device)

        def progress(stage: str, done: int, total: int) -> None:
            if is_first and (done % 5 == 0 or done == total):
                self._queue.put((stage, done, total))

        def checkpoint(metrics: Mapping[str, float | str], write: Callable[[Path], None]) -> None:
            if not is_first:
                ray.train.report(dict(metrics))
                return
            with scratch() as folder:
                write(folder)
                write_identity(self._identity, folder)
                ray.train.report(dict(metrics), checkpoint=ray.train.Checkpoint.from_directory(folder))

        def log(stage: str, step: int, scalars: Mapping[str, float]) -> None:
            if self._log is not None:
                self._log.write(stage, step, scalars)

        return Callbacks(wrap=wrap, progress=progress, checkpoint=checkpoint, log=log)
