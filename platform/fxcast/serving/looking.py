"""What a model is told of a window beside its picture, and the charts of the futures that it samples."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import Forecaster, ForecastRequest, WindowBatch, widened
from fxcast.models.config import LDM4TSConfig
from fxcast.models.features import condition_features
from fxcast.models.path import ewma_volatility, path_bars
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import SENTENCES
from fxcast.models.width import path_widths
from fxcast.serving.channels import channel_pictures
from fxcast.serving.seen import FutureBody, PixelsBody, RhythmBody, SeenBody
from fxcast.vision.encoder import TimeSeriesVisionEncoder, scale_closes
from fxcast.vision.gramian import resample
from fxcast.vision.segmentation import fold

_RHYTHMS = 3


def look(forecaster: Forecaster, request: ForecastRequest, futures: int) -> tuple[dict[str, bytes], SeenBody]:
    """Return what a model sees of a window as PNG by channel, and what it was told.

    Args:
        request: As it was forecast: with the same samples and width factors the futures are those of the forecast.
        futures: How many of its samples are drawn; with any, all are computed once more.

    Raises:
        BadRequest: If the model sees no pictures.
    """
    pictures = channel_pictures(forecaster, request.window)
    assert isinstance(forecaster, LDM4TSPipeline), "others have no pictures"
    config, windows = forecaster.config, WindowBatch.of(request.window)
    features = condition_features(windows, config)
    returns, sizes = features.spectrum[0].double().expm1().numpy().reshape(2, -1)  # each (CONTEXT_BARS // 2 + 1,)
    series = scale_closes(torch.from_numpy(windows.candles)).series.to(torch.float32)
    period = TimeSeriesVisionEncoder(config.image_size).periods(series)
    seen = SeenBody(
        text=SENTENCES[int(features.sentence[0])],
        return_rhythms=_rhythms(returns),
        size_rhythms=_rhythms(sizes),
        pixels=_pixels(CONTEXT_BARS, period, config.image_size),
        future_pixels=_pixels(config.path_points, torch.tensor([config.path_side]), config.image_size) if futures else None,
        future_minutes=(path_bars(config) * forecaster.timeframe.minutes).tolist(),
        futures=_futures(forecaster, request, windows, futures) if futures else [],
    )
    return pictures, seen


def _rhythms(amplitudes: FloatArray) -> list[RhythmBody]:
    """Return the strongest of a window's periods; the mean, which has none, counts for nothing."""
    power = amplitudes**2
    power[1 : (CONTEXT_BARS + 1) // 2] *= 2.0  # each stands for two of the whole spectrum, all but the first and the last
    power[0] = 0.0
    if (total := power.sum()) < 1e-9:  # what float32 leaves of a flat window
        return []
    strongest = np.argsort(-power, kind="stable")[:_RHYTHMS]
    return [RhythmBody(bars=CONTEXT_BARS / int(turns), share=float(power[turns] / total)) for turns in strongest]


def _pixels(length: int, period: Tensor, image_size: int) -> PixelsBody:
    moments = torch.arange(length)
    shares = resample(torch.eye(length), image_size) > 0  # (length, image_size): whether a moment is part of a pixel
    ends = [(int(own.min()), int(own.max())) for own in (moments[part] for part in shares.T)]
    return PixelsBody(seg=fold(moments[None], period, image_size)[0].tolist(), side=ends)


def _futures(pipeline: LDM4TSPipeline, request: ForecastRequest, windows: WindowBatch, count: int) -> list[FutureBody]:
    drawn = pipeline.sample_paths(windows, num_samples=request.num_samples, seeds=[request.seed])
    prices = _prices(pipeline, request, windows, drawn.paths[0])
    charts = ((drawn.charts[0, :count].float().cpu() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pictures = charts.permute(0, 2, 3, 1).numpy()  # (count, S, S, 3)
    return [
        FutureBody(chart=b64encode(_png(picture)).decode(), prices=path.tolist())
        for picture, path in zip(pictures, prices[:count], strict=True)
    ]


def _prices(pipeline: LDM4TSPipeline, request: ForecastRequest, windows: WindowBatch, paths: FloatArray) -> FloatArray:
    """Return the prices of raw paths, (samples, path_points): at the horizons those of the forecast.

    Calibration and online width are known at the horizons; between them they go along lines in the logarithm of time, as the
    width network's own widths do, and before the first they are the first's.
    """
    config = pipeline.config
    bars = path_bars(config)  # (path_points,)
    own = pipeline.calibration.horizons
    raw = paths * config.path_clip
    centre = raw.mean(axis=0, keepdims=True)
    weight, width = _between([each.mean_weight for each in own], config), _between([each.width for each in own], config)
    units = path_widths(pipeline.width, windows, config)[0] * np.sqrt(bars)
    units = units * ewma_volatility(windows.candles[:, :, 3], config.volatility_span_bars)
    moves = (centre * weight + (raw - centre) * width) * units  # (samples, path_points)
    factors = _between([request.width_factors.get(minutes, 1.0) for minutes in config.horizons_minutes], config)
    return windows.prices[0] * np.exp(widened(moves, factors))


def _between(at_horizons: list[float], config: LDM4TSConfig) -> FloatArray:
    return np.interp(np.log(path_bars(config)), np.log(config.horizon_bars), at_horizons)


def _png(picture: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> bytes:
    written = io.BytesIO()
    Image.fromarray(picture).save(written, format="PNG")
    return written.getvalue()
