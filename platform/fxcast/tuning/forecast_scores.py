"""What the forecasts that a fold is traded on were worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from fxcast.backtest.forecasts import PreparedForecasts
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecaster import WindowBatch
from fxcast.evaluation.scores import ensemble_crps, random_walk_crps
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.tuning.trial import HorizonScore

_INTERVAL = (0.05, 0.95)


def forecast_scores(
    forecasts: PreparedForecasts, series: Mapping[str, CandleSeries], horizons_minutes: Sequence[int], stop: datetime
) -> tuple[HorizonScore, ...]:
    """Score each horizon over all symbols.

    Args:
        stop: Outcomes that are not known before it don't count: what lies behind a fold is not its own.
    """
    return tuple(_of_horizon(forecasts, series, minutes, stop) for minutes in horizons_minutes)


def _of_horizon(forecasts: PreparedForecasts, series: Mapping[str, CandleSeries], minutes: int, stop: datetime) -> HorizonScore:
    index, windows, inside, crps, walk_crps = forecasts.horizons_minutes.index(minutes), 0, 0, 0.0, 0.0
    for symbol, known in forecasts.symbols.items():
        candles = series[symbol]
        closes_at = candles.close_times.astype(np.int64)
        end = np.searchsorted(closes_at, known.closed_at)  # (n,) positions of the windows' last candles
        reached = end + candles.timeframe.bars(minutes)
        told = np.flatnonzero(reached < int(np.searchsorted(candles.close_times, to_datetime64(stop))))
        if not len(told):
            continue
        price, actual = known.price[told], candles.closes[reached[told]]
        prices = price[:, None] * np.exp(known.moves[told, :, index].astype(np.float64))  # (m, samples)
        walk = RandomWalk(timeframe=candles.timeframe, horizons_minutes=(minutes,))
        deviation = walk.standard_deviations(WindowBatch.ending_at(candles, end[told]))[:, 0]  # (m,)
        low, high = np.quantile(prices, _INTERVAL, axis=1, method="weibull")
        crps += float((ensemble_crps(prices, actual, price, pip=1.0) / price).sum())
        walk_crps += float((random_walk_crps(actual, price, deviation, pip=1.0) / price).sum())
        inside += int(((low <= actual) & (actual <= high)).sum())
        windows += len(told)
    return HorizonScore(minutes=minutes, windows=windows, crps=crps, walk_crps=walk_crps, inside=inside)
