"""Train SSSD with Ray Train; what can be refused is refused here, before any worker starts. Nothing here loads torch's models."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from pydantic import AwareDatetime, Field

from fxcast.cluster.train_checkpoint import is_final, refuse_another_run
from fxcast.cluster.train_plan import candles_hash, positions_of
from fxcast.cluster.train_trainer import Progress, cluster_has_cuda, own_errors, relayed, run_trainer, torch_config
from fxcast.config import Settings
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadModelFolder, BadSetting
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.training.config import TrainingConfig

# What a run is made of besides these must be the same when it is resumed; the candles are compared instead of where they lie.
_FREE_TO_CHANGE = {"name", "store", "storage_path", "use_gpu", "threads_per_worker"}


class SSSDPlan(Settings):
    """All that a training run is made of; plain values, so that it travels to the workers."""

    name: str = Field(description="name of the run and version of the model")
    store: str
    symbols: tuple[str, ...]
    train: tuple[AwareDatetime, AwareDatetime] = Field(description="candles that open in [start, stop)")
    validation: tuple[AwareDatetime, AwareDatetime]
    model: SSSDConfig
    training: TrainingConfig
    calibrate: bool = True
    storage_path: str = Field(description="where Ray Train keeps checkpoints")
    workers: int = Field(default=2, ge=1)
    use_gpu: bool = False
    threads_per_worker: int = Field(default=1, ge=1)

    def series(self) -> tuple[CandleSeries, ...]:
        """Read the candles of the training and validation periods, symbol by symbol."""
        store, timeframe = CandleStore(self.store), Timeframe(self.model.timeframe)
        return tuple(store.read(symbol, timeframe, start=self.train[0], stop=self.validation[1]) for symbol in self.symbols)


@dataclass(frozen=True, slots=True, kw_only=True)
class SSSDOutcome:
    """The run's last checkpoint, which holds the model; its metrics, and a hash of the candles that were seen."""

    checkpoint: ray.train.Checkpoint
    metrics: Mapping[str, Any]
    data_hash: str


def train_sssd(plan: SSSDPlan, progress: Progress) -> SSSDOutcome:
    """Run the plan on the connected cluster; a run of the same name and storage resumes from its last checkpoint.

    A run that had finished is not run again: its model comes back.

    Args:
        progress: (stage, done, in all), called from a thread of this process.

    Raises:
        BadCandles: If a symbol has too few candles in a period.
        BadSetting: If there are more workers than windows, or the storage holds a run of this name with another plan.
        Unavailable: If workers died more often than is allowed.
    """
    series = plan.series()
    _check_windows(plan, series)
    data_hash = candles_hash(series)
    identity = {**plan.model_dump(mode="json", exclude=_FREE_TO_CHANGE), "pipeline": "SSSD", "candles_hash": data_hash}
    refuse_another_run(identity, storage_path=plan.storage_path, name=plan.name)
    with relayed(progress) as queue, own_errors():
        trainer = ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"plan": plan.model_dump(mode="json"), "identity": identity, "queue": queue},
            torch_config=torch_config(has_cuda=plan.use_gpu and cluster_has_cuda()),
            scaling_config=ray.train.ScalingConfig(num_workers=plan.workers, use_gpu=plan.use_gpu),
            run_config=ray.train.RunConfig(
                name=plan.name,
                storage_path=plan.storage_path,
                checkpoint_config=ray.train.CheckpointConfig(
                    num_to_keep=2, checkpoint_score_attribute="best_loss", checkpoint_score_order="min"
                ),
                failure_config=ray.train.FailureConfig(max_failures=2),
            ),
        )
        result = run_trainer(trainer)
    if result.checkpoint is None or result.metrics is None:
        raise BadModelFolder(plan.name, "the training run ended without a checkpoint")
    return SSSDOutcome(checkpoint=result.checkpoint, metrics=result.metrics, data_hash=data_hash)


def _check_windows(plan: SSSDPlan, series: tuple[CandleSeries, ...]) -> None:
    shortest = CONTEXT_BARS + plan.model.units.future_bars  # one window and its outcome
    for name, period in (("training", plan.train), ("validation", plan.validation)):
        windows = 0
        for one in series:
            start, stop = positions_of(one, period)
            if stop - start < shortest:
                found = f"{stop - start} of {one.symbol} in the {name} period, {period[0]:%Y-%m-%d} to {period[1]:%Y-%m-%d}"
                raise BadCandles("candles", found, f"at least {shortest} of each symbol")
            windows += stop - start - shortest + 1
        shares = -(-windows // plan.training.window_stride_bars)
        if name == "validation":
            shares = min(windows, plan.training.validation_windows, plan.training.calibration_windows)
        if shares < plan.workers:
            raise BadSetting(
                f"workers: found {plan.workers}; allowed: at most {shares}, for that many {name} windows are shared out"
            )


def _worker(config: dict[str, Any]) -> None:
    saved = ray.train.get_checkpoint()
    with nullcontext() if saved is None else saved.as_directory() as folder:
        resume_from = None if folder is None else Path(folder)
        if resume_from is not None and is_final(resume_from):
            return  # the run had finished: Ray returns its last checkpoint and the metrics stored with it
        from fxcast.cluster.train_sssd_loop import fit  # Ray's controller imports this module too, and need not wait for torch

        fit(config, resume_from)
