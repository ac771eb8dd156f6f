"""Windows of candle series as arrays to train on: contexts, futures, and their charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxcast.data.windows import window_ends
from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.config import LDM4TSConfig
from fxcast.models.path import ewma_volatility, moves_from_closes, path_from_moves
from fxcast.vision.encoder import TimeSeriesVisionEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowArrays:
    """Windows with the future that followed them.

    Attributes:
        windows: What was known.
        moves: The future's moves at the points of the path, in units of volatility·√bars, or of that times the width network's
            width, (n, path_points).
        paths: The same, clipped and mapped to [−1, 1].
        volatility: Per bar, known at the window's end, (n,).
    """

    windows: WindowBatch
    moves: FloatArray
    paths: FloatArray
    volatility: FloatArray

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, positions: NDArray[np.int64]) -> WindowArrays:
        """Return some of the windows."""
        return WindowArrays(
            windows=self.windows.take(positions),
            moves=self.moves[positions],
            paths=self.paths[positions],
            volatility=self.volatility[positions],
        )

    def mirrored(self) -> WindowArrays:
        """Return the same market quoted the other way round (1 / price): rises become falls of the same size."""
        open_, high, low, close, volume = np.moveaxis(self.windows.candles, 2, 0)
        candles = np.stack([1.0 / open_, 1.0 / low, 1.0 / high, 1.0 / close, volume], axis=2)
        windows = replace(self.windows, candles=candles)
        return WindowArrays(windows=windows, moves=-self.moves, paths=-self.paths, volatility=self.volatility)

    def divided(self, widths: FloatArray, config: LDM4TSConfig) -> WindowArrays:
        """Return the same with the moves in units of widths, (n, path_points), too."""
        moves = self.moves / widths
        return replace(self, moves=moves, paths=path_from_moves(moves, config))


def windows_of(series: CandleSeries, config: LDM4TSConfig, start: int = 0, stop: int | None = None) -> WindowArrays:
    """Cut every window of a period, context and future both inside [start, stop) of the series."""
    return windows_ending_at(series, window_ends(series, future_bars=config.future_bars, start=start, stop=stop), config)


def windows_ending_at(series: CandleSeries, ends: NDArray[np.int64], config: LDM4TSConfig) -> WindowArrays:
    """Cut the windows whose last known candles are at positions, as `window_ends` gives them; about 5 kB each."""
    windows = WindowBatch.ending_at(series, ends)
    future = ends[:, None] + np.arange(1, config.future_bars + 1)  # (n, future_bars)
    volatility = ewma_volatility(windows.candles[:, :, 3], config.volatility_span_bars)
    moves = moves_from_closes(windows.prices, series.closes[future], volatility, config)
    return WindowArrays(windows=windows, moves=moves, paths=path_from_moves(moves, config), volatility=volatility)


def evenly(ends: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most `count` of some positions, evenly over all."""
    return ends[np.unique(np.linspace(0, len(ends) - 1, min(count, len(ends))).astype(np.int64))]


def join(parts: Sequence[WindowArrays]) -> WindowArrays:
    """Return the windows of several series of one timeframe one after the other."""
    if len({part.windows.timeframe for part in parts}) > 1:
        raise ValueError("windows of several timeframes can't be one batch")
    return WindowArrays(
        windows=WindowBatch(
            symbols=tuple(symbol for part in parts for symbol in part.windows.symbols),
            timeframe=parts[0].windows.timeframe,
            candles=np.concatenate([part.windows.candles for part in parts]),
            open_times=np.concatenate([part.windows.open_times for part in parts]),
        ),
        moves=np.concatenate([part.moves for part in parts]),
        paths=np.concatenate([part.paths for part in parts]),
        volatility=np.concatenate([part.volatility for part in parts]),
    )


def past_charts(encoder: TimeSeriesVisionEncoder, windows: WindowArrays) -> Tensor:
    """Return the charts of the contexts, (n, 3, S, S)."""
    return encoder(torch.from_numpy(windows.windows.candles))


def future_charts(encoder: TimeSeriesVisionEncoder, windows: WindowArrays, config: LDM4TSConfig) -> Tensor:
    """Return the charts of the futures, (n, 3, S, S)."""
    return path_charts(encoder, torch.from_numpy(windows.paths.astype(np.float32)), config)


def path_charts(encoder: TimeSeriesVisionEncoder, paths: Tensor, config: LDM4TSConfig) -> Tensor:
    """Draw future paths in [−1, 1], (n, path_points), as charts, (n, 3, S, S)."""
    periods = torch.full((len(paths),), config.path_side, dtype=torch.int64)
    return encoder.chart(paths, periods)
