"""The three channels that a model sees, as pictures."""

from __future__ import annotations

import io

import torch
from PIL import Image

from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import Forecaster
from fxcast.errors import BadRequest
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.vision.encoder import TimeSeriesVisionEncoder

CHANNELS = ("seg", "gaf", "rp")


def channel_pictures(forecaster: Forecaster, window: CandleSeries) -> dict[str, bytes]:
    """Return each channel of a window's image as a grey PNG of the model's size, by name; −1 is black, 1 is white.

    Raises:
        BadRequest: If the model sees no pictures.
    """
    if not isinstance(forecaster, LDM4TSPipeline):
        raise BadRequest("vision", "true", f"false for {forecaster.model_version}, which sees no pictures")
    candles = torch.from_numpy(window.values)[None]
    image = TimeSeriesVisionEncoder(forecaster.config.image_size)(candles)[0]  # (3, S, S) in [−1, 1]
    grey = ((image + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return {name: _png(Image.fromarray(channel)) for name, channel in zip(CHANNELS, grey, strict=True)}


def _png(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.save(written, format="PNG")
    return written.getvalue()
