"""How good the denoiser is by now: its loss on fixed noise, and the worth of its samples on a few fixed windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fxcast.domain.candle import FloatArray
from fxcast.models.autoencoder import decode
from fxcast.models.calibration import fit_calibration
from fxcast.models.denoiser import ConditionedDenoiser
from fxcast.models.path import moves_at_horizons
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.sampler import sample_latents, seeded_noise
from fxcast.training.config import TrainingConfig
from fxcast.training.latents import LatentWindows
from fxcast.training.scores import score_samples
from fxcast.training.velocity import velocity
from fxcast.training.workers import gather, rank, world_size
from fxcast.vision.segmentation import unfold

_LEAST_SCORED = 20  # fewer windows can't be split into a half to fit on and a half to score
_CHUNK = 8  # windows sampled at a time
LOSS, CRPS_RATIO = "validation_loss", "validation_crps_ratio"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSet:
    """The fixed windows, the same on every worker: in time order, in full precision, on the pipeline's device."""

    windows: LatentWindows
    scored: Tensor  # positions of those that are forecast

    @classmethod
    def of(cls, windows: LatentWindows, training: TrainingConfig) -> ValidationSet:
        """Choose the windows that are forecast, evenly over all."""
        count = min(training.scored_windows, len(windows))
        positions = np.unique(np.linspace(0, len(windows) - 1, count).astype(np.int64))
        if len(positions) < _LEAST_SCORED:
            positions = positions[:0]
        return cls(windows=windows, scored=torch.from_numpy(positions))


@torch.no_grad()
def validate(
    pipeline: LDM4TSPipeline, module: ConditionedDenoiser, validation: ValidationSet, training: TrainingConfig, batch: int
) -> Mapping[str, float]:
    """Measure the module on the validation windows, shared out over the workers; each gets all of the numbers.

    Returns:
        `validation_loss`, and if windows are scored `validation_crps_ratio` (mean over the horizons of CRPS over that of the random
        walk), the means of the other scores, and `crps_skill_<minutes>` of each horizon.
    """
    module.eval()
    metrics = {LOSS: _loss(pipeline, module, validation.windows, batch)}
    if len(validation.scored):
        metrics |= _scores(pipeline, module, validation, training)
    module.train()
    return metrics


def _loss(pipeline: LDM4TSPipeline, module: ConditionedDenoiser, windows: LatentWindows, batch: int) -> float:
    """Return the loss with the same noise and timesteps at every validation, whatever the number of workers.

    Every timestep counts the same, however the training weights them, so that runs with other weights compare.
    """
    alphas = pipeline.scheduler.alphas_cumprod.to(pipeline.device)
    fixed = torch.Generator().manual_seed(0)
    noise = torch.randn(windows.future.shape, generator=fixed)
    timesteps = torch.randint(len(alphas), (len(windows),), generator=fixed)
    total = 0.0
    for positions in torch.arange(rank(), len(windows), world_size()).split(batch):
        chosen, when = windows.take(positions), timesteps[positions].to(pipeline.device)
        noisy, target = velocity(chosen.future, noise[positions].to(pipeline.device), when, alphas)
        predicted = module(noisy.contiguous(memory_format=torch.channels_last), when, chosen.past, chosen.features)
        total += float((predicted - target).square().mean()) * len(positions)
    return sum(gather(total)) / len(windows)


def _scores(
    pipeline: LDM4TSPipeline, module: ConditionedDenoiser, validation: ValidationSet, training: TrainingConfig
) -> dict[str, float]:
    mine = validation.scored[rank() :: world_size()]
    shares = gather((mine.numpy(), _moves(pipeline, module, validation.windows, mine, training.scored_samples)))
    order = np.argsort(np.concatenate([positions for positions, _ in shares]))
    moves = np.concatenate([sampled for _, sampled in shares])[order]  # (scored, samples, horizons)
    chosen = validation.windows.take(validation.scored)
    outcomes = chosen.outcomes.cpu().numpy().astype(np.float64)  # (scored, horizons)
    calibrated = calibrated_across_halves(moves, outcomes, pipeline.horizons_minutes)
    walk_std = 1.0 / chosen.widths.cpu().numpy().astype(np.float64)  # (scored, horizons): in units of the learned width
    # In units of the log price, so that a window counts by how far it moved, as it does in pips.
    scale = chosen.volatility.cpu().numpy().astype(np.float64)[:, None] / walk_std  # (scored, horizons)
    by_horizon = {
        minutes: score_samples(
            calibrated[:, :, index] * scale[:, index, None], outcomes[:, index] * scale[:, index], (walk_std * scale)[:, index]
        )
        for index, minutes in enumerate(pipeline.horizons_minutes)
    }
    means = {name: float(np.mean([scores[name] for scores in by_horizon.values()])) for name in next(iter(by_horizon.values()))}
    skills = {f"crps_skill_{minutes}": scores["crps_skill"] for minutes, scores in by_horizon.items()}
    return {CRPS_RATIO: 1.0 - means["crps_skill"], **means, **skills}


def calibrated_across_halves(moves: FloatArray, outcomes: FloatArray, horizons_minutes: tuple[int, ...]) -> FloatArray:
    """Calibrate each half of the windows by what the other half says, as the finished model is calibrated on other windows.

    Few-step samples are too narrow, and by how much changes as training goes on: raw, their score would say which weights are
    widest. Fitted on what it is scored on, it would flatter them.

    Args:
        moves: Raw standardised moves, (n, samples, horizons), in time order.
        outcomes: (n, horizons), in the same units.
    """
    middle = len(moves) // 2
    first, second = slice(0, middle), slice(middle, None)
    by_second, by_first = (
        fit_calibration(moves[half], outcomes[half], horizons_minutes, "half of the validation windows") for half in (second, first)
    )
    return np.concatenate([by_second.apply(moves[first]), by_first.apply(moves[second])])


def _moves(
    pipeline: LDM4TSPipeline, module: ConditionedDenoiser, windows: LatentWindows, positions: Tensor, samples: int
) -> FloatArray:
    """Sample raw moves at the horizons, (positions, samples, horizons), read from SEG alone: no fusion is trained yet."""
    config, parts = pipeline.config, [np.empty((0, samples, len(pipeline.config.horizons_minutes)))]
    for chunk in positions.split(_CHUNK):
        chosen = windows.take(chunk)
        noise = seeded_noise(chosen.past.shape[1:], samples, chunk.tolist()).to(pipeline.device)
        latents = sample_latents(
            module.unet,
            pipeline.scheduler,
            chosen.past.repeat_interleave(samples, dim=0),
            module.conditioner(chosen.features).repeat(samples),
            noise,
            config.sampler_steps,
        )  # (chunk · samples, latent_channels, s, s)
        charts = decode(pipeline.vae, latents)  # (chunk · samples, 3, S, S)
        periods = torch.full((len(charts),), config.path_side, dtype=torch.int64, device=charts.device)
        paths = unfold(charts[:, 0], periods, config.path_points).clamp(-1.0, 1.0)  # (chunk · samples, path_points)
        parts.append(moves_at_horizons(paths.unflatten(0, (len(chunk), samples)).cpu().numpy().astype(np.float64), config))
    return np.concatenate(parts)
