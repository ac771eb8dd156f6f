"""Fit the width network, before anything that works in its units."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fxcast.models.config import LDM4TSConfig
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.symbols import forget_some, symbol_numbers
from fxcast.models.width import WidthNetwork
from fxcast.models.width_features import width_features
from fxcast.training.charts import WindowArrays
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks
from fxcast.training.workers import draws_of_step, gather, rank

_BATCH = 512
_PEAK_RATE, _WEIGHT_DECAY, _EMA_DECAY = 2e-3, 0.05, 0.995
_VALIDATE_EVERY = 100
# Degrees of freedom of the likelihood: returns divided by a good width still have fat tails, and one spike must not rule.
_FREEDOM = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthFit:
    """The step whose weights were kept (0: the first ones), and their gain in validation CRPS over the random walk's width."""

    step: int
    skill: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examples:
    features: Tensor  # (n, WIDTH_FEATURES)
    symbols: Tensor  # (n,)
    moves: Tensor  # (n, path_points)
    weights: Tensor  # (n,), volatility over its mean

    def __len__(self) -> int:
        return len(self.features)


def fit_width(
    pipeline: LDM4TSPipeline,
    train: WindowArrays,
    validation: WindowArrays,
    training: TrainingConfig,
    callbacks: Callbacks,
    *,
    also_train: Sequence[WindowArrays] = (),
    is_trained: bool = False,
) -> WidthFit:
    """Fit the pipeline's width network in place, with a Student-t likelihood; early stopping on the CRPS of validation.

    It has some ten thousand weights, so the first worker fits it alone, and the others take it over.

    Args:
        train: All training windows of the main timeframe, moves in units of volatility·√bars.
        validation: All its validation windows, likewise.
        also_train: Training windows of other timeframes, likewise, each part of one.
        is_trained: The network has learned already: it goes on from there, in its own units.
    """
    fitted: tuple[dict[str, Tensor], WidthFit] | None = None
    if rank() == 0:
        fitted = _fit(pipeline, [train, *also_train], validation, training, callbacks, is_trained=is_trained)
    state, fit = next(each for each in gather(fitted) if each is not None)
    pipeline.width.load_state_dict(state)
    return fit


def _fit(
    pipeline: LDM4TSPipeline,
    train: Sequence[WindowArrays],
    validation: WindowArrays,
    training: TrainingConfig,
    callbacks: Callbacks,
    *,
    is_trained: bool,
) -> tuple[dict[str, Tensor], WidthFit]:
    network = copy.deepcopy(pipeline.width).cpu()
    seen, checked = (_examples(parts, pipeline.config) for parts in (train, [validation]))
    points = [2**knot - 1 for knot in range(int(math.log2(pipeline.config.path_points)) + 1)]
    if not is_trained:
        network.centre.copy_(seen.features.mean(dim=0))
        network.scale.copy_(seen.features.std(dim=0).clamp_min(1e-3))
    network.requires_grad_(requires_grad=True)
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_PEAK_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=max(training.width_steps, 2))
    walk = _crps(None, checked, points)
    best, best_step, best_state = _crps(average, checked, points), 0, copy.deepcopy(average.state_dict())
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global numbers
        torch.manual_seed(training.seed)
        for step in range(1, training.width_steps + 1):
            draws = draws_of_step(training.seed, step)
            chosen = torch.randint(len(seen), (_BATCH,), generator=draws)
            symbols = forget_some(seen.symbols[chosen], training.forgotten_symbols, draws)
            widths = network.train()(seen.features[chosen], symbols)[:, points]
            loss = _negative_log_likelihood(seen.moves[chosen][:, points], widths)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clip)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for kept, now in zip(average.parameters(), network.parameters(), strict=True):
                    kept.lerp_(now, 1.0 - min(_EMA_DECAY, step / (step + 10.0)))
            callbacks.progress("width network", step, training.width_steps)
            if step % _VALIDATE_EVERY and step < training.width_steps:
                continue
            score = _crps(average, checked, points)
            if score < best:
                best, best_step, best_state = score, step, copy.deepcopy(average.state_dict())
            elif step - best_step >= training.width_patience * _VALIDATE_EVERY:
                callbacks.progress("width network", training.width_steps, training.width_steps)
                break
    return best_state, WidthFit(step=best_step, skill=1.0 - best / walk)


def _examples(parts: Sequence[WindowArrays], config: LDM4TSConfig) -> _Examples:
    features = np.concatenate([width_features(part.windows, config.volatility_span_bars) for part in parts])
    volatility = np.concatenate([part.volatility for part in parts])
    return _Examples(
        features=torch.from_numpy(features.astype(np.float32)),
        symbols=torch.cat([symbol_numbers(part.windows.symbols, config.symbols) for part in parts]),
        moves=torch.from_numpy(np.concatenate([part.moves for part in parts]).astype(np.float32)),
        weights=torch.from_numpy((volatility / volatility.mean()).astype(np.float32)),
    )


def _negative_log_likelihood(moves: Tensor, log_widths: Tensor) -> Tensor:
    standardised = moves * torch.exp(-log_widths)
    return (log_widths + 0.5 * (_FREEDOM + 1.0) * torch.log1p(standardised.square() / _FREEDOM)).mean()


@torch.no_grad()
def _crps(network: WidthNetwork | None, examples: _Examples, points: list[int]) -> float:
    """Return the mean CRPS of normal laws of these widths (None: of the random walk's), each times the constant that suits best.

    Weighted by volatility, as a score in price is. The constant is calibration's business, not the network's.
    """
    if network is None:
        log_widths = torch.zeros(len(examples), len(points))
    else:
        log_widths = network.eval()(examples.features, examples.symbols)[:, points]
    scores = [
        (_normal_crps(examples.moves[:, points], log_widths + math.log(factor)) * examples.weights[:, None]).mean(dim=0)
        for factor in np.arange(0.7, 1.41, 0.05)
    ]
    return float(torch.stack(scores).amin(dim=0).mean())


def _normal_crps(moves: Tensor, log_widths: Tensor) -> Tensor:
    """Source: Gneiting & Raftery 2007, doi:10.1198/016214506000001437."""
    standardised = moves * torch.exp(-log_widths)
    density = torch.exp(-0.5 * standardised.square()) / math.sqrt(2.0 * math.pi)
    tail = standardised * (2.0 * torch.special.ndtr(standardised) - 1.0)
    return torch.exp(log_widths) * (tail + 2.0 * density - 1.0 / math.sqrt(math.pi))
