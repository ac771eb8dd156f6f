"""Fit SSSD: v-prediction on the path itself, averaged weights, early stopping; the budget is that of LDM4TS's denoiser."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from numpy.typing import NDArray
from torch import Tensor

from fxcast.data.windows import window_ends
from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.baselines.sssd import SSSD, KnownWindows, known_of
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.baselines.state_space import StateSpaceDenoiser
from fxcast.models.calibration import fit_calibration
from fxcast.models.path import ewma_volatility, moves_from_closes
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks, DenoiserFit
from fxcast.training.workers import draws_of_step, gather, mean_over_workers, rank, world_size

CHECKPOINT_FILE = "sssd.pt"
_VALIDATION_BATCH = 256
_CALIBRATION_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of a period with what followed, as positions in their series; cut out only when they are taken.

    Attributes:
        series: One a symbol.
        owners: Which of the series, (n,).
        ends: Position of the window's last candle in it, (n,).
    """

    series: tuple[CandleSeries, ...]
    owners: NDArray[np.int64]
    ends: NDArray[np.int64]
    config: SSSDConfig

    def __len__(self) -> int:
        return len(self.ends)

    @classmethod
    def of(cls, series: Sequence[CandleSeries], periods: Sequence[tuple[int, int]], config: SSSDConfig) -> Self:
        """Return every window of a period.

        Args:
            periods: Half-open range of positions in each series; context and future both lie inside.
        """
        ends = [
            window_ends(one, future_bars=config.units.future_bars, start=start, stop=stop)
            for one, (start, stop) in zip(series, periods, strict=True)
        ]
        owners = [np.full(len(own), position, dtype=np.int64) for position, own in enumerate(ends)]
        return cls(series=tuple(series), owners=np.concatenate(owners), ends=np.concatenate(ends), config=config)

    def chosen(self, positions: NDArray[np.int64]) -> Windows:
        """Return some of the windows."""
        return Windows(series=self.series, owners=self.owners[positions], ends=self.ends[positions], config=self.config)

    def evenly(self, count: int) -> Windows:
        """Return at most so many of the windows, evenly over the period."""
        return self.chosen(np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64)))

    def batch(self) -> WindowBatch:
        """Return the windows as a forecaster gets them."""
        candles = np.empty((len(self), CONTEXT_BARS, 5))
        times = np.empty((len(self), CONTEXT_BARS), dtype=np.int64)
        for owner, one in enumerate(self.series):
            rows = np.flatnonzero(self.owners == owner)
            part = WindowBatch.ending_at(one, self.ends[rows])
            candles[rows], times[rows] = part.candles, part.open_times
        return WindowBatch(
            symbols=tuple(self.series[int(owner)].symbol for owner in self.owners),
            timeframe=self.series[0].timeframe,
            candles=candles,
            open_times=times,
        )

    def moves(self) -> FloatArray:
        """Return what followed, in units of volatility·√bars, (n, path_points)."""
        units = self.config.units
        future = np.empty((len(self), units.future_bars))
        for owner, one in enumerate(self.series):
            rows = np.flatnonzero(self.owners == owner)
            future[rows] = one.closes[self.ends[rows][:, None] + np.arange(1, units.future_bars + 1)]
        closes = self.batch().candles[:, :, 3]
        return moves_from_closes(closes[:, -1], future, ewma_volatility(closes, units.volatility_span_bars), units)

    def outcomes(self) -> FloatArray:
        """Return what followed at the horizons, in units of volatility·√bars, (n, horizons)."""
        return self.moves()[:, list(self.config.units.horizon_points)]

    def tensors(self, mirrored: Tensor | None = None) -> tuple[KnownWindows, Tensor]:
        """Return what the network is told, and the path in units of volatility·√bars, clipped, (n, path_points).

        Args:
            mirrored: Windows to take quoted the other way round (1 / price), (n,) bool; rises become falls of the same size.
        """
        batch = self.batch()
        moves = np.clip(self.moves(), -self.config.path_clip, self.config.path_clip)
        if mirrored is not None:
            turned = mirrored.numpy()
            open_, high, low, close, volume = np.moveaxis(batch.candles, 2, 0)
            inverse = np.stack([1.0 / open_, 1.0 / low, 1.0 / high, 1.0 / close, volume], axis=2)
            batch = replace(batch, candles=np.where(turned[:, None, None], inverse, batch.candles))
            moves = np.where(turned[:, None], -moves, moves)
        return known_of(batch, self.config), torch.from_numpy(moves.astype(np.float32))


