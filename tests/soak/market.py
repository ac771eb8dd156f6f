"""Candles of eight pairs that no vendor sells: trends, jumps, quiet and wild times, weekend gaps; crosses fit their majors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fxcast.adapters.clock import ReplayClock
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import CandleSeries, FloatArray, TimeArray, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS, LDM4TSPrediction, summarize
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import ForecastUnavailable
from fxcast.trading.ports import ClosedCandle, ForecastAnswer, ForecastQuestion

PAIRS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "NZDUSD", "EURGBP", "EURJPY", "AUDNZD")

_WORTH_IN_USD = {"EUR": 1.10, "GBP": 1.27, "JPY": 0.0091, "AUD": 0.75, "NZD": 0.70}
_HOURLY_VOLATILITY = 0.0008
_TICKS_A_CANDLE = 6  # of the hidden path, from which high and low come
_WARM_UP = timedelta(weeks=5)  # enough candles of one hour to fit regimes on
_MISSING_SHARE = 0.003  # of the candles: gaps are gaps
_SKILL = 0.3  # share of the true move that a forecast knows of
_NO_FORECAST_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Market:
    """The candles of all pairs, of which those that close after `start` are traded."""

    series: Mapping[str, CandleSeries]
    start: datetime

    @cached_property
    def moments(self) -> Sequence[datetime]:
        """When candles close, each moment once."""
        closes = np.unique(np.concatenate([each.close_times for each in self.series.values()]))
        return [to_datetime(close) for close in closes[closes > to_datetime64(self.start)]]

    def closing_at(self, moment: datetime) -> list[ClosedCandle]:
        """Return the candles that close at a moment, with their windows."""
        closing: list[ClosedCandle] = []
        for series in self.series.values():
            close = to_datetime64(moment)
            known = int(np.searchsorted(series.close_times, close, side="right"))
            if known >= CONTEXT_BARS and series.close_times[known - 1] == close:
                closing.append(ClosedCandle(window=series.slice(known - CONTEXT_BARS, known)))
        return closing


def make_market(timeframe: str, *, start: datetime, weeks: int, seed: int, pairs: Sequence[str] = PAIRS) -> Market:
    """Make a market of so many weeks from a start, with what came before it."""
    frame = Timeframe(timeframe)
    rng = np.random.default_rng(seed)
    step = np.timedelta64(frame.minutes * 60, "s")
    open_times = np.arange(to_datetime64(start - _WARM_UP), to_datetime64(start + timedelta(weeks=weeks)), step)
    open_times = open_times[open_mask(open_times)]
    gaps = np.concatenate([[False], np.diff(open_times) > step])
    volatility = _HOURLY_VOLATILITY * np.sqrt(frame.minutes / 60)
    paths = {currency: np.log(worth) + _path(rng, gaps, volatility) for currency, worth in _WORTH_IN_USD.items()}
    paths["USD"] = np.zeros_like(paths["EUR"])
    series = {pair: _candles(rng, pair, frame, open_times, np.exp(paths[pair[:3]] - paths[pair[3:]])) for pair in pairs}
    return Market(series=series, start=start)


def _path(rng: np.random.Generator, gaps: NDArray[np.bool_], volatility: float) -> FloatArray:
    """Walk the logarithm of a currency's worth: (candles, ticks); a candle's first tick is its open."""
    candles = len(gaps)
    mood = _persistent(rng, candles, stay=0.99, values=(0.6, 1.0, 2.2))  # (candles,) quiet, usual, wild
    trend = _persistent(rng, candles, stay=0.97, values=(-0.12, 0.0, 0.12))  # (candles,) in standard deviations a candle
    scale = volatility * mood / np.sqrt(_TICKS_A_CANDLE)
    steps = rng.standard_t(4, (candles, _TICKS_A_CANDLE)) / np.sqrt(2)  # (candles, ticks), of variance 1
    steps = steps * scale[:, None] + (trend * volatility / _TICKS_A_CANDLE)[:, None]
    steps[:, 0] *= 0.3  # from the close before it
    jumps = rng.random(candles) < 0.003
    steps[jumps, 2] += rng.normal(0.0, 9.0 * volatility, int(jumps.sum()))
    steps[gaps, 0] += rng.normal(0.0, 7.0 * volatility, int(gaps.sum()))
    return np.cumsum(steps.ravel()).reshape(steps.shape)


def _persistent(rng: np.random.Generator, count: int, *, stay: float, values: Sequence[float]) -> FloatArray:
    """Draw values each of which mostly stays what the one before it was."""
    changes = rng.random(count) >= stay
    return rng.choice(np.asarray(values), count)[np.maximum.accumulate(np.where(changes, np.arange(count), 0))]


def _candles(rng: np.random.Generator, pair: str, frame: Timeframe, open_times: TimeArray, prices: FloatArray) -> CandleSeries:
    prices = np.round(prices, 3 if pair.endswith("JPY") else 5)  # (candles, ticks)
    volumes = rng.integers(50, 5000, len(prices)).astype(np.float64)
    values = np.column_stack([prices[:, 0], prices.max(axis=1), prices.min(axis=1), prices[:, -1], volumes])  # (candles, 5)
    kept = rng.random(len(prices)) >= _MISSING_SHARE
    return CandleSeries(symbol=pair, timeframe=frame, open_times=open_times[kept], values=values[kept])


class MarketFeed:
    """Hands out the candles that have closed so far."""

    def __init__(self, market: Market, clock: ReplayClock) -> None:
        self._market = market
        self._clock = clock

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._market.series)

    def window(self, symbol: str, closed_at: datetime) -> CandleSeries | None:
        series = self._market.series[symbol]
        known = int(np.searchsorted(series.close_times, to_datetime64(closed_at), side="right"))
        return series.slice(known - CONTEXT_BARS, known) if known >= CONTEXT_BARS else None

    def closed_candles(self, *, after: Mapping[str, datetime]) -> Iterator[tuple[ClosedCandle, ...]]:
        """Yield what has closed and was not handled; ends when there is no more yet."""
        moments = self._market.moments
        first = bisect_right(moments, min(after.values())) if len(after) == len(self.symbols) else 0
        for moment in moments[first : bisect_right(moments, self._clock.now())]:
            new = [each for each in self._market.closing_at(moment) if _is_new(each, after)]
            if new:
                yield tuple(new)


def _is_new(closed: ClosedCandle, after: Mapping[str, datetime]) -> bool:
    return closed.window.symbol not in after or closed.closed_at > after[closed.window.symbol]


class Forecaster:
    """Forecasts by looking ahead, badly: some of the true move, and noise. Now and then none comes; while `down`, never."""

    def __init__(self, market: Market) -> None:
        self.down = False
        self._market = market

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        del timeout_s
        return tuple(ForecastUnavailable("no replica answered") if self.down else self._answer(each) for each in questions)

    def _answer(self, question: ForecastQuestion) -> ForecastAnswer:
        rng = np.random.default_rng(question.seed)  # the same candle, asked about again after a crash, is answered alike
        if rng.random() < _NO_FORECAST_SHARE:
            return ForecastUnavailable("it took too long")
        window = question.window
        price, deviation = float(window.closes[-1]), float(np.diff(np.log(window.closes)).std())
        noise = rng.standard_normal(len(question.horizons_minutes))
        width = rng.uniform(0.4, 1.4)
        horizons = {
            minutes: self._horizon(window, minutes, deviation, float(noise[place]), float(width), question.num_samples, rng)
            for place, minutes in enumerate(question.horizons_minutes)
        }
        return LDM4TSPrediction(
            symbol=window.symbol,
            timeframe=window.timeframe,
            made_at=to_datetime(window.close_times[-1]),
            price=price,
            horizons={minutes: summarize(price * np.exp(moves)) for minutes, moves in horizons.items()},
            inference_time_ms=1.0,
            num_samples=question.num_samples,
            model_version="a look ahead",
        )

    def _horizon(
        self,
        window: CandleSeries,
        minutes: int,
        deviation: float,
        noise: float,
        width: float,
        num_samples: int,
        rng: np.random.Generator,
    ) -> FloatArray:
        """Draw log moves of one horizon, (samples,)."""
        series = self._market.series[window.symbol]
        bars = max(1, minutes // window.timeframe.minutes)
        here = int(np.searchsorted(series.close_times, window.close_times[-1]))
        there = min(here + bars, len(series) - 1)
        true_move = float(np.log(series.closes[there] / series.closes[here]))
        std = max(deviation, 1e-6) * np.sqrt(bars)
        return _SKILL * true_move + 0.4 * std * noise + width * std * rng.standard_normal(num_samples)
