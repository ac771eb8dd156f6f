"""Regimes fitted beforehand, at the moments at which the engine will ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.signals.regime import RegimeModel
from fxcast.trading.ports import FittedRegimes
from fxcast.trading.regime_fitting import regimes_known_at

FitTable = Mapping[tuple[str, datetime], RegimeModel | None]  # by symbol and moment


def first_candle(series: CandleSeries, start: datetime) -> int:
    """Return the position of the first candle that is traded: it closes at the start or later, with a whole window up to it."""
    return max(CONTEXT_BARS - 1, int(np.searchsorted(series.close_times, to_datetime64(start))))


def fit_moments(series: CandleSeries, start: datetime, stop: datetime, *, refit_bars: int) -> tuple[datetime, ...]:
    """Return when the engine asks for a symbol's regimes: before the first candle, then as often as they are due."""
    first, last = first_candle(series, start), int(np.searchsorted(series.close_times, to_datetime64(stop)))
    before = int(np.searchsorted(series.close_times, to_datetime64(start)))
    known = [to_datetime(series.close_times[before - 1])] if before else []
    return (*known, *(to_datetime(series.close_times[at]) for at in range(first + refit_bars - 1, last, refit_bars)))


class PreparedRegimes:
    """Implements `trading.ports.RegimeFitter` from fits made beforehand; what is missing is fitted when it is asked for.

    Args:
        series: By symbol.
        fits: Made by `regimes_known_at` on the same series.
    """

    def __init__(self, series: Mapping[str, CandleSeries], fits: FitTable) -> None:
        self._series = series
        self._fits = fits
        self._asked: list[tuple[str, datetime]] = []

    def ask(self, symbol: str, at: datetime) -> None:
        self._asked.append((symbol, at))

    def ready(self) -> tuple[FittedRegimes, ...]:
        """Return all that was asked for: time waits in a backtest."""
        if not self._asked:
            return ()
        asked, self._asked = self._asked, []
        return tuple(FittedRegimes(symbol=symbol, model=self._fitted(symbol, at), at=at) for symbol, at in asked)

    def first(self, symbol: str, start: datetime) -> RegimeModel | None:
        """Return the regimes that a symbol begins with, None where too few candles lie before the start."""
        series = self._series[symbol]
        before = int(np.searchsorted(series.close_times, to_datetime64(start)))
        return self._fitted(symbol, to_datetime(series.close_times[before - 1])) if before else None

    def _fitted(self, symbol: str, at: datetime) -> RegimeModel | None:
        if (symbol, at) in self._fits:
            return self._fits[symbol, at]
        return regimes_known_at(self._series[symbol], at)
