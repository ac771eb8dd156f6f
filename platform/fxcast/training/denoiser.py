"""Fit conditioner and U-Net: v-prediction on the latents of the future, averaged weights, early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from fxcast.models.denoiser import ConditionedDenoiser
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.symbols import forget_some
from fxcast.training.callbacks import Callbacks
from fxcast.training.config import TrainingConfig
from fxcast.training.latents import LatentWindows
from fxcast.training.precision import autocast, compiled, gradient_scaler
from fxcast.training.stream import Deal, OpenStream
from fxcast.training.validation import CRPS_RATIO, LOSS, ValidationSet, validate
from fxcast.training.velocity import min_snr_weights, velocity
from fxcast.training.workers import draws_of_step, mean_over_workers, world_size

CHECKPOINT_FILE = "denoiser.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserFit:
    """What came of it.

    Attributes:
        best_loss: Validation loss of the weights that were kept.
        best_step: Their step.
        steps: How many were done.
        stopped_by: `steps`, `patience` or `time`.
        scores: All that the validation at the best step measured.
    """

    best_loss: float
    best_step: int
    steps: int
    stopped_by: str
    scores: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(kw_only=True)
class Best:
    """The weights to keep: of those whose CRPS ratio can't be told from the lowest, the ones of the lowest loss.

    The ratio alone would often keep weights of the first validations, by chance: it is measured on some hundred windows, and
    calibrated, so it hardly moves while the loss falls. Where no window is scored the loss decides.

    Attributes:
        tolerance: How far above the lowest ratio so far is as good as the lowest.
        score: The ratio of the weights that are kept, or their loss where no window is scored.
        progress_step: Of the last validation at which the ratio or the loss was the lowest so far.
    """

    weights: dict[str, Tensor]
    tolerance: float
    step: int = 0
    score: float = math.inf
    scores: dict[str, float] = field(default_factory=dict[str, float])
    lowest_score: float = math.inf
    lowest_loss: float = math.inf
    progress_step: int = 0

    def consider(self, step: int, metrics: Mapping[str, float], module: nn.Module) -> None:
        """Take over the module's weights if they are the best so far."""
        loss = metrics[LOSS]
        score = metrics.get(CRPS_RATIO, loss)
        if score < self.lowest_score or loss < self.lowest_loss:
            self.progress_step = step
        self.lowest_score, self.lowest_loss = min(self.lowest_score, score), min(self.lowest_loss, loss)
        as_good = self.lowest_score + self.tolerance
        if score <= as_good and (self.score > as_good or loss < self.scores[LOSS]):
            self.score, self.step, self.scores = score, step, dict(metrics)
            self.weights = {name: value.clone() for name, value in module.state_dict().items()}


class _Loop:
    """Module, optimiser and all that a checkpoint must bring back."""

    def __init__(self, pipeline: LDM4TSPipeline, training: TrainingConfig, wrap: Callable[[nn.Module], nn.Module]) -> None:
        self.module = ConditionedDenoiser(pipeline.conditioner, pipeline.unet)
        self.module.requires_grad_(requires_grad=True).train()
        self.device = pipeline.device
        self.model = compiled(wrap(self.module), training, self.device)
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _rate(step, training))
        self.average = EMAModel(self.module.parameters(), decay=training.ema_decay)
        self.scaler = gradient_scaler(training, self.device)
        self.step = 0
        self.best = Best(
            weights={name: value.clone() for name, value in self.module.state_dict().items()}, tolerance=training.crps_tolerance
        )
        self.started = time.monotonic()
        self._parts: dict[str, Any] = {
            "model": self.module,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "average": self.average,
            "scaler": self.scaler,
        }

    @property
    def seconds(self) -> float:
        """How long the run has taken, also before it was stopped."""
        return time.monotonic() - self.started

    def save(self, folder: Path, deal: Deal) -> None:
        content = {name: part.state_dict() for name, part in self._parts.items()}
        content |= {"step": self.step, "best": vars(self.best), "deal": deal.to_json(), "seconds": self.seconds}
        torch.save(content, folder / CHECKPOINT_FILE)

    def load(self, folder: Path) -> Deal:
        saved = torch.load(folder / CHECKPOINT_FILE, map_location=self.device, weights_only=True)
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        self.step, self.best = saved["step"], Best(**saved["best"])
        self.started = time.monotonic() - saved["seconds"]
        return Deal.from_json(saved["deal"])