def fit_sssd(
    sssd: SSSD,
    train: Windows,
    validation: Windows,
    training: TrainingConfig,
    callbacks: Callbacks,
    resume_from: Path | None = None,
) -> DenoiserFit:
    """Fit the network in place; it ends with the best averaged weights.

    Args:
        train: This worker's share of the windows; each is also taken as its mirror image.
        validation: This worker's share of the validation windows.
        resume_from: Folder of a checkpoint of the same run; it then ends as if it had never stopped.
    """
    network, device = sssd.network, sssd.device
    network.requires_grad_(requires_grad=True).train()
    model = callbacks.wrap(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, training))
    average = EMAModel(network.parameters(), decay=training.ema_decay)
    alphas = sssd.scheduler.alphas_cumprod.to(device)
    step, best_step, best_loss, seconds_before = 0, 0, math.inf, 0.0
    best = {name: value.clone() for name, value in network.state_dict().items()}
    if resume_from is not None:
        saved = torch.load(resume_from / CHECKPOINT_FILE, map_location=device, weights_only=True)
        network.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        average.load_state_dict(saved["average"])
        step, best_step, best_loss, best = saved["step"], saved["best_step"], saved["best_loss"], saved["best"]
        seconds_before = saved["seconds"]
    started = time.monotonic() - seconds_before

    def write(folder: Path) -> None:
        torch.save(
            {
                "model": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "average": average.state_dict(),
                "step": step,
                "best_step": best_step,
                "best_loss": best_loss,
                "best": best,
                "seconds": time.monotonic() - started,
            },
            folder / CHECKPOINT_FILE,
        )

    stopped_by = "steps"
    batch = max(1, training.batch_size // world_size())
    losses: list[float] = []
    checked, checked_paths = validation.tensors()
    while step < training.steps:
        if step - best_step >= training.patience * training.evaluate_every_steps:
            stopped_by = "patience"
            break
        draws = draws_of_step(training.seed, step)
        chosen = train.chosen(torch.randint(len(train), (batch,), generator=draws).numpy())
        known, paths = chosen.tensors(torch.rand(batch, generator=draws) < 0.5)
        timesteps = torch.randint(len(alphas), (batch,), generator=draws).to(device)
        noise = torch.randn(paths.shape, generator=draws).to(device)
        noisy, target = velocity(paths.to(device), noise, timesteps, alphas)
        known = known.to(device)
        loss = (model(noisy, timesteps, known.sequence, known.state) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clip)
        optimizer.step()
        schedule.step()
        average.step(network.parameters())
        step += 1
        losses.append(loss.item())
        callbacks.progress("sssd", step, training.steps)
        if step % training.evaluate_every_steps and step < training.steps:
            continue
        average.store(network.parameters())
        average.copy_to(network.parameters())
        validation_loss = mean_over_workers(_validation_loss(network, checked, checked_paths, alphas))
        if validation_loss < best_loss:
            best_loss, best_step = validation_loss, step
            best = {name: value.clone() for name, value in network.state_dict().items()}
        average.restore(network.parameters())
        train_loss = mean_over_workers(sum(losses) / len(losses))
        losses.clear()
        reached = {"step": step, "train_loss": train_loss, "validation_loss": validation_loss, "best_loss": best_loss}
        callbacks.checkpoint({"stage": "sssd", **reached}, write)
        if step < training.steps and mean_over_workers(time.monotonic() - started) > training.max_seconds:
            stopped_by = "time"
            break
    network.load_state_dict(best)
    network.requires_grad_(requires_grad=False).eval()
    return DenoiserFit(best_loss=best_loss, best_step=best_step, steps=step, stopped_by=stopped_by)


def calibrate_sssd(sssd: SSSD, validation: Windows, training: TrainingConfig, callbacks: Callbacks, fitted_on: str) -> SSSD:
    """Return it with the calibration of its raw samples on the validation period; the same on every worker.

    Args:
        validation: All validation windows; each worker samples its share.
        fitted_on: The period in words.
    """
    chosen = validation.evenly(training.calibration_windows)
    chosen = chosen.chosen(np.argsort(chosen.batch().closed_at, kind="stable"))  # the calibration wants them in time order
    mine = np.arange(rank(), len(chosen), world_size())
    parts: list[FloatArray] = []
    for rows in np.array_split(mine, range(_CALIBRATION_BATCH, len(mine), _CALIBRATION_BATCH)):
        own = chosen.chosen(rows).batch()
        parts.append(sssd.sample_moves(own, num_samples=training.calibration_samples, seeds=[int(row) for row in rows]))
        callbacks.progress("calibration", min((int(rows[-1]) + world_size()), len(chosen)), len(chosen))
    moves = np.empty((len(chosen), training.calibration_samples, len(sssd.horizons_minutes)))
    for rows, drawn in gather((mine, np.concatenate(parts))):
        moves[rows] = drawn
    return replace(sssd, calibration=fit_calibration(moves, chosen.outcomes(), sssd.horizons_minutes, fitted_on))


def velocity(clean: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """Return (noisy paths, v = √ᾱ·noise − √(1−ᾱ)·clean), each (n, path_points). Source: Salimans & Ho 2022, arXiv:2202.00512."""
    alpha = alphas_cumprod[timesteps].sqrt()[:, None]
    sigma = (1.0 - alphas_cumprod[timesteps]).sqrt()[:, None]
    return alpha * clean + sigma * noise, alpha * noise - sigma * clean


def _rate(step: int, training: TrainingConfig) -> float:
    if step < training.warm_up_steps:
        return (step + 1) / (training.warm_up_steps + 1)
    done = (step - training.warm_up_steps) / max(1, training.steps - training.warm_up_steps)
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def _validation_loss(network: StateSpaceDenoiser, known: KnownWindows, paths: Tensor, alphas: Tensor) -> float:
    """Return the loss with the same noise and timesteps at every validation."""
    network.eval()
    fixed = torch.Generator().manual_seed(0)
    noise = torch.randn(paths.shape, generator=fixed)
    timesteps = torch.randint(len(alphas), (len(paths),), generator=fixed)
    total = 0.0
    for rows in torch.arange(len(paths)).split(_VALIDATION_BATCH):
        part = KnownWindows(known.sequence[rows], known.state[rows]).to(alphas.device)
        at = timesteps[rows].to(alphas.device)
        noisy, target = velocity(paths[rows].to(alphas.device), noise[rows].to(alphas.device), at, alphas)
        predicted = network(noisy, at, part.sequence, part.state)
        total += float((predicted - target).square().mean()) * len(rows)
    network.train()
    return total / len(paths)
