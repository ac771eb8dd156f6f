"""Draw latents of the future. Source: DPM-Solver++, Lu et al. 2022, arXiv:2211.01095."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from fxcast.models.conditioning import Condition
from fxcast.models.denoiser import predict_v


def seeded_noise(shape: Sequence[int], num_samples: int, seeds: Sequence[int]) -> Tensor:
    """Return the starting noise of each window from its own seed, so that batching changes no answer.

    Args:
        shape: (latent_channels, s, s).

    Returns:
        (windows · num_samples, latent_channels, s, s), window by window.
    """
    parts = [torch.randn(num_samples, *shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.cat(parts)


@torch.no_grad()
def sample_latents(
    unet: UNet2DConditionModel,
    scheduler: DPMSolverMultistepScheduler,
    past: Tensor,
    condition: Condition,
    noise: Tensor,
    steps: int,
) -> Tensor:
    """Denoise all samples of all windows in one batch.

    Args:
        past: (n, latent_channels, s, s), repeated for the samples, like `condition`.
        noise: (n, latent_channels, s, s).

    Returns:
        Latents of the future, (n, latent_channels, s, s).
    """
    # A solver keeps state: one of its own for each call.
    solver = cast("DPMSolverMultistepScheduler", DPMSolverMultistepScheduler.from_config(scheduler.config))
    solver.set_timesteps(steps, device=noise.device)
    latents = (noise * solver.init_noise_sigma).to(memory_format=torch.channels_last)
    for timestep in solver.timesteps:
        velocity = predict_v(unet, latents, timestep, past, condition)
        latents = solver.step(velocity, timestep, latents, return_dict=False)[0]
    return latents
