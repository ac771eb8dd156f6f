"""Time one 50-sample forecast in process: the whole, its parts, and sample by sample. `make bench`; over HTTP: service_load."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from fxcast.cluster.local import REPOSITORY
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.models.autoencoder import decode, encode
from fxcast.models.features import condition_features
from fxcast.models.folder import from_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.sampler import sample_latents, seeded_noise
from fxcast.models.shipped import shipped_model
from fxcast.vision.encoder import TimeSeriesVisionEncoder
from tests.benchmarks.result import Against, Figure
from tests.factories import make_series

_COMMAND = "make bench"
_SAMPLES = 50
_PLAIN_STEPS = 50
_TARGET_P95_MS = 120.0
_FOLDER = REPOSITORY / "runs" / "bench"


def times_ms(work: Callable[[], object], repeats: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the times of some work, after three runs that are not counted."""
    for _ in range(3):
        work()
    taken: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000.0)
    return np.array(taken)


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Return the median of `times_ms`."""
    return float(np.median(times_ms(work, repeats)))


def measure_parts(pipeline: LDM4TSPipeline, window: CandleSeries) -> dict[str, float]:
    """Return the milliseconds of each part of one forecast of `_SAMPLES` samples."""
    config = pipeline.config
    windows = WindowBatch.of(window)
    candles = windows.candles
    encoder = TimeSeriesVisionEncoder(config.image_size)
    with torch.no_grad():
        images = encoder(torch.from_numpy(candles)).to(memory_format=torch.channels_last)
        past = encode(pipeline.vae, images)
        features = condition_features(windows, config)
        condition = pipeline.conditioner(features).repeat(_SAMPLES)
        repeated, noise = past.repeat_interleave(_SAMPLES, dim=0), seeded_noise(past.shape[1:], _SAMPLES, [0])

        def denoise() -> torch.Tensor:
            return sample_latents(pipeline.unet, pipeline.scheduler, repeated, condition, noise, config.sampler_steps)

        latents = denoise()
        charts = decode(pipeline.vae, latents)
        return {
            "vision": median_ms(lambda: encoder(torch.from_numpy(candles)), 20),
            "vae_encode": median_ms(lambda: encode(pipeline.vae, images), 20),
            "conditioning": median_ms(lambda: pipeline.conditioner(condition_features(windows, config)), 20),
            "unet": median_ms(denoise, 10),
            "decode": median_ms(lambda: decode(pipeline.vae, latents), 10),
            "fusion": median_ms(lambda: pipeline.fusion(charts, latents), 20),
        }


def sample_by_sample(pipeline: LDM4TSPipeline, window: CandleSeries) -> None:
    """Do the same forecast the plain way: one sample at a time, `_PLAIN_STEPS` steps each."""
    plain = dataclasses.replace(pipeline, config=pipeline.config.model_copy(update={"sampler_steps": _PLAIN_STEPS}))
    for seed in range(_SAMPLES):
        plain.sample_moves(WindowBatch.of(window), num_samples=1, seeds=[seed])


def main() -> None:
    """Run the benchmark."""
    torch.set_num_threads(2)
    window = make_series(timeframe="1m", volatility=0.00005)
    folder = shipped_model("1m")
    assert folder is not None, "fxcast ships it"
    pipeline = from_pretrained(folder)
    horizons = pipeline.horizons_minutes
    in_process = times_ms(lambda: predict(pipeline, window, horizons_minutes=horizons, num_samples=_SAMPLES, seed=1), 100)
    whole = Against(name="the whole forecast", value=float(np.median(in_process)))
    parts = measure_parts(pipeline, window)
    started = time.perf_counter()
    sample_by_sample(pipeline, window)
    plain = Against(name=f"sample by sample, {_PLAIN_STEPS} steps", value=(time.perf_counter() - started) * 1000.0)
    Figure(name="forecast_in_process", value=whole.value, unit="ms", against=plain, command=_COMMAND).publish(_FOLDER)
    target = Against(name="target", value=_TARGET_P95_MS)
    p95 = float(np.percentile(in_process, 95))
    Figure(name="forecast_in_process_p95", value=p95, unit="ms", against=target, command=_COMMAND).publish(_FOLDER)
    for name, value in parts.items():
        Figure(name=f"forecast_part_{name}", value=value, unit="ms", against=whole, command=_COMMAND).publish(_FOLDER)


if __name__ == "__main__":
    main()
