"""What samples are worth against the random walk, in the loop: means over windows, for curves and for early stopping.

What a model is worth is measured later, by `fxcast.evaluation` on a period that training has not seen, with intervals.
"""

from __future__ import annotations

import numpy as np
import scoringrules

from fxcast.domain.candle import FloatArray

_PIT_BINS = 10


def score_samples(samples: FloatArray, outcomes: FloatArray, walk_std: FloatArray, *, seed: int = 0) -> dict[str, float]:
    """Score the samples of one horizon.

    Args:
        samples: Log moves, (n, m), m of two or more.
        outcomes: What the log price did, (n,).
        walk_std: Standard deviation that a driftless random walk with EWMA width gives it, (n,).
        seed: Of the randomised PIT.

    Returns:
        `crps_skill` (1 − CRPS / CRPS of the random walk; fair CRPS), `mse_ratio` and `mae_ratio` to the last price, `direction`
        (share of windows that moved whose mean has the right sign; 0.5 if none has one), `coverage_90`, `pit_index`.
    """
    crps = float(np.asarray(scoringrules.crps_ensemble(outcomes, samples, estimator="pwm"), dtype=np.float64).mean())
    walk = float(np.asarray(scoringrules.crps_normal(outcomes, np.zeros_like(outcomes), walk_std), dtype=np.float64).mean())
    q05, median, q95 = np.quantile(samples, (0.05, 0.5, 0.95), axis=1, method="weibull")
    mean = samples.mean(axis=1)
    # A mean that is held at the last price says nothing; rounding leaves it a little off zero.
    said = (np.abs(mean) > 1e-6 * walk_std) & (outcomes != 0)
    return {
        "crps_skill": 1.0 - crps / walk,
        "mse_ratio": float(((outcomes - mean) ** 2).mean() / np.maximum((outcomes**2).mean(), 1e-300)),
        "mae_ratio": float(np.abs(outcomes - median).mean() / np.maximum(np.abs(outcomes).mean(), 1e-300)),
        "direction": float(((mean > 0) == (outcomes > 0))[said].mean()) if said.any() else 0.5,
        "coverage_90": float(((q05 <= outcomes) & (outcomes <= q95)).mean()),
        "pit_index": _pit_index(samples, outcomes, seed),
    }


def _pit_index(samples: FloatArray, outcomes: FloatArray, seed: int) -> float:
    """Return 1 − ½·Σ|f_i − 0.1| of the randomised PIT; DESIGN.md section 4."""
    below, equal = (samples < outcomes[:, None]).sum(axis=1), (samples == outcomes[:, None]).sum(axis=1)
    drawn = np.random.default_rng(seed).random(len(outcomes))
    pit = (below + drawn * (equal + 1)) / (samples.shape[1] + 1)
    shares = np.histogram(pit, bins=_PIT_BINS, range=(0.0, 1.0))[0] / len(pit)
    return 1.0 - 0.5 * float(np.abs(shares - 1.0 / _PIT_BINS).sum())
