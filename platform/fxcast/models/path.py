"""The future path in units of its own expected size, and back to prices."""

from __future__ import annotations

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.models.config import LDM4TSConfig

# A window of identical closes has no volatility; a ten-thousandth of a pip per bar keeps the units finite.
VOLATILITY_FLOOR = 1e-8


def ewma_volatility(closes: FloatArray, span_bars: int) -> FloatArray:
    """Return the volatility of log returns per bar at each window's end, from that window alone.

    Args:
        closes: (batch, length), prices.

    Returns:
        (batch,), at least `VOLATILITY_FLOOR`.
    """
    squares: FloatArray = np.diff(np.log(closes), axis=1) ** 2  # (batch, length − 1)
    weights = (1.0 - 2.0 / (span_bars + 1.0)) ** np.arange(squares.shape[1] - 1, -1, -1)
    # Not a matrix product: BLAS rounds otherwise alone than in a batch.
    return np.maximum(np.sqrt((squares * weights).sum(axis=1) / weights.sum()), VOLATILITY_FLOOR)


def path_bars(config: LDM4TSConfig) -> FloatArray:
    """Return where the points of the path lie, in bars after the window, (path_points,); fractions on 1m candles."""
    return np.arange(1, config.path_points + 1, dtype=np.float64) * (config.future_bars / config.path_points)


def moves_from_closes(
    last_close: FloatArray, future_closes: FloatArray, volatility: FloatArray, config: LDM4TSConfig
) -> FloatArray:
    """Return the future's moves from the last close at the points of the path, in units of volatility·√bars.

    Args:
        last_close: (batch,).
        future_closes: (batch, future_bars).
        volatility: (batch,), per bar.

    Returns:
        (batch, path_points); between bars the log price is taken along a straight line.
    """
    moves = np.log(future_closes / last_close[:, None])  # (batch, future_bars)
    moves = np.concatenate([np.zeros((len(moves), 1)), moves], axis=1)  # (batch, future_bars + 1)
    bars = path_bars(config)
    before = np.minimum(bars.astype(np.int64), config.future_bars - 1)
    share = bars - before
    at_points = moves[:, before] * (1.0 - share) + moves[:, before + 1] * share  # (batch, path_points)
    return at_points / (volatility[:, None] * np.sqrt(bars))


def path_from_moves(moves: FloatArray, config: LDM4TSConfig) -> FloatArray:
    """Return standardised moves clipped and mapped to [−1, 1]; any shape."""
    return np.clip(moves, -config.path_clip, config.path_clip) / config.path_clip


def moves_at_horizons(paths: FloatArray, config: LDM4TSConfig) -> FloatArray:
    """Return standardised moves (units of volatility·√bars) at the horizons.

    Args:
        paths: (..., path_points), in [−1, 1].

    Returns:
        (..., horizons).
    """
    return paths[..., list(config.horizon_points)] * config.path_clip
