"""The chart autoencoder: diffusers' AutoencoderKL with the latent brought to unit scale."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from fxcast.errors import BadModelFolder

# Weights that this project trained with `python -m jobs.train_vae` and ships.
SHIPPED_TINY_VAE = Path(__file__).parent / "weights" / "tiny_vae"


def new_tiny_autoencoder() -> AutoencoderKL:
    """Return an untrained autoencoder for 32 × 32 charts: latent 4 × 8 × 8, 0.65 M parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def load_autoencoder(source: str | Path) -> AutoencoderKL:
    """Load a frozen autoencoder from a folder or a hub name.

    Raises:
        BadModelFolder: If it can't be loaded.
    """
    try:
        vae = AutoencoderKL.from_pretrained(str(source), use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise BadModelFolder(str(source), f"no autoencoder can be loaded: {error}") from error
    return vae.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Return the latents of charts, scaled to about unit standard deviation.

    Args:
        images: (batch, 3, S, S).

    Returns:
        (batch, latent_channels, s, s).
    """
    return vae.encode(images).latent_dist.mode() * vae.config.scaling_factor


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Return the charts of latents: the inverse of `encode`, up to the autoencoder's error.

    Args:
        latents: (batch, latent_channels, s, s).

    Returns:
        (batch, 3, S, S).
    """
    return vae.decode(latents / vae.config.scaling_factor).sample
