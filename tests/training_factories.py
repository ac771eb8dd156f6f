"""Small pieces of a training run: windows, streams of them, and someone who listens to the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.callbacks import Callbacks
from fxcast.training.charts import WindowArrays, windows_of
from fxcast.training.config import TrainingConfig
from fxcast.training.latents import LatentWindows, to_latents
from fxcast.training.stream import OpenStream, stream_opener
from fxcast.training.validation import ValidationSet
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_pipeline

QUICK = TrainingConfig(
    steps=30,
    batch_size=8,
    learning_rate=3e-3,
    warm_up_steps=3,
    ema_decay=0.8,
    evaluate_every_steps=10,
    checkpoint_every_steps=10,
    scored_windows=0,
    scored_samples=4,
    width_steps=10,
    fusion_steps=30,
    calibration_windows=20,
    calibration_samples=4,
)
SHORT = QUICK.model_copy(update={"steps": 9, "evaluate_every_steps": 3, "checkpoint_every_steps": 3})
HOPELESS = QUICK.model_copy(update={"learning_rate": 1.0, "gradient_clip": 100.0, "evaluate_every_steps": 2, "patience": 2})


@dataclass
class Listener:
    """Remembers what the loop says, and keeps each checkpoint in a folder of its own."""

    folder: Path
    metrics: list[Mapping[str, float | str]] = field(default_factory=list[Mapping[str, float | str]])
    stages: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    logged: list[tuple[str, int, Mapping[str, float]]] = field(default_factory=list[tuple[str, int, Mapping[str, float]]])

    def checkpoint(self, metrics: Mapping[str, float | str], write: Callable[[Path], None]) -> None:
        self.metrics.append(metrics)
        self.checkpoint_of(int(metrics["step"])).mkdir(parents=True)
        write(self.checkpoint_of(int(metrics["step"])))

    def checkpoint_of(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    @property
    def callbacks(self) -> Callbacks:
        def wrap(module: nn.Module) -> nn.Module:
            return module

        def progress(stage: str, done: int, total: int) -> None:
            self.stages.append((stage, done, total))

        def log(stage: str, step: int, scalars: Mapping[str, float]) -> None:
            self.logged.append((stage, step, scalars))

        return Callbacks(wrap=wrap, progress=progress, checkpoint=self.checkpoint, log=log)


def make_windows(*, bars: int = 220) -> WindowArrays:
    return windows_of(make_series(bars=bars, range_width=1e-4), SMALL_CONFIG)


def make_latents(windows: WindowArrays, pipeline: LDM4TSPipeline | None = None) -> LatentWindows:
    parts = make_pipeline() if pipeline is None else pipeline
    return to_latents(windows, config=parts.config, vae=parts.vae, width=parts.width)


def stream_of(latents: LatentWindows, training: TrainingConfig, *, shards: int = 3) -> OpenStream:
    """Deal windows to shards, every n-th to each."""
    parts = [latents.take(torch.arange(first, len(latents), shards)) for first in range(shards)]
    return stream_opener(
        [len(part) for part in parts],
        lambda number: parts[number],
        seed=training.seed,
        batch_size=training.batch_size,
        open_shards=2,
    )


def validation_of(latents: LatentWindows, training: TrainingConfig = QUICK) -> ValidationSet:
    return ValidationSet.of(latents, training)


def weights_of(pipeline: LDM4TSPipeline) -> list[Tensor]:
    return [value.clone() for part in (pipeline.unet, pipeline.conditioner) for value in part.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(mine, other) for mine, other in zip(first, second, strict=True))
