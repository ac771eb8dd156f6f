"""The denoiser's target. Source: progressive distillation's v, Salimans & Ho 2022, arXiv:2202.00512."""

from __future__ import annotations

from torch import Tensor


def velocity(clean: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """Return (noisy latents, v = √ᾱ·noise − √(1−ᾱ)·clean).

    Args:
        clean: (batch, channels, s, s).
        noise: Likewise.
        timesteps: (batch,) int64.
        alphas_cumprod: ᾱ of every timestep, (timesteps,).
    """
    alpha = alphas_cumprod[timesteps].sqrt()[:, None, None, None]
    sigma = (1.0 - alphas_cumprod[timesteps]).sqrt()[:, None, None, None]
    return alpha * clean + sigma * noise, alpha * noise - sigma * clean
