"""The chart autoencoder: diffusers' AutoencoderKL with the latent brought to unit scale."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import FloatTensor, Tensor

from fxcast.errors import BadModelFolder
from fxcast.models.config import LDM4TSConfig
from fxcast.models.frozen import load_frozen

# Weights that this project trained with `python -m jobs.train_vae` and ships.
SHIPPED_TINY_VAE = Path(__file__).parent / "weights" / "tiny_vae"


def new_tiny_autoencoder(channels: tuple[int, int, int] = (8, 16, 32)) -> AutoencoderKL:
    """Return an untrained autoencoder for 32 × 32 charts: latent 4 × 8 × 8, 0.17 M parameters.

    Args:
        channels: From the level of the chart down to that of the latent. Twice as many read a path back by an eighth more exactly
            (0.038 against 0.043 volatility·√bars), and take twice the time of what is the larger part of a forecast.
    """
    options: dict[str, Any] = {  # diffusers annotates its tuples as of length one
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": channels,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": channels[0] // 2,
        "sample_size": 32,
        "mid_block_add_attention": False,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    return AutoencoderKL(**options)


def load_autoencoder(source: str | Path) -> AutoencoderKL:
    """Load a frozen autoencoder from a folder or a hub name.

    Raises:
        BadModelFolder: If it can't be loaded, or weights are missing.
    """
    try:
        return load_frozen(AutoencoderKL, source)
    except ValueError as error:
        raise BadModelFolder(str(source), f"the autoencoder {error}") from error


def check_autoencoder(vae: AutoencoderKL, config: LDM4TSConfig, source: str | Path) -> None:
    """Check that an autoencoder fits a model: three colours, and latents of the preset's shape.

    Raises:
        BadModelFolder: If it does not; names both.
    """
    colours, channels, side = vae.config["in_channels"], vae.config["latent_channels"], latent_size(vae, config.image_size)
    if (colours, channels, side) != (3, config.latent_channels, config.latent_size):
        found = f"encodes {colours}×{config.image_size}×{config.image_size} charts as {channels}×{side}×{side} latents"
        needed = f"3 colours and {config.latent_channels}×{config.latent_size}×{config.latent_size} latents"
        fitting = "the packaged one" if config.preset == "tiny" else "stabilityai/sd-vae-ft-mse"
        raise BadModelFolder(str(source), f"{found}; preset {config.preset!r} needs an autoencoder with {needed}, as {fitting} has")


def latent_size(vae: AutoencoderKL, image_size: int) -> int:
    """Return s, the side of a latent: every level but the last halves the image."""
    return image_size // 2 ** (len(vae.config["block_out_channels"]) - 1)


def weights_hash(vae: AutoencoderKL) -> str:
    """Return a SHA-256 of the weights and the latent scale, the same wherever they were loaded from."""
    digest = hashlib.sha256(repr(scaling_factor(vae)).encode())
    for name, value in vae.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def scaling_factor(vae: AutoencoderKL) -> float:
    """Return the factor that brings latents to unit standard deviation."""
    return vae.config["scaling_factor"]


def posterior(vae: AutoencoderKL, images: Tensor) -> DiagonalGaussianDistribution:
    """Return the distribution of the unscaled latents of charts, (batch, 3, S, S)."""
    return cast("AutoencoderKLOutput", vae.encode(images)).latent_dist


def reconstruct(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Return the charts, (batch, 3, S, S), of unscaled latents, (batch, latent_channels, s, s)."""
    return vae.decode(cast("FloatTensor", latents), return_dict=False)[0]  # diffusers' annotation is narrower than its code


def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Return the latents of charts, scaled to about unit standard deviation.

    Args:
        images: (batch, 3, S, S).

    Returns:
        (batch, latent_channels, s, s).
    """
    return posterior(vae, images).mode() * scaling_factor(vae)


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Return the charts of latents: the inverse of `encode`, up to the autoencoder's error.

    Args:
        latents: (batch, latent_channels, s, s).

    Returns:
        (batch, 3, S, S).
    """
    return reconstruct(vae, latents / scaling_factor(vae))
