"""What a walk-forward is made of: what a backtest is, the folds, and how each of them trains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from fxcast.backtest.folds import Scheme
from fxcast.cluster.train_plan import WORKERS_PATTERN
from fxcast.models.autoencoder import SHIPPED_TINY_VAE
from fxcast.models.config import Preset
from fxcast.training.config import TrainingConfig
from jobs.backtest_models import SHIPPED
from jobs.backtest_settings import TradedSettings
from jobs.train_opponent import SSSDOptions

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of a folder and of models
Refit = Literal["scratch", "fine-tune", "none"]


class WalkForwardJob(TradedSettings):
    """Train on the past, trade what follows, move on: folds whose test periods together are one out-of-sample account.

    The same name again goes on where a run was stopped: what is done of a fold is not done again. --from and --to are other names
    of --start and --stop.
    """

    name: str = Field(pattern=f"^{NAME_PATTERN}$", description="of the run, its folder and its folds' models")
    start: AwareDatetime | None = Field(
        default=None, description="the first fold's training begins here; by default where all symbols have candles"
    )
    stop: AwareDatetime | None = Field(
        default=None, description="the last test ends here; by default where the candles of the first symbol to end do"
    )
    scheme: Scheme = Field(
        default=Scheme.ROLLING, description="rolling: each fold trains on train_days; anchored: on all since the start"
    )
    train_days: float = Field(default=180.0, gt=0, description="length of the (with anchored: first) training period")
    validation_days: float = Field(default=30.0, gt=0, description="for early stopping and calibration")
    test_days: float = Field(default=30.0, gt=0, description="how long a fold's model trades")
    purge_bars: int | None = Field(
        default=None, ge=1, description="candles left out before validation and before the test; by default the longest horizon's"
    )
    embargo_bars: int = Field(default=0, ge=0, description="further candles left out between validation and test")
    max_folds: int | None = Field(default=None, ge=1, description="no more than these, the oldest; by default to the end")

    refit: Refit = Field(
        default="scratch",
        description="scratch: each fold trains anew; fine-tune: from the fold before, one after the other; none: all trade `model`",
    )
    start_from: str | None = Field(
        default=None,
        description="model folder whose weights each fold (fine-tune: the first) begins with, or shipped; it may have seen nothing "
        "of the first validation period",
    )
    model: str = Field(default=SHIPPED, description="refit none: model folder, version in the registry, random-walk, or shipped")
    sssd: str | None = Field(
        default=None,
        description="the SSSD model of all folds, named the same way; by default each fold trains one (refit none: shipped)",
    )
    force: bool = Field(default=False, description="test a model on what it has learned from; the report says so in red")

    preset: Preset = Field(default="tiny", description="tiny (CPU) or paper (GPU)")
    unet_channels: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="channels of the U-Net's levels; by default the preset's"
    )
    condition_width: int | None = Field(default=None, ge=4, multiple_of=4, description="of its conditions; by default the preset's")
    sampler_steps: int | None = Field(default=None, ge=1, description="denoising steps of a forecast; by default the preset's")
    autoencoder: str = Field(default=str(SHIPPED_TINY_VAE), description="folder or hub name of the VAE")
    text_encoder: str | None = Field(default=None, description="folder or hub name; without it, the packaged MiniLM")
    training: TrainingConfig = TrainingConfig()
    sssd_training: TrainingConfig | None = Field(default=None, description="SSSD's budget; by default the same as LDM4TS has")
    sssd_options: SSSDOptions = SSSDOptions()

    train_workers: Annotated[str, BeforeValidator(str)] = Field(
        default="1", pattern=f"^{WORKERS_PATTERN}$", description="Ray Train workers of a fold: a number, or MIN:MAX"
    )
    use_gpu: bool = Field(default=False, description="train on GPUs")
    gpus_per_worker: float = Field(default=1.0, gt=0, description="with use_gpu: GPUs of a training worker, or a share of one")
    cpus_per_worker: float = Field(default=1.0, gt=0, description="CPUs that Ray reserves for a training worker")
    concurrency: int | None = Field(
        default=None, ge=1, description="folds at once; by default as many as the cluster has room to train"
    )
    models: Path = Field(default=Path("runs/models"), description="folder of the models; the folds' are called NAME-fold-01 …")
    storage_path: str | None = Field(
        default=None, description="where trainings keep windows and checkpoints, a folder or URI; by default in the run's folder"
    )
    walk_forwards: Path = Field(
        default=Path("runs/walk_forward"), description="folder of the walk-forwards; this one is a sub-folder named as it"
    )

    @property
    def folder(self) -> Path:
        """Where the run keeps its folds and its report."""
        return self.walk_forwards / self.name

    @property
    def trains(self) -> bool:
        """Whether each fold has a model of its own."""
        return self.refit != "none"

    @property
    def trains_sssd(self) -> bool:
        """Whether each fold has an SSSD of its own."""
        return self.trains and self.sssd is None and "sssd" in self.benchmarks

    @property
    def fewest_workers(self) -> int:
        """Training workers that a fold needs."""
        return int(self.train_workers.partition(":")[0])
