"""Fit a symbol's regimes on what was known at a moment."""

from __future__ import annotations

from datetime import datetime

from fxcast.data.windows import known_at
from fxcast.domain.candle import CandleSeries
from fxcast.signals.regime import MIN_FIT_CANDLES, RegimeModel, fit_regimes

REGIME_BARS = 2_000  # candles that regimes are fitted on, at most


def regimes_known_at(series: CandleSeries, at: datetime) -> RegimeModel | None:
    """Fit on the last `REGIME_BARS` candles that have closed at a moment or before; None if they are too few."""
    known = known_at(series, at)
    if len(known) < MIN_FIT_CANDLES:
        return None
    return fit_regimes(known.slice(max(0, len(known) - REGIME_BARS), len(known)))