def fit_denoiser(
    pipeline: LDM4TSPipeline,
    open_stream: OpenStream,
    validation: ValidationSet,
    training: TrainingConfig,
    callbacks: Callbacks,
    resume_from: Path | None = None,
    *,
    is_trained: bool = False,
) -> DenoiserFit:
    """Fit the pipeline's conditioner and U-Net in place; they end with the best averaged weights.

    Args:
        open_stream: Opens this worker's stream of training windows.
        resume_from: Folder of a checkpoint of the same run; with as many workers it then ends as if it had never stopped, with
            more or fewer it goes on with the windows that come next.
        is_trained: The pipeline has learned already; it is validated before the first step too, and stays so if nothing is better.
    """
    loop = _Loop(pipeline, training, callbacks.wrap)
    deal = None if resume_from is None else loop.load(resume_from)
    stream = open_stream(deal, loop.step)
    alphas, weights = pipeline.scheduler.alphas_cumprod.to(pipeline.device), _weights(pipeline, training)
    stopped_by, losses = "steps", list[Tensor]()
    per_worker = max(1, training.batch_size // world_size())
    try:
        if is_trained and loop.step == 0:
            callbacks.log("denoiser", 0, _validated(loop, pipeline, validation, training, per_worker))
        while loop.step < training.steps:
            if loop.step - loop.best.progress_step >= training.patience * training.evaluate_every_steps:
                stopped_by = "patience"
                break
            windows = stream.batch(loop.step).to(pipeline.device)
            losses.append(_train(loop, windows, alphas, weights, training))
            callbacks.progress("denoiser", loop.step, training.steps)
            is_last = loop.step == training.steps
            validated: dict[str, float] = {}
            if is_last or loop.step % training.evaluate_every_steps == 0:
                validated = {"train_loss": mean_over_workers(float(torch.stack(losses).mean()))}
                losses.clear()
                validated |= _validated(loop, pipeline, validation, training, per_worker)
                callbacks.log("denoiser", loop.step, {**validated, "learning_rate": float(loop.schedule.get_last_lr()[0])})
            if validated or loop.step % training.checkpoint_every_steps == 0:
                metrics = {"stage": "denoiser", **validated, "step": loop.step, "score": _score(loop.best)}
                callbacks.checkpoint(metrics, lambda folder: loop.save(folder, stream.deal))
            if validated and not is_last and mean_over_workers(loop.seconds) > training.max_seconds:
                stopped_by = "time"
                break
    finally:
        stream.close()
    loop.module.load_state_dict(loop.best.weights)
    loop.module.requires_grad_(requires_grad=False).eval()
    scores = loop.best.scores
    return DenoiserFit(
        best_loss=scores.get(LOSS, math.inf), best_step=loop.best.step, steps=loop.step, stopped_by=stopped_by, scores=scores
    )


def _weights(pipeline: LDM4TSPipeline, training: TrainingConfig) -> Tensor | None:
    """Return how much each timestep counts, (timesteps,); None if all count the same."""
    if training.min_snr_gamma is None:
        return None
    return min_snr_weights(pipeline.scheduler.alphas_cumprod, training.min_snr_gamma).to(pipeline.device)


def _train(loop: _Loop, windows: LatentWindows, alphas: Tensor, weights: Tensor | None, training: TrainingConfig) -> Tensor:
    """Do one optimiser step; return its loss, weighted as it was learned from, still on the device."""
    draws = draws_of_step(training.seed, loop.step)
    timesteps = torch.randint(len(alphas), (len(windows),), generator=draws).to(loop.device)
    noise = torch.randn(windows.future.shape, generator=draws).to(loop.device)
    noisy, target = velocity(windows.future, noise, timesteps, alphas)
    features = windows.features._replace(symbol=forget_some(windows.features.symbol, training.forgotten_symbols, draws))
    mixed = autocast(training, loop.device)
    total = torch.zeros((), device=loop.device)
    batches = torch.arange(len(windows), device=loop.device).tensor_split(min(training.accumulate, len(windows)))
    for number, rows in enumerate(batches, start=1):
        with _synchronised(loop.model, is_last=number == len(batches)):
            latents = noisy[rows].contiguous(memory_format=torch.channels_last)
            with mixed():
                predicted = loop.model(latents, timesteps[rows], windows.past[rows], features.take(rows))
            errors = (predicted.float() - target[rows]).square()  # (rows, channels, s, s)
            if weights is not None:
                errors *= weights[timesteps[rows], None, None, None]
            loss = errors.mean() * (len(rows) / len(windows))
            loop.scaler.scale(loss).backward()
        total += loss.detach()
    loop.scaler.unscale_(loop.optimizer)
    torch.nn.utils.clip_grad_norm_(loop.module.parameters(), training.gradient_clip)
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()
    loop.optimizer.zero_grad()
    loop.schedule.step()
    loop.average.step(loop.module.parameters())
    loop.step += 1
    return total


def _synchronised(model: nn.Module, *, is_last: bool) -> AbstractContextManager[object]:
    """Let the workers exchange gradients only at the last batch of a step."""
    no_sync = getattr(model, "no_sync", nullcontext)  # DDP has it
    return nullcontext() if is_last else cast("AbstractContextManager[object]", no_sync())


def _validated(
    loop: _Loop, pipeline: LDM4TSPipeline, validation: ValidationSet, training: TrainingConfig, batch: int
) -> Mapping[str, float]:
    loop.average.store(loop.module.parameters())
    loop.average.copy_to(loop.module.parameters())
    metrics = validate(pipeline, loop.module, validation, training, batch)
    loop.best.consider(loop.step, metrics, loop.module)
    loop.average.restore(loop.module.parameters())
    return metrics


def _score(best: Best) -> float:
    return best.lowest_score if math.isfinite(best.lowest_score) else 1e9  # Ray sorts checkpoints by it, and takes no infinity


def _rate(step: int, training: TrainingConfig) -> float:
    if step < training.warm_up_steps:
        return (step + 1) / (training.warm_up_steps + 1)
    done = (step - training.warm_up_steps) / max(1, training.steps - training.warm_up_steps)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
