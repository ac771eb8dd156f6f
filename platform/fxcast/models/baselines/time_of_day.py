"""The random walk that knows the clock: how far the price moves at each hour of the day, as it did in a training period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fxcast.data.windows import window_ends
from fxcast.domain.calendar import new_york_offset
from fxcast.domain.candle import CandleSeries, FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles
from fxcast.models.path import ewma_volatility

HOURS = 24
_LEVELS = np.arange(1, 200) / 200.0
# An hour's quantiles count as much as those of all hours together when this many windows fell into it.
_PRIOR_WINDOWS = 100
_MOST_WINDOWS = 60_000  # in memory, 4 kB each; neighbours show nearly the same


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOfDayWalk:
    """Log price moves by volatility · √bars · a size of the same hour, to either side alike; implements `Forecaster`.

    Attributes:
        sizes: Quantiles of |move| / (volatility · √bars) at levels 0.005, 0.010 … 0.995, (HOURS, horizons, 199), by the hour of New
            York in which the window's last candle closes.
    """

    timeframe: Timeframe
    horizons_minutes: tuple[int, ...]
    sizes: FloatArray
    volatility_span_bars: int = 120
    model_version: str = "time-of-day"

    def __post_init__(self) -> None:
        expected = (HOURS, len(self.horizons_minutes), len(_LEVELS))
        if self.sizes.shape != expected:
            raise ValueError(f"sizes have shape {self.sizes.shape}; needed: {expected}")

    @classmethod
    def fit(cls, windows: WindowBatch, log_moves: FloatArray, horizons_minutes: tuple[int, ...], *, span_bars: int = 120) -> Self:
        """Learn the sizes of a training period.

        Args:
            windows: Of the training period; their outcomes must lie in it too.
            log_moves: What came, (n, horizons).

        Raises:
            BadCandles: If there are fewer windows than hours.
        """
        if len(windows) < HOURS:
            raise BadCandles("windows", f"{len(windows)} of the training period", f"at least {HOURS}")
        volatility = ewma_volatility(windows.candles[:, :, 3], span_bars)
        bars = np.array([windows.timeframe.bars(minutes) for minutes in horizons_minutes], dtype=np.float64)
        sizes = np.abs(log_moves) / (volatility[:, None] * np.sqrt(bars))  # (n, horizons)
        hours = _hours(windows.closed_at)
        everywhen = np.quantile(sizes, _LEVELS, axis=0).T  # (horizons, levels)
        by_hour = np.empty((HOURS, *everywhen.shape))
        for hour in range(HOURS):
            of_hour = sizes[hours == hour]
            share = len(of_hour) / (len(of_hour) + _PRIOR_WINDOWS)
            own = np.quantile(of_hour, _LEVELS, axis=0).T if len(of_hour) else everywhen
            by_hour[hour] = share * own + (1.0 - share) * everywhen
        return cls(timeframe=windows.timeframe, horizons_minutes=horizons_minutes, sizes=by_hour, volatility_span_bars=span_bars)

    @classmethod
    def fit_series(cls, series: Sequence[CandleSeries], horizons_minutes: tuple[int, ...], *, span_bars: int = 120) -> Self:
        """Learn the sizes of a training period from its candles, all symbols together.

        Args:
            series: One a symbol, of one timeframe; nothing after the training period.

        Raises:
            BadCandles: If they hold fewer windows, with their outcomes, than there are hours.
        """
        bars = np.array([series[0].timeframe.bars(minutes) for minutes in horizons_minutes])
        ends = [window_ends(one, future_bars=int(bars[-1])) for one in series]
        stride = -(-sum(map(len, ends)) // _MOST_WINDOWS) or 1
        parts = [WindowBatch.ending_at(one, own[::stride]) for one, own in zip(series, ends, strict=True)]
        moves = [
            np.log(one.closes[own[::stride, None] + bars] / one.closes[own[::stride, None]])
            for one, own in zip(series, ends, strict=True)
        ]
        windows = WindowBatch(
            symbols=tuple(symbol for part in parts for symbol in part.symbols),
            timeframe=series[0].timeframe,
            candles=np.concatenate([part.candles for part in parts]),
            open_times=np.concatenate([part.open_times for part in parts]),
        )
        return cls.fit(windows, np.concatenate(moves), horizons_minutes, span_bars=span_bars)

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        """Draw log moves, (windows, num_samples, horizons); see `Forecaster.sample`."""
        volatility = ewma_volatility(windows.candles[:, :, 3], self.volatility_span_bars)
        bars = np.array([self.timeframe.bars(minutes) for minutes in self.horizons_minutes], dtype=np.float64)
        scale = volatility[:, None] * np.sqrt(bars)  # (windows, horizons)
        moves = np.empty((len(windows), num_samples, len(bars)))
        for position, (hour, seed) in enumerate(zip(_hours(windows.closed_at), seeds, strict=True)):
            draws = np.random.default_rng(seed).uniform(-1.0, 1.0, (len(bars), num_samples))
            for column, at in enumerate(draws):
                size = np.interp(np.abs(at), _LEVELS, self.sizes[hour, column])
                moves[position, :, column] = np.sign(at) * size * scale[position, column]
        return moves


def _hours(closed_at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the hour of New York, (n,) from 0 to 23."""
    moments = closed_at.astype("datetime64[s]")
    return (closed_at + new_york_offset(moments).astype(np.int64)) // 3600 % HOURS
