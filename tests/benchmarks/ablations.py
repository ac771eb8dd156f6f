"""What each part of a trained model is worth, on its validation period: python -m tests.benchmarks.ablations --model FOLDER …

Every row forecasts the same windows and is calibrated across halves (each half of the windows by the other), so that a variant
is not punished for a width that calibration would put right. The validation period has chosen weights, so these numbers flatter
all rows alike: they are for comparing them, and say nothing of a test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import AwareDatetime, Field
from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

from fxcast.config import JobSettings
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.evaluation.rolling import rolling_ends
from fxcast.models.autoencoder import decode, encode
from fxcast.models.config import LDM4TSConfig
from fxcast.models.features import condition_features
from fxcast.models.folder import from_pretrained
from fxcast.models.path import ewma_volatility, moves_at_horizons
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.sampler import sample_latents, seeded_noise
from fxcast.models.width import path_widths
from fxcast.terminal import new_console
from fxcast.training.charts import WindowArrays, evenly, future_charts, join, windows_ending_at
from fxcast.training.scores import score_samples
from fxcast.training.validation import calibrated_across_halves
from fxcast.vision.encoder import TimeSeriesVisionEncoder
from fxcast.vision.segmentation import unfold

_CHUNK = 8  # windows sampled at a time
Sampler = Callable[[WindowBatch, Sequence[int]], FloatArray]  # (windows, seeds) → raw moves, (windows, samples, horizons)


class AblationSettings(JobSettings):
    """Compare variants of a trained model on its validation period."""

    model: Path = Field(description="model folder")
    store: str = Field(default="runs/store", description="root of the candle store")
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1)
    start: AwareDatetime = Field(description="where the validation period begins")
    stop: AwareDatetime = Field(description="where it ends")
    windows: int = Field(default=400, ge=40, description="evenly over the period, of all symbols together")
    num_samples: int = Field(default=25, ge=2)


def variants(pipeline: LDM4TSPipeline, num_samples: int) -> dict[str, Sampler]:
    """Return the model and what becomes of it when one part is changed."""

    def sampled(seeds: Sequence[int], *, steps: int, seen: WindowBatch, told: WindowBatch) -> tuple[torch.Tensor, ...]:
        images = TimeSeriesVisionEncoder(pipeline.config.image_size)(torch.from_numpy(seen.candles))
        past = encode(pipeline.vae, images.to(memory_format=torch.channels_last))
        condition = pipeline.conditioner(condition_features(told, pipeline.config))
        noise = seeded_noise(past.shape[1:], num_samples, seeds)
        latents = sample_latents(
            pipeline.unet,
            pipeline.scheduler,
            past.repeat_interleave(num_samples, dim=0),
            condition.repeat(num_samples),
            noise,
            steps,
        )
        return decode(pipeline.vae, latents), latents

    def moves(paths: torch.Tensor, windows: WindowBatch) -> FloatArray:
        by_window = paths.clamp(-1.0, 1.0).unflatten(0, (len(windows), num_samples)).numpy().astype(np.float64)
        return moves_at_horizons(by_window, pipeline.config)

    def fused(steps: int, *, other_image: bool = False, other_conditions: bool = False) -> Sampler:
        def sample(windows: WindowBatch, seeds: Sequence[int]) -> FloatArray:
            other = windows.take(np.roll(np.arange(len(windows)), 1))
            charts, latents = sampled(
                seeds,
                steps=steps,
                seen=other if other_image else windows,
                told=other if other_conditions else windows,
            )
            return moves(pipeline.fusion(charts, latents), windows)

        return sample

    def from_segments(windows: WindowBatch, seeds: Sequence[int]) -> FloatArray:
        charts, _ = sampled(seeds, steps=pipeline.config.sampler_steps, seen=windows, told=windows)
        periods = torch.full((len(charts),), pipeline.config.path_side, dtype=torch.int64)
        return moves(unfold(charts[:, 0], periods, pipeline.config.path_points), windows)

    def normal(windows: WindowBatch, seeds: Sequence[int]) -> FloatArray:
        draws = [np.random.default_rng(seed).standard_normal((num_samples, len(pipeline.horizons_minutes))) for seed in seeds]
        return np.stack(draws) if len(windows) else np.empty((0, num_samples, len(pipeline.horizons_minutes)))

    own = pipeline.config.sampler_steps
    return {
        f"the model ({own} steps)": fused(own),
        **{f"{steps} sampling steps": fused(steps) for steps in (2, 4, 8, 16) if steps != own},
        "read from SEG, without fusion": from_segments,
        "image of another window": fused(own, other_image=True),
        "conditions of another window": fused(own, other_conditions=True),
        "no diffusion: normal of the learned width": normal,
    }


def collect(settings: AblationSettings, config: LDM4TSConfig) -> WindowArrays:
    """Cut windows whose outcomes lie in the period, in time order."""
    timeframe = Timeframe(config.timeframe)
    parts: list[WindowArrays] = []
    for symbol in settings.symbols:
        series: CandleSeries = CandleStore(settings.store).read(symbol, timeframe, stop=settings.stop)
        ends = rolling_ends(series, settings.start, settings.stop, step_bars=1)
        ends = ends[ends + config.future_bars < len(series)]
        parts.append(windows_ending_at(series, evenly(ends, settings.windows // len(settings.symbols)), config))
    windows = join(parts)
    return windows.take(np.argsort(windows.windows.closed_at, kind="stable"))


@torch.no_grad()
def reconstruction_error(pipeline: LDM4TSPipeline, windows: WindowArrays) -> FloatArray:
    """Return the root mean square error of true futures drawn, encoded, decoded and read back, in learned widths, (horizons,)."""
    divided = windows.divided(path_widths(pipeline.width, windows.windows, pipeline.config), pipeline.config)
    charts = future_charts(TimeSeriesVisionEncoder(pipeline.config.image_size), divided, pipeline.config)
    latents = encode(pipeline.vae, charts.to(memory_format=torch.channels_last))
    paths = pipeline.fusion(decode(pipeline.vae, latents), latents).clamp(-1.0, 1.0).numpy().astype(np.float64)
    error = moves_at_horizons(paths, pipeline.config) - moves_at_horizons(divided.paths, pipeline.config)
    return np.sqrt((error**2).mean(axis=0))


def scores(pipeline: LDM4TSPipeline, windows: WindowArrays, raw: FloatArray, *, calibrated: bool) -> list[dict[str, float]]:
    """Score raw moves at each horizon, in log prices."""
    widths = path_widths(pipeline.width, windows.windows, pipeline.config)
    outcomes = windows.divided(widths, pipeline.config).moves[:, list(pipeline.config.horizon_points)]
    moves = calibrated_across_halves(raw, outcomes, pipeline.horizons_minutes) if calibrated else raw
    walk = ewma_volatility(windows.windows.candles[:, :, 3], pipeline.config.volatility_span_bars)[:, None] * np.sqrt(
        np.array(pipeline.config.horizon_bars, dtype=np.float64)
    )
    scale = walk * widths[:, list(pipeline.config.horizon_points)]
    return [
        score_samples(moves[:, :, index] * scale[:, index, None], outcomes[:, index] * scale[:, index], walk[:, index])
        for index in range(len(pipeline.horizons_minutes))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    settings = AblationSettings.parse(arguments)
    torch.set_num_threads(2)
    pipeline = from_pretrained(settings.model)
    windows = collect(settings, pipeline.config)
    table = Table(
        title=f"{settings.model.name}, {len(windows)} windows of the validation period, {settings.num_samples} samples",
        box=SIMPLE_HEAD,
    )
    table.add_column("variant")
    for minutes in pipeline.horizons_minutes:
        table.add_column(f"skill at {minutes}", justify="right")
    table.add_column("covers 90 %", justify="right")
    rows: dict[str, list[dict[str, float]]] = {}
    for name, sampler in variants(pipeline, settings.num_samples).items():
        parts: list[FloatArray] = []
        for chunk in track(np.array_split(np.arange(len(windows)), -(-len(windows) // _CHUNK)), description=name):
            with torch.no_grad():
                parts.append(sampler(windows.windows.take(chunk), [int(position) for position in chunk]))
        raw = np.concatenate(parts)
        if not rows:
            rows["… raw, without calibration"] = scores(pipeline, windows, raw, calibrated=False)
            rows = {name: scores(pipeline, windows, raw, calibrated=True), **rows}
        else:
            rows[name] = scores(pipeline, windows, raw, calibrated=True)
    for name, row in rows.items():
        covered = " ".join(f"{100 * one['coverage_90']:.0f}" for one in row)
        table.add_row(name, *(f"{100 * one['crps_skill']:+.1f} %" for one in row), covered)
    console = new_console()
    console.print(table)
    error = reconstruction_error(pipeline, windows)
    console.print(f"autoencoder and fusion lose {', '.join(f'{one:.2f}' for one in error)} learned widths of the true move (RMS)")


if __name__ == "__main__":
    main()
