"""One fold of a trial on the level that only trades: a backtest on forecasts that all trials share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import ray
from ray import ObjectRef

from fxcast.backtest.engine import BacktestEngine, BacktestSetup
from fxcast.backtest.folds import Span
from fxcast.backtest.forecasts import PreparedForecasts, PreparedService
from fxcast.backtest.inner import InnerCandles
from fxcast.cluster.backtests import quieten
from fxcast.domain.candle import CandleSeries
from fxcast.domain.signal import Regime
from fxcast.performance.daily import daily_curve
from fxcast.signals.regime import RegimeModel
from fxcast.trading.config import PaperMarketConfig, TradingConfig
from fxcast.tuning.forecast_scores import forecast_scores
from fxcast.tuning.strategy import traded_with
from fxcast.tuning.trial import FoldScore, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedMarket:
    """What the folds of a search are traded on; nothing in it lies behind the last fold's end.

    Attributes:
        followed: All whose candles the engine sees.
        folds: Test periods, oldest first.
        base: What no parameter of the space says.
        regime: In which a trial's values hold; None: in all.
        series: In the object store.
        inner: Shorter candles by symbol, in the object store.
        fits: Regimes, in the object store.
    """

    symbols: tuple[str, ...]
    followed: tuple[str, ...]
    folds: tuple[Span, ...]
    base: TradingConfig
    regime: Regime | None
    market: PaperMarketConfig
    series: Mapping[str, ObjectRef[CandleSeries]]
    inner: ObjectRef[dict[str, InnerCandles]]
    fits: ObjectRef[dict[tuple[str, datetime], RegimeModel | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldForecasts:
    """Forecasts of one fold's windows, in the object store: the own model's, and those of opponents that vote, by version."""

    own: ObjectRef[PreparedForecasts] | None = None
    others: Mapping[str, ObjectRef[PreparedForecasts]] = field(default_factory=dict[str, "ObjectRef[PreparedForecasts]"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingEvaluator:
    """Implements `tuning.trial.FoldEvaluator`: no forecast is computed.

    Attributes:
        forecasts: By fold, with at least as many samples as any trial asks for; a trial takes the first of them.
    """

    market: TunedMarket
    forecasts: tuple[FoldForecasts, ...]

    def evaluate(self, values: Values, fold: int, *, trial: int) -> FoldScore:
        """Trade a fold in this process."""
        del trial
        return trade_fold(self.market, self.forecasts[fold - 1], values, fold)


def trade_fold(market: TunedMarket, forecasts: FoldForecasts, values: Values, fold: int) -> FoldScore:
    """Trade a fold with a trial's values, and score what it did and the forecasts that it had.

    Raises:
        BadSetting: If a value is refused.
        BadSetup: If a currency can't be converted to the account's.
    """
    began = time.monotonic()
    quieten()
    trading = traded_with(market.base, values, market.regime)
    (start, stop), samples = market.folds[fold - 1], trading.ldm4ts_num_samples
    series = {symbol: ray.get(market.series[symbol]) for symbol in market.followed}
    own = None if forecasts.own is None else ray.get(forecasts.own).first(samples)
    others = {version: ray.get(each).first(samples) for version, each in forecasts.others.items()}
    engine = BacktestEngine(
        BacktestSetup(
            name=f"fold {fold}",
            symbols=market.symbols,
            followed=market.followed,
            start=start,
            stop=stop,
            trading=trading,
            market=market.market,
        ),
        series,
        forecasts=PreparedService(own, others) if own is not None or others else None,
        inner=ray.get(market.inner),
        fits=ray.get(market.fits),
    )
    result = engine.run()
    scores = () if own is None else forecast_scores(own, series, trading.ldm4ts_horizons, stop)
    return FoldScore(
        fold=fold,
        curve=daily_curve(result.equity.times, result.equity.equity, float(result.starting_balance)),
        trades=sum(position.closed_at is not None for position in result.positions),
        horizons=scores,
        seconds=time.monotonic() - began,
    )


@ray.remote(num_cpus=1, max_retries=3)
def trade_fold_task(market: TunedMarket, forecasts: FoldForecasts, values: dict[str, object], fold: int) -> FoldScore:
    """Trade a fold in a task of its own, for a trial whose actor reserves no CPU."""
    return trade_fold(market, forecasts, values, fold)  # pyright: ignore[reportArgumentType]  # a dict of values
