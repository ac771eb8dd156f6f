"""Fit conditioner and U-Net: v-prediction on the latents of the future, averaged weights, early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from fxcast.models.denoiser import ConditionedDenoiser
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.config import TrainingConfig
from fxcast.training.latents import LatentWindows
from fxcast.training.workers import draws_of_step, mean_over_workers, world_size

CHECKPOINT_FILE = "denoiser.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """How the loop speaks to what runs it.

    Attributes:
        wrap: Prepares a module for distributed training.
        progress: (stage, steps done, steps in all); called often.
        checkpoint: (metrics, a function that writes a checkpoint into a folder); called equally often on every worker.
    """

    wrap: Callable[[nn.Module], nn.Module]
    progress: Callable[[str, int, int], None]
    checkpoint: Callable[[Mapping[str, float | str], Callable[[Path], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserFit:
    """What came of it; `stopped_by` is `steps`, `patience` or `time`."""

    best_loss: float
    best_step: int
    steps: int
    stopped_by: str


def velocity(clean: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """Return (noisy latents, v = √ᾱ·noise − √(1−ᾱ)·clean). Source: Salimans & Ho 2022, arXiv:2202.00512."""
    alpha = alphas_cumprod[timesteps].sqrt()[:, None, None, None]
    sigma = (1.0 - alphas_cumprod[timesteps]).sqrt()[:, None, None, None]
    return alpha * clean + sigma * noise, alpha * noise - sigma * clean


def fit_denoiser(
    pipeline: LDM4TSPipeline,
    train: LatentWindows,
    validation: LatentWindows,
    training: TrainingConfig,
    callbacks: Callbacks,
    resume_from: Path | None = None,
) -> DenoiserFit:
    """Fit the pipeline's conditioner and U-Net in place; they end with the best averaged weights.

    Args:
        train: This worker's share of the windows.
        validation: This worker's share of the validation windows.
        resume_from: Folder of a checkpoint of the same run; it then ends as if it had never stopped.
    """
    module = ConditionedDenoiser(pipeline.conditioner, pipeline.unet)
    module.requires_grad_(requires_grad=True).train()
    model = callbacks.wrap(module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, training))
    average = EMAModel(module.parameters(), decay=training.ema_decay)
    alphas = pipeline.scheduler.alphas_cumprod.to(pipeline.device)
    step, best_step, best_loss, seconds_before = 0, 0, math.inf, 0.0
    best = {name: value.clone() for name, value in module.state_dict().items()}
    if resume_from is not None:
        saved = torch.load(resume_from / CHECKPOINT_FILE, map_location=pipeline.device, weights_only=True)
        module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        average.load_state_dict(saved["average"])
        step, best_step, best_loss, best = saved["step"], saved["best_step"], saved["best_loss"], saved["best"]
        seconds_before = saved["seconds"]
    started = time.monotonic() - seconds_before

    def write(folder: Path) -> None:
        torch.save(
            {
                "model": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "average": average.state_dict(),
                "step": step,
                "best_step": best_step,
                "best_loss": best_loss,
                "best": best,
                "seconds": time.monotonic() - started,
            },
            folder / CHECKPOINT_FILE,
        )

    stopped_by = "steps"
    batch = max(1, training.batch_size // world_size())
    losses: list[float] = []
    while step < training.steps:
        if step - best_step >= training.patience * training.evaluate_every_steps:
            stopped_by = "patience"
            break
        draws = draws_of_step(training.seed, step)
        chosen = train.take(torch.randint(len(train), (batch,), generator=draws))
        timesteps = torch.randint(len(alphas), (batch,), generator=draws).to(pipeline.device)
        noise = torch.randn(chosen.future.shape, generator=draws).to(pipeline.device)
        noisy, target = velocity(chosen.future, noise, timesteps, alphas)
        predicted = model(noisy.contiguous(memory_format=torch.channels_last), timesteps, chosen.past, chosen.features)
        loss = (predicted - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), training.gradient_clip)
        optimizer.step()
        schedule.step()
        average.step(module.parameters())
        step += 1
        losses.append(loss.item())
        callbacks.progress("denoiser", step, training.steps)
        if step % training.evaluate_every_steps and step < training.steps:
            continue
        average.store(module.parameters())
        average.copy_to(module.parameters())
        validation_loss = mean_over_workers(_validation_loss(module, validation, alphas, batch))
        if validation_loss < best_loss:
            best_loss, best_step = validation_loss, step
            best = {name: value.clone() for name, value in module.state_dict().items()}
        average.restore(module.parameters())
        train_loss = mean_over_workers(sum(losses) / len(losses))
        losses.clear()
        reached = {"step": step, "train_loss": train_loss, "validation_loss": validation_loss, "best_loss": best_loss}
        callbacks.checkpoint({"stage": "denoiser", **reached}, write)
        if step < training.steps and mean_over_workers(time.monotonic() - started) > training.max_seconds:
            stopped_by = "time"
            break
    module.load_state_dict(best)
    module.requires_grad_(requires_grad=False).eval()
    return DenoiserFit(best_loss=best_loss, best_step=best_step, steps=step, stopped_by=stopped_by)


def _rate(step: int, training: TrainingConfig) -> float:
    if step < training.warm_up_steps:
        return (step + 1) / (training.warm_up_steps + 1)
    done = (step - training.warm_up_steps) / max(1, training.steps - training.warm_up_steps)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def _validation_loss(module: nn.Module, validation: LatentWindows, alphas: Tensor, batch: int) -> float:
    """Return the loss with the same noise and timesteps at every validation."""
    module.eval()
    fixed = torch.Generator().manual_seed(0)
    noise = torch.randn(validation.future.shape, generator=fixed).to(alphas.device)
    timesteps = torch.randint(len(alphas), (len(validation),), generator=fixed).to(alphas.device)
    total = 0.0
    for positions in torch.arange(len(validation)).split(batch):
        chosen = validation.take(positions)
        noisy, target = velocity(chosen.future, noise[positions], timesteps[positions], alphas)
        predicted = module(noisy.contiguous(memory_format=torch.channels_last), timesteps[positions], chosen.past, chosen.features)
        total += float((predicted - target).square().mean()) * len(positions)
    module.train()
    return total / len(validation)
