"""The denoiser's target, and how much each noise level counts in its loss.

Source: progressive distillation's v, Salimans & Ho 2022, arXiv:2202.00512.
"""

from __future__ import annotations

import torch
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


def min_snr_weights(alphas_cumprod: Tensor, gamma: float) -> Tensor:
    """Return how much each timestep counts in the loss on v, (timesteps,), 1 on average.

    It is min(SNR, γ) / (SNR + 1) over its mean, SNR = ᾱ / (1 − ᾱ): the loss, and so the learning rate that suits it, stays about as
    large as without weights. What is nearly all noise hardly counts whatever γ is, and a sampler of few steps begins there.

    Args:
        alphas_cumprod: ᾱ of every timestep, (timesteps,), on the CPU.
        gamma: The SNR above which weights fall again. A large one minds the cleaner latents most, a small one the noisier.

    Source: Hang et al. 2023, arXiv:2303.09556.
    """
    alphas = alphas_cumprod.double()
    weights = torch.minimum(alphas, gamma * (1.0 - alphas))  # SNR + 1 = 1 / (1 − ᾱ): finite where SNR is not
    return (weights / weights.mean()).float()
