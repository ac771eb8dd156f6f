"""Sources and forecasters that look ahead, and honest ones beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from fxcast.backtest.regimes import fit_moments
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime
from fxcast.domain.forecaster import WindowBatch
from fxcast.domain.signal import Direction, Signal, SignalKind
from fxcast.domain.timeframe import Timeframe
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.signals.regime import RegimeModel
from fxcast.signals.sources import MarketView
from fxcast.trading.regime_fitting import regimes_known_at

REMEMBERED: dict[str, tuple[TimeArray, FloatArray]] = {}  # by symbol, the longest table of times and closes that was ever seen

LATEST: list[np.datetime64] = []  # the moments that this process was asked about, as long as they ascend


def _signal(name: str, view: MarketView, direction: Direction) -> Signal:
    price = float(view.window.closes[-1])
    return Signal(
        source=name,
        kind=SignalKind.PATTERN,
        symbol=view.window.symbol,
        made_at=to_datetime(view.window.close_times[-1]),
        horizon_minutes=8 * view.window.timeframe.minutes,
        direction=direction,
        strength=0.8,
        price=price,
        stop=price - direction.sign * 0.0030,
        target=price + direction.sign * 0.0030,
    )


def _whole(view: MarketView) -> tuple[TimeArray, FloatArray]:
    """Return times, (n,), and closes, (n,), of the arrays that a window is a view of."""
    window = view.window
    times, values = window.open_times.base, window.values.base
    assert isinstance(times, np.ndarray), "a window is a view of something longer"
    assert isinstance(values, np.ndarray), "a window is a view of something longer"
    if values.ndim == 1:  # what lies in a cluster's shared memory is in one row beneath
        values = values.reshape(-1, 5) if window.values.flags.c_contiguous else values.reshape(5, -1).T
    return times, values[:, 3]


def _ahead(view: MarketView, times: TimeArray, closes: FloatArray, bars: int) -> Direction | None:
    """Return where the price will be after some candles of a table, None if it ends before."""
    later = int(np.searchsorted(times, view.window.open_times[-1])) + bars
    if later >= len(times):
        return None
    return Direction.BULL if closes[later] > view.window.closes[-1] else Direction.BEAR


@dataclass
class BeneathTheWindow:
    """Finds, beneath the window it is given, the array that the window is a part of."""

    bars: int = 3
    name: str = "beneath"
    timeframes: tuple[str, ...] = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        direction = _ahead(view, *_whole(view), self.bars)
        if direction is not None:
            yield _signal(self.name, view, direction)


@dataclass
class Rememberer:
    """Keeps all that it ever saw in its module, from one run to the next, and looks it up."""

    bars: int = 3
    name: str = "rememberer"
    timeframes: tuple[str, ...] = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        times, closes = _whole(view)
        known = REMEMBERED.get(view.window.symbol)
        if known is None or len(times) > len(known[0]):
            REMEMBERED[view.window.symbol] = known = times.copy(), closes.copy()
        direction = _ahead(view, *known, self.bars)
        if direction is not None:
            yield _signal(self.name, view, direction)


@dataclass
class Honest:
    """Follows the last candles of its window."""

    bars: int = 3
    name: str = "honest"
    timeframes: tuple[str, ...] = ("4h",)

    def signals(self, view: MarketView) -> Iterator[Signal]:
        closes = view.window.closes
        yield _signal(self.name, view, Direction.BULL if closes[-1] > closes[-1 - self.bars] else Direction.BEAR)


@dataclass
class FirstRun:
    """Speaks in a process's first run alone: where the time goes back, another one has begun."""

    name: str = "first run"
    timeframes: tuple[str, ...] = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        now = view.window.close_times[-1]
        if not LATEST or now >= LATEST[-1]:
            LATEST.append(now)
            yield _signal(self.name, view, Direction.BULL)
        else:
            LATEST.append(np.datetime64("9999-01-01", "s"))  # silent from now on


@dataclass
class Failing:
    """Speaks at even hours, and fails at the others."""

    name: str = "failing"
    timeframes: tuple[str, ...] = ()

    def signals(self, view: MarketView) -> Iterator[Signal]:
        hour = to_datetime(view.window.close_times[-1]).hour
        if hour % 2:
            raise RuntimeError(f"{hour} is odd")
        yield _signal(self.name, view, Direction.BULL)


@dataclass
class PeekingWalk:
    """A random walk as wide as the windows that come with a window, the later ones among them."""

    timeframe: Timeframe
    horizons_minutes: tuple[int, ...]
    model_version: str = "peeking-walk"

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        moves = self._walk.sample(windows, num_samples=num_samples, seeds=seeds)
        widths = self._walk.standard_deviations(windows)  # (windows, horizons)
        return moves / widths[:, None, :] * widths.mean(axis=0)

    @property
    def _walk(self) -> RandomWalk:
        return RandomWalk(timeframe=self.timeframe, horizons_minutes=self.horizons_minutes)


@dataclass
class RememberingWalk:
    """A random walk as wide as the widest window that it was ever asked about."""

    timeframe: Timeframe
    horizons_minutes: tuple[int, ...]
    model_version: str = "remembering-walk"
    widest: dict[str, FloatArray] = field(default_factory=dict[str, FloatArray])

    def sample(self, windows: WindowBatch, *, num_samples: int, seeds: Sequence[int]) -> FloatArray:
        walk = RandomWalk(timeframe=self.timeframe, horizons_minutes=self.horizons_minutes)
        moves, widths = walk.sample(windows, num_samples=num_samples, seeds=seeds), walk.standard_deviations(windows)
        for symbol, width in zip(windows.symbols, widths, strict=True):
            self.widest[symbol] = np.maximum(width, self.widest[symbol]) if symbol in self.widest else width
        return moves / widths[:, None, :] * np.stack([self.widest[symbol] for symbol in windows.symbols])[:, None, :]


def peeking_fits(
    series: CandleSeries, start: datetime, stop: datetime, *, refit_bars: int, bars: int
) -> dict[tuple[str, datetime], RegimeModel | None]:
    """Fit a symbol's regimes at every moment at which an engine asks for them, with candles that close later."""
    ahead = bars * series.timeframe.duration
    moments = fit_moments(series, start, stop, refit_bars=refit_bars)
    return {(series.symbol, at): regimes_known_at(series, at + ahead) for at in moments}
