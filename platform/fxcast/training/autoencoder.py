"""Fit the chart autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from pydantic import Field
from torch import Tensor

from fxcast.config import Settings
from fxcast.models.autoencoder import posterior, reconstruct
from fxcast.models.config import LDM4TSConfig
from fxcast.models.frozen import channels_last, frozen
from fxcast.training.charts import WindowArrays, future_charts, past_charts
from fxcast.training.workers import draws_of_step
from fxcast.vision.encoder import TimeSeriesVisionEncoder
from fxcast.vision.segmentation import unfold


class AutoencoderTraining(Settings):
    """How the autoencoder is fitted."""

    steps: int = Field(default=1200, ge=1, description="optimiser steps")
    batch_size: int = Field(default=128, ge=2, description="charts a step, half of the past and half of the future")
    learning_rate: float = Field(default=2e-3, gt=0)
    kl_weight: float = Field(default=1e-5, ge=0, description="weight of the Kullback–Leibler term")
    seg_weight: float = Field(default=4.0, gt=0, description="weight of the SEG channel, from which the path is read")
    checkpoint_every_steps: int = Field(default=50, ge=1, description="steps that are lost at most when the job is killed")
    seed: int = 0


CHECKPOINT_FILE = "autoencoder.pt"


def fit_autoencoder(
    vae: AutoencoderKL,
    windows: WindowArrays,
    config: LDM4TSConfig,
    training: AutoencoderTraining,
    report: Callable[[int, float], None],
    checkpoints: Path | None = None,
) -> AutoencoderKL:
    """Fit the autoencoder on charts of contexts and futures, and set its latent scale.

    Args:
        report: Called after each step with its number (from 1) and the loss.
        checkpoints: Folder to keep the last checkpoint in; if there is one, the fit goes on from it, and ends as if it had never
            stopped. By default none is kept.

    Returns:
        The same autoencoder, frozen, its `scaling_factor` set so that latents of futures have unit standard deviation.
    """
    encoder = TimeSeriesVisionEncoder(config.image_size)
    channels_last(vae.requires_grad_(requires_grad=True)).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=training.learning_rate, weight_decay=1e-4)
    warm_up = max(1, training.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / warm_up) * (0.51 + 0.49 * math.cos(math.pi * step / training.steps))
    )
    parts = {"model": vae, "optimizer": optimizer, "schedule": schedule}
    done = 0 if checkpoints is None else _load(checkpoints / CHECKPOINT_FILE, parts)
    weights = torch.tensor([training.seg_weight, 1.0, 1.0])[None, :, None, None]
    for step in range(done + 1, training.steps + 1):
        choose, draws = np.random.default_rng([training.seed, step]), draws_of_step(training.seed, step)
        charts = _draw_batch(encoder, windows, config, choose, training.batch_size)  # (batch, 3, S, S)
        latent = posterior(vae, charts)
        error = (reconstruct(vae, latent.sample(draws)) - charts).square()
        loss = (error * weights).mean() / weights.mean() + training.kl_weight * latent.kl().mean() / charts[0].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step, loss.item())
        if checkpoints is not None and step % training.checkpoint_every_steps == 0:
            _save(checkpoints / CHECKPOINT_FILE, parts, step)
    frozen(vae)
    chosen = np.random.default_rng(training.seed).integers(len(windows), size=1024)
    charts = future_charts(encoder, windows.take(chosen), config)
    latents = torch.cat([posterior(vae, part).mode() for part in charts.split(128)])
    vae.register_to_config(scaling_factor=1.0 / latents.std().item())
    return vae


def _save(path: Path, parts: Mapping[str, Any], step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save({**{name: part.state_dict() for name, part in parts.items()}, "step": step}, temporary)
    temporary.replace(path)  # there is always a whole one


def _load(path: Path, parts: Mapping[str, Any]) -> int:
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])


def _draw_batch(
    encoder: TimeSeriesVisionEncoder, windows: WindowArrays, config: LDM4TSConfig, choose: np.random.Generator, batch_size: int
) -> Tensor:
    half = windows.take(choose.integers(len(windows), size=batch_size // 2))
    if choose.random() < 0.5:
        half = half.mirrored()
    charts = torch.cat([past_charts(encoder, half), future_charts(encoder, half, config)])
    return charts.to(memory_format=torch.channels_last)


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, windows: WindowArrays, config: LDM4TSConfig) -> dict[str, float]:
    """Measure what the autoencoder loses.

    Returns:
        Root mean square errors: `seg`, `gaf`, `rp` (pixels of future charts, range 2), `past_seg`, and `path_sigma`: the path
        read back from SEG, in units of volatility·√bars.
    """
    encoder = TimeSeriesVisionEncoder(config.image_size)
    future, past = future_charts(encoder, windows, config), past_charts(encoder, windows)

    def rebuilt(charts: Tensor) -> Tensor:
        return torch.cat([reconstruct(vae, posterior(vae, part).mode()) for part in charts.split(128)])

    decoded = rebuilt(future)
    by_channel = (decoded - future).square().mean(dim=(0, 2, 3)).sqrt().tolist()
    periods = torch.full((len(decoded),), config.path_side, dtype=torch.int64)
    paths = unfold(decoded[:, 0], periods, config.path_points) - torch.from_numpy(windows.paths).to(torch.float32)
    return {
        "seg": by_channel[0],
        "gaf": by_channel[1],
        "rp": by_channel[2],
        "past_seg": (rebuilt(past)[:, 0] - past[:, 0]).square().mean().sqrt().item(),
        "path_sigma": paths.square().mean().sqrt().item() * config.path_clip,
    }
