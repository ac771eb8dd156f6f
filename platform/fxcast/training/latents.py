"""Windows in the form that the denoiser trains on, computed once: latents of both charts, and the conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from fxcast.models.autoencoder import encode
from fxcast.models.config import LDM4TSConfig
from fxcast.models.features import ConditionFeatures, condition_features
from fxcast.models.width import WidthNetwork, path_widths
from fxcast.training.charts import WindowArrays, future_charts, past_charts
from fxcast.vision.encoder import TimeSeriesVisionEncoder

_CHUNK_PIXELS = 256 * 32 * 32  # encoded at a time: 256 charts of `tiny`, 5 of `paper`


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentWindows:
    """What is trained on of n windows, and what their forecasts are scored by.

    Attributes:
        past: Latents of the past charts, (n, latent_channels, s, s).
        future: Latents of the future charts, likewise.
        paths: Futures in [−1, 1], in units of the width network's width, (n, path_points).
        outcomes: Moves at the horizons in the same units, neither clipped nor mapped, (n, horizons).
        widths: The width network's width over the random walk's, at the horizons, (n, horizons).
        volatility: EWMA volatility of the log price per bar, (n,).
        features: Inputs of the conditioner.
    """

    past: Tensor
    future: Tensor
    paths: Tensor
    outcomes: Tensor
    widths: Tensor
    volatility: Tensor
    features: ConditionFeatures

    def __len__(self) -> int:
        return len(self.past)

    def take(self, positions: Tensor) -> LatentWindows:
        """Return some of the windows."""
        return LatentWindows(
            **{name: tensor[positions] for name, tensor in self.tensors().items()}, features=self.features.take(positions)
        )

    def to(self, device: torch.device) -> LatentWindows:
        """Return the same on a device."""
        return LatentWindows(
            **{name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors().items()},
            features=self.features.to(device),
        )

    def full_precision(self) -> LatentWindows:
        """Return the same in float32 and int64, as the networks take them; shards hold less."""

        def full(tensor: Tensor) -> Tensor:
            return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64)

        return LatentWindows(
            **{name: full(tensor) for name, tensor in self.tensors().items()},
            features=ConditionFeatures(*(full(part) for part in self.features)),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return what there is besides the features, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "features"}


def join_latents(parts: Sequence[LatentWindows]) -> LatentWindows:
    """Return the windows of several parts one after the other."""
    if len(parts) == 1:
        return parts[0]
    return LatentWindows(
        **{name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()},
        features=ConditionFeatures(*(torch.cat(columns) for columns in zip(*(part.features for part in parts), strict=True))),
    )


@torch.no_grad()
def to_latents(windows: WindowArrays, *, config: LDM4TSConfig, vae: AutoencoderKL, width: WidthNetwork) -> LatentWindows:
    """Divide the paths by their widths, draw the charts and encode them; all tensors end on the autoencoder's device.

    Args:
        windows: Moves in units of volatility·√bars, as `windows_of` cuts them.
        vae: Frozen.
        width: Frozen.
    """
    chunk = max(1, _CHUNK_PIXELS // config.image_size**2)
    parts = [np.arange(start, min(start + chunk, len(windows))) for start in range(0, len(windows), chunk)]
    return join_latents([_encoded(windows.take(part), config, vae, width) for part in parts])


def _encoded(windows: WindowArrays, config: LDM4TSConfig, vae: AutoencoderKL, width: WidthNetwork) -> LatentWindows:
    device, encoder, points = vae.device, TimeSeriesVisionEncoder(config.image_size), list(config.horizon_points)
    widths = path_widths(width, windows.windows, config)  # (chunk, path_points)
    windows = windows.divided(widths, config)
    past = past_charts(encoder, windows).to(device, memory_format=torch.channels_last)  # (chunk, 3, S, S)
    future = future_charts(encoder, windows, config).to(device, memory_format=torch.channels_last)  # (chunk, 3, S, S)

    def on_device(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    return LatentWindows(
        past=encode(vae, past),
        future=encode(vae, future),
        paths=on_device(windows.paths),
        outcomes=on_device(windows.moves[:, points]),
        widths=on_device(widths[:, points]),
        volatility=on_device(windows.volatility),
        features=condition_features(windows.windows, config).to(device),
    )
