"""Forecasts as they would have been with online calibration: each by the outcomes that were known when it was made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fxcast.domain.candle import FloatArray
from fxcast.evaluation.assess import Samples, Windows
from fxcast.models.online_calibration import calibrated_in_turn

ONLINE = "+online"  # what its name gets


def calibrated_online(windows: Windows, samples: Samples) -> Samples:
    """Calibrate a forecaster's samples in turn, every horizon by its own outcomes; it begins without having seen any.

    A window whose outcome lies after the series' end is calibrated too; it teaches nothing.
    """
    closes = windows.series.closes
    moves = np.empty_like(samples.moves)
    for index, minutes in enumerate(windows.horizons_minutes):
        reached = windows.ends + windows.series.timeframe.bars(minutes)
        outcomes: FloatArray = np.log(closes[np.minimum(reached, len(closes) - 1)] / closes[windows.ends])
        known_from = np.searchsorted(windows.ends, reached)
        moves[:, :, index] = calibrated_in_turn(samples.moves[:, :, index].astype(np.float64), outcomes, known_from)
    return replace(samples, name=samples.name + ONLINE, moves=moves, is_random_walk=False)
