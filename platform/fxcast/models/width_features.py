"""What the width network is told of a window: how far the market moved of late, on several scales, and the clock."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.path import ewma_volatility

_SCALES_BARS = (3, 5, 10, 20, 40, 70, CONTEXT_BARS)
_VOLUME_BARS = (3, 10, 30)
# New York's clock turns the FX day and sets the hour of American news, London's that of European ones; daylight saving begins on
# different days.
_DAY_HARMONICS = {"America/New_York": 10, "Europe/London": 4}
_WEEK_HARMONICS = 3
_GAP_BARS = 20
WIDTH_FEATURES = 4 * len(_SCALES_BARS) + len(_VOLUME_BARS) + 2 + 2 * sum(_DAY_HARMONICS.values()) + 2 * _WEEK_HARMONICS + 2

_TYPICAL_LOG_VOLATILITY = -9.2  # of a minute's log return: a basis point, about that of a major pair


def width_features(windows: WindowBatch, span_bars: int) -> FloatArray:
    """Compute the width network's inputs.

    All but one are scale-free: ratios to the window's EWMA volatility. That one is the volatility itself, of log returns per
    root of a minute, which is comparable between pairs and timeframes: what is far above its usual level tends back to it.

    Args:
        windows: n windows.
        span_bars: Span of the EWMA volatility.

    Returns:
        (n, WIDTH_FEATURES).
    """
    volume = windows.candles[:, :, 4]
    open_, high, low, close = np.moveaxis(np.log(windows.candles[:, :, :4]), 2, 0)  # each (n, CONTEXT_BARS)
    del open_
    volatility = ewma_volatility(windows.candles[:, :, 3], span_bars)  # (n,)
    returns = np.clip(np.diff(close, axis=1, prepend=close[:, :1]) / volatility[:, None], -8.0, 8.0)
    ranges = np.clip((high - low) / volatility[:, None], 0.0, 16.0)
    columns: list[FloatArray] = []
    for bars in _SCALES_BARS:
        columns.append(np.log(np.sqrt((returns[:, -bars:] ** 2).mean(axis=1)) + 0.05))
        columns.append(np.log(ranges[:, -bars:].mean(axis=1) + 0.05))
        columns.append(np.log(np.sqrt((ranges[:, -bars:] ** 2).mean(axis=1)) + 0.05))
        moved = np.abs(close[:, -1] - close[:, -bars]) / (volatility * np.sqrt(bars))
        columns.append(np.log(np.clip(moved, 0.0, 8.0) + 0.2))
    logs = np.log1p(volume)
    columns += [np.clip(logs[:, -bars:].mean(axis=1) - logs.mean(axis=1), -3.0, 3.0) for bars in _VOLUME_BARS]
    minutes = windows.timeframe.minutes
    columns.append(np.clip(np.log(volatility / np.sqrt(minutes)) - _TYPICAL_LOG_VOLATILITY, -3.0, 3.0))
    columns.append(np.full(len(windows), np.log(minutes) / 4.0))
    columns += _clock(windows.closed_at)
    missing = np.diff(windows.open_times, axis=1) / (60.0 * minutes) - 1.0  # (n, CONTEXT_BARS − 1)
    columns += [np.log1p(np.clip(missing[:, -bars:].sum(axis=1), 0.0, None)) for bars in (_GAP_BARS, CONTEXT_BARS)]
    return np.stack(columns, axis=1)  # (n, WIDTH_FEATURES)


def _clock(seconds: NDArray[np.int64]) -> list[FloatArray]:
    moments = pd.to_datetime(seconds, unit="s", utc=True)
    columns: list[FloatArray] = []
    for zone, harmonics in _DAY_HARMONICS.items():
        local = moments.tz_convert(zone)
        day = (local.hour + local.minute / 60.0).to_numpy(dtype=np.float64) / 24.0
        for harmonic in range(1, harmonics + 1):
            columns += _turns(harmonic * day)
    local = moments.tz_convert("America/New_York")
    day = (local.hour + local.minute / 60.0).to_numpy(dtype=np.float64) / 24.0
    week = (local.day_of_week.to_numpy(dtype=np.float64) + day) / 7.0
    for harmonic in range(1, _WEEK_HARMONICS + 1):
        columns += _turns(harmonic * week)
    return columns


def _turns(turns: FloatArray) -> list[FloatArray]:
    return [np.sin(2.0 * np.pi * turns), np.cos(2.0 * np.pi * turns)]
