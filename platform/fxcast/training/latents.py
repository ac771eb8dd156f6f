"""Windows in the form that the denoiser trains on, computed once: latents of both charts, and the conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fxcast.models.autoencoder import encode
from fxcast.models.features import ConditionFeatures, condition_features
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.charts import WindowArrays, future_charts, past_charts
from fxcast.vision.encoder import TimeSeriesVisionEncoder

_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentWindows:
    """Attributes: `past` and `future` latents (n, latent_channels, s, s), `paths` (n, path_points) in [−1, 1]."""

    past: Tensor
    future: Tensor
    paths: Tensor
    features: ConditionFeatures

    def __len__(self) -> int:
        return len(self.past)

    def take(self, positions: Tensor) -> LatentWindows:
        """Return some of the windows."""
        return LatentWindows(
            past=self.past[positions],
            future=self.future[positions],
            paths=self.paths[positions],
            features=self.features.take(positions),
        )


@torch.no_grad()
def to_latents(pipeline: LDM4TSPipeline, windows: WindowArrays) -> LatentWindows:
    """Encode windows with the pipeline's frozen autoencoder; all tensors end on its device."""
    device = pipeline.device
    encoder = TimeSeriesVisionEncoder(pipeline.config.image_size)
    past: list[Tensor] = []
    future: list[Tensor] = []
    for start in range(0, len(windows), _CHUNK):
        chunk = windows.take(np.arange(start, min(start + _CHUNK, len(windows))))
        past.append(encode(pipeline.vae, past_charts(encoder, chunk).to(device, memory_format=torch.channels_last)))
        charts = future_charts(encoder, chunk, pipeline.config)  # (chunk, 3, S, S)
        future.append(encode(pipeline.vae, charts.to(device, memory_format=torch.channels_last)))
    return LatentWindows(
        past=torch.cat(past),
        future=torch.cat(future),
        paths=torch.from_numpy(windows.paths.astype(np.float32)).to(device),
        features=condition_features(windows.candles, windows.open_times, pipeline.config).to(device),
    )
