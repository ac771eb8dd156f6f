"""What the model is told of a window besides its image: scale-free candles, their spectrum, the time, and a sentence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import WindowBatch
from fxcast.models.config import LDM4TSConfig
from fxcast.models.path import ewma_volatility
from fxcast.models.symbols import symbol_numbers
from fxcast.models.text import SENTENCE_INDEX, describe

CANDLE_FEATURES = 5
SPECTRUM_FEATURES = 2 * (CONTEXT_BARS // 2 + 1)
STATE_FEATURES = 13


class ConditionFeatures(NamedTuple):
    """Inputs of the conditioner, from one window each: `candles` (batch, CONTEXT_BARS, CANDLE_FEATURES), `spectrum`
    (batch, SPECTRUM_FEATURES), `state` (batch, STATE_FEATURES), `sentence` (batch,) int64 index into SENTENCES, `symbol` (batch,)
    int64 as `symbol_numbers` gives them."""

    candles: Tensor
    spectrum: Tensor
    state: Tensor
    sentence: Tensor
    symbol: Tensor

    def take(self, positions: Tensor) -> ConditionFeatures:
        """Return some of the windows."""
        return ConditionFeatures(*(part[positions] for part in self))

    def to(self, device: torch.device) -> ConditionFeatures:
        """Return the same on a device."""
        return ConditionFeatures(*(part.to(device) for part in self))


def condition_features(windows: WindowBatch, config: LDM4TSConfig) -> ConditionFeatures:
    """Compute the conditioner's inputs; a batch is the number of windows."""
    candles, closed_at = windows.candles, windows.closed_at
    open_, high, low, close = np.moveaxis(np.log(candles[:, :, :4]), 2, 0)  # each (batch, CONTEXT_BARS)
    volatility = ewma_volatility(candles[:, :, 3], config.volatility_span_bars)
    sigma = volatility[:, None]
    returns = np.clip(np.diff(close, axis=1, prepend=close[:, :1]) / sigma, -8.0, 8.0)  # (batch, CONTEXT_BARS)
    by_candle = np.stack(
        [
            returns,
            np.clip((high - low) / sigma, 0.0, 12.0),
            np.clip((close - open_) / sigma, -8.0, 8.0),
            np.clip((close - close[:, -1:]) / (sigma * np.sqrt(CONTEXT_BARS)), -4.0, 4.0),
            _standardized_volume(candles[:, :, 4]),
        ],
        axis=2,
    )  # (batch, CONTEXT_BARS, CANDLE_FEATURES)
    sizes = np.abs(returns)
    spectrum = np.concatenate(
        [np.log1p(np.abs(np.fft.rfft(series, axis=1))) for series in (returns, sizes - sizes.mean(axis=1, keepdims=True))], axis=1
    )  # (batch, SPECTRUM_FEATURES)
    recent = [np.sqrt((returns[:, -bars:] ** 2).mean(axis=1)) for bars in (5, 20, CONTEXT_BARS)]
    state = np.concatenate([_clock(closed_at), np.log(np.stack(recent, axis=1) + 1e-3)], axis=1)  # (batch, STATE_FEATURES − 2)
    range_ratio = np.log(np.clip(((high - low) / sigma)[:, -20:].mean(axis=1), 1e-3, None))
    length = np.full((len(windows), 1), np.log(windows.timeframe.minutes) / 4.0)
    state = np.concatenate([state, range_ratio[:, None], length], axis=1)  # (batch, STATE_FEATURES)
    sentences = describe(candles[:, :, 3], closed_at, config.volatility_span_bars)
    return ConditionFeatures(
        candles=_float_tensor(by_candle),
        spectrum=_float_tensor(spectrum),
        state=_float_tensor(state),
        sentence=torch.tensor([SENTENCE_INDEX[sentence] for sentence in sentences], dtype=torch.int64),
        symbol=symbol_numbers(windows.symbols, config.symbols),
    )


def _float_tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _standardized_volume(volume: FloatArray) -> FloatArray:
    """Return the log volume in standard deviations of its own window; zeros where the volume never changes."""
    logs = np.log1p(volume)
    changes = np.ptp(logs, axis=1, keepdims=True) > 0  # not the deviation: rounding of the mean leaves it above zero
    centred = logs - logs.mean(axis=1, keepdims=True)
    return np.clip(np.where(changes, centred / np.where(changes, logs.std(axis=1, keepdims=True), 1.0), 0.0), -4.0, 4.0)


def _clock(seconds: NDArray[np.int64]) -> FloatArray:
    """Return time of day (three harmonics) and of the week (one) in New York, whose 17:00 turns the FX day, (batch, 8)."""
    local = pd.to_datetime(seconds, unit="s", utc=True).tz_convert("America/New_York")
    day = (local.hour + local.minute / 60.0).to_numpy(dtype=np.float64) / 24.0
    week = (local.day_of_week.to_numpy(dtype=np.float64) + day) / 7.0
    turns = np.stack([day, 2 * day, 3 * day, week], axis=1) * 2 * np.pi
    return np.concatenate([np.sin(turns), np.cos(turns)], axis=1)
