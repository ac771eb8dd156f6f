"""Time one 50-sample forecast: its parts, in process, over HTTP, and sample by sample. `make bench`."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import torch

from fxcast import __version__
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.serve_driver import served
from fxcast.data.packaged import read_packaged_sample
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecaster import WindowBatch, predict
from fxcast.models.autoencoder import SHIPPED_TINY_VAE, decode, encode, load_autoencoder
from fxcast.models.config import preset_config
from fxcast.models.features import condition_features
from fxcast.models.folder import save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.sampler import sample_latents, seeded_noise
from fxcast.models.text import embed_sentences, packaged_text_encoder
from fxcast.vision.encoder import TimeSeriesVisionEncoder
from tests.benchmarks.result import Against, Figure
from tests.http import body_of
from tests.ports import free_port

_COMMAND = "make bench"
_SAMPLES = 50
_PLAIN_STEPS = 50
_FOLDER = REPOSITORY / "runs" / "bench"


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of some work, after one run that is not counted."""
    work()
    taken: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000.0)
    return float(np.median(taken))


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


def measure_http(folder: Path, window: CandleSeries) -> float:
    """Return the median milliseconds of POST /v1/forecast, one client."""
    body = body_of(window, num_samples=_SAMPLES)
    with (
        ray_session(num_cpus=4) as dashboard_url,
        served(
            REPOSITORY / "serve_configs" / "local.yaml",
            args={"model_folder": str(folder)},
            port=free_port(),
            dashboard_url=dashboard_url,
            timeout_s=180.0,
        ) as url,
        httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client,
    ):
        return median_ms(lambda: client.post("/v1/forecast", json=body).raise_for_status(), 20)


def main() -> None:
    """Run the benchmark."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    series = read_packaged_sample().series
    window = series.slice(3000, 3100)
    pipeline = LDM4TSPipeline.untrained(
        preset_config("tiny", "1h"), load_autoencoder(SHIPPED_TINY_VAE), embed_sentences(packaged_text_encoder())
    )
    horizons = pipeline.horizons_minutes
    in_process = median_ms(lambda: predict(pipeline, window, horizons_minutes=horizons, num_samples=_SAMPLES, seed=1), 20)
    parts = measure_parts(pipeline, window)
    started = time.perf_counter()
    sample_by_sample(pipeline, window)
    plain = Against(name=f"sample by sample, {_PLAIN_STEPS} steps", value=(time.perf_counter() - started) * 1000.0)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(pipeline, Path(folder), card="# benchmark\n", fxcast_version=__version__)
        http = measure_http(Path(folder), window)
    Figure(name="forecast_in_process", value=in_process, unit="ms", against=plain, command=_COMMAND).publish(_FOLDER)
    Figure(name="forecast_http", value=http, unit="ms", against=plain, command=_COMMAND).publish(_FOLDER)
    whole = Against(name="the whole forecast", value=in_process)
    for name, value in parts.items():
        Figure(name=f"forecast_part_{name}", value=value, unit="ms", against=whole, command=_COMMAND).publish(_FOLDER)


if __name__ == "__main__":
    main()
