"""Fit the temporal fusion: from decoded futures, as imperfect as sampled ones, back to the path they show."""

from __future__ import annotations

import torch

from fxcast.models.autoencoder import decode
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks
from fxcast.training.latents import LatentWindows
from fxcast.training.workers import draws_of_step, mean_over_workers, world_size

# A latent's noise in training, as a share of its standard deviation: sampled latents are never quite clean.
_LATENT_NOISE = 0.1
_BATCH = 64


def fit_fusion(pipeline: LDM4TSPipeline, train: LatentWindows, training: TrainingConfig, callbacks: Callbacks) -> float:
    """Fit the pipeline's temporal fusion in place.

    Args:
        train: This worker's share of the windows.

    Returns:
        Root mean square error of the path over the last tenth of the steps, in units of volatility·√bars.
    """
    module = pipeline.fusion.requires_grad_(requires_grad=True).train()
    model = callbacks.wrap(module)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.fusion_steps)
    batch = max(1, _BATCH // world_size())
    errors: list[float] = []
    for step in range(1, training.fusion_steps + 1):
        draws = draws_of_step(training.seed, step)
        chosen = train.take(torch.randint(len(train), (batch,), generator=draws))
        noise = torch.randn(chosen.future.shape, generator=draws).to(pipeline.device)
        latents = chosen.future + _LATENT_NOISE * noise
        with torch.no_grad():
            charts = decode(pipeline.vae, latents.contiguous(memory_format=torch.channels_last))
        loss = (model(charts, latents) - chosen.paths).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        errors.append(loss.item())
        callbacks.progress("temporal fusion", step, training.fusion_steps)
    module.requires_grad_(requires_grad=False).eval()
    last = errors[-max(1, len(errors) // 10) :]
    return mean_over_workers(sum(last) / len(last)) ** 0.5 * pipeline.config.path_clip
