"""Windows of candle series as arrays to train on: contexts, futures, and their charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxcast.data.windows import window_ends
from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.models.config import LDM4TSConfig
from fxcast.models.path import ewma_volatility, path_from_closes
from fxcast.vision.encoder import TimeSeriesVisionEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowArrays:
    """Windows with the future that followed them.

    Attributes:
        candles: (n, CONTEXT_BARS, 5) float64.
        open_times: (n, CONTEXT_BARS) int64, seconds since 1970 UTC.
        paths: The future in [−1, 1], (n, path_points).
        volatility: Per bar, known at the window's end, (n,).
    """

    candles: FloatArray
    open_times: NDArray[np.int64]
    paths: FloatArray
    volatility: FloatArray

    def __len__(self) -> int:
        return len(self.candles)

    def take(self, positions: NDArray[np.int64]) -> WindowArrays:
        """Return some of the windows."""
        return WindowArrays(
            candles=self.candles[positions],
            open_times=self.open_times[positions],
            paths=self.paths[positions],
            volatility=self.volatility[positions],
        )

    def mirrored(self) -> WindowArrays:
        """Return the same market quoted the other way round (1 / price): rises become falls of the same size."""
        open_, high, low, close, volume = np.moveaxis(self.candles, 2, 0)
        candles = np.stack([1.0 / open_, 1.0 / low, 1.0 / high, 1.0 / close, volume], axis=2)
        return WindowArrays(candles=candles, open_times=self.open_times, paths=-self.paths, volatility=self.volatility)


def windows_of(series: CandleSeries, config: LDM4TSConfig, start: int = 0, stop: int | None = None) -> WindowArrays:
    """Cut every window of a period, context and future both inside [start, stop) of the series."""
    ends = window_ends(series, future_bars=config.future_bars, start=start, stop=stop)
    context = ends[:, None] + np.arange(1 - CONTEXT_BARS, 1)  # (n, CONTEXT_BARS)
    future = ends[:, None] + np.arange(1, config.future_bars + 1)  # (n, future_bars)
    candles = series.values[context]  # (n, CONTEXT_BARS, 5)
    volatility = ewma_volatility(candles[:, :, 3], config.volatility_span_bars)
    paths = path_from_closes(candles[:, -1, 3], series.closes[future], volatility, config)
    open_times = series.open_times.astype(np.int64)[context]  # (n, CONTEXT_BARS)
    return WindowArrays(candles=candles, open_times=open_times, paths=paths, volatility=volatility)


def join(parts: Sequence[WindowArrays]) -> WindowArrays:
    """Return the windows of several series one after the other."""
    return WindowArrays(
        candles=np.concatenate([part.candles for part in parts]),
        open_times=np.concatenate([part.open_times for part in parts]),
        paths=np.concatenate([part.paths for part in parts]),
        volatility=np.concatenate([part.volatility for part in parts]),
    )


def past_charts(encoder: TimeSeriesVisionEncoder, windows: WindowArrays) -> Tensor:
    """Return the charts of the contexts, (n, 3, S, S)."""
    return encoder(torch.from_numpy(windows.candles))


def future_charts(encoder: TimeSeriesVisionEncoder, windows: WindowArrays, config: LDM4TSConfig) -> Tensor:
    """Return the charts of the futures, (n, 3, S, S)."""
    return path_charts(encoder, torch.from_numpy(windows.paths.astype(np.float32)), config)


def path_charts(encoder: TimeSeriesVisionEncoder, paths: Tensor, config: LDM4TSConfig) -> Tensor:
    """Draw future paths in [−1, 1], (n, path_points), as charts, (n, 3, S, S)."""
    periods = torch.full((len(paths),), config.path_side, dtype=torch.int64)
    return encoder.chart(paths, periods)
