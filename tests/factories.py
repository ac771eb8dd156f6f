"""Small builders of domain values for tests; everything is seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from fxcast.domain.candle import Candle, CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction, summarize
from fxcast.domain.order import OrderIntent, OrderPurpose, Side
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.ports import ForecastQuestion

# Tuesday, 12:00 UTC: London and New York are about to overlap, the weekend is far.
NOON = datetime(2017, 3, 7, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def make_series(
    closes: Sequence[float] | None = None,
    *,
    bars: int = 100,
    symbol: str = "EURUSD",
    timeframe: str = "1h",
    start: datetime = datetime(2017, 3, 1, tzinfo=UTC),
    price: float = 1.10,
    volatility: float = 0.0005,
    range_width: float = 0.0,
    seed: int = 0,
) -> CandleSeries:
    """Build a series from closes, or a random walk of `bars` candles without gaps.

    Each candle opens at the close before it; high and low lie `range_width` beyond open and close.
    """
    if closes is None:
        steps = np.random.default_rng(seed).normal(0.0, volatility, bars)
        closes = [float(close) for close in price * np.exp(np.cumsum(steps))]
    ends = np.asarray(closes, dtype=np.float64)
    opens = np.concatenate([ends[:1], ends[:-1]])
    high, low = np.maximum(opens, ends) + range_width, np.minimum(opens, ends) - range_width
    frame = Timeframe(timeframe)
    steps_s = np.arange(len(ends)) * (frame.minutes * 60)
    return CandleSeries(
        symbol=symbol,
        timeframe=frame,
        open_times=to_datetime64(start) + steps_s.astype("timedelta64[s]"),
        values=np.column_stack([opens, high, low, ends, np.full(len(ends), 1000.0)]),
    )


def make_candle(
    open_: float, high: float, low: float, close: float, *, open_time: datetime = NOON, volume: float = 1000.0
) -> Candle:
    return Candle(open_time=open_time, open=open_, high=high, low=low, close=close, volume=volume)


def make_prediction(
    horizons: Mapping[int, tuple[float, float]] | None = None,
    *,
    price: float = 1.10,
    symbol: str = "EURUSD",
    timeframe: str = "1h",
    made_at: datetime = NOON,
) -> LDM4TSPrediction:
    """Build a forecast from mean and standard deviation by horizon in minutes; the quantiles are the normal law's."""
    horizons = {240: (1.1010, 0.0020), 960: (1.1020, 0.0040)} if horizons is None else horizons
    return LDM4TSPrediction(
        symbol=symbol,
        timeframe=Timeframe(timeframe),
        made_at=made_at,
        price=price,
        horizons={
            minutes: HorizonForecast(mean=mean, std=std, q05=mean - 1.645 * std, q50=mean, q95=mean + 1.645 * std)
            for minutes, (mean, std) in horizons.items()
        },
        inference_time_ms=1.0,
        num_samples=50,
        model_version="test",
    )


def random_walk_prediction(
    window: CandleSeries, seed: int, *, horizons_minutes: Sequence[int] = (240, 960, 3840), num_samples: int = 50
) -> LDM4TSPrediction:
    """Forecast a random walk of the window's own volatility: a stand-in that a test can run in microseconds."""
    price = float(window.closes[-1])
    sigma = float(np.diff(np.log(window.closes)).std())
    normal = np.random.default_rng(seed).standard_normal((len(horizons_minutes), num_samples))
    return LDM4TSPrediction(
        symbol=window.symbol,
        timeframe=window.timeframe,
        made_at=to_datetime(window.close_times[-1]),
        price=price,
        horizons={
            minutes: summarize(price * np.exp(sigma * np.sqrt(minutes / window.timeframe.minutes) * normal[row]))
            for row, minutes in enumerate(horizons_minutes)
        },
        inference_time_ms=1.0,
        num_samples=num_samples,
        model_version="random walk",
    )


def make_question(
    window: CandleSeries, *, horizons_minutes: tuple[int, ...] = (240,), num_samples: int = 2, seed: int = 0
) -> ForecastQuestion:
    return ForecastQuestion(
        source="ldm4ts_forecast", window=window, horizons_minutes=horizons_minutes, num_samples=num_samples, seed=seed
    )


def make_intent(
    *,
    side: Side = Side.BUY,
    units: int | str = 10_000,
    stop: str | None = "1.09500",
    target: str | None = "1.11000",
    symbol: str = "EURUSD",
    client_order_id: str = "EURUSD-1-open",
    signal_id: str = "EURUSD-1",
    purpose: OrderPurpose = OrderPurpose.OPEN,
    created_at: datetime = NOON,
) -> OrderIntent:
    opening = purpose is OrderPurpose.OPEN
    return OrderIntent(
        client_order_id=client_order_id,
        signal_id=signal_id,
        symbol=symbol,
        side=side,
        units=Decimal(units),
        purpose=purpose,
        stop=Decimal(stop) if opening and stop is not None else None,
        target=Decimal(target) if opening and target is not None else None,
        created_at=created_at,
    )
