"""The engine that trades, over past candles: the same runner, with a simulated clock, feed and broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.backtest.broker import SimulatedBroker
from fxcast.backtest.curve import CurveRecorder
from fxcast.backtest.feed import OneSeriesFeed
from fxcast.backtest.inner import InnerCandles
from fxcast.backtest.ledger import BacktestLedger
from fxcast.backtest.regimes import FitTable, PreparedRegimes, first_candle
from fxcast.backtest.result import BacktestResult, EquityCurve
from fxcast.backtest.stretches import QuietStretches
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.trading.config import PaperMarketConfig, TradingConfig
from fxcast.trading.engine import EngineConfig
from fxcast.trading.ports import ForecastService
from fxcast.trading.runner import Runner
from fxcast.trading.source_list import wanted_timeframes
from fxcast.trading.state import EngineState

_SHOWN_EVERY = 1_000  # candles


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestSetup:
    """What is traded, when and how.

    Attributes:
        name: Of the variant, as it is called in reports.
        symbols: What is traded.
        followed: The series that are seen at all, those traded among them; empty for all.
        start: The first candle closes at or after it.
        stop: Candles that close at or after it are not seen.
    """

    name: str
    symbols: tuple[str, ...]
    followed: tuple[str, ...] = ()
    start: datetime
    stop: datetime
    trading: TradingConfig = field(default_factory=lambda: TradingConfig.model_validate({}))
    market: PaperMarketConfig = field(default_factory=lambda: PaperMarketConfig.model_validate({}))


class BacktestEngine:
    """Runs the engine over past candles; the same input gives the same result.

    Attributes:
        passed_over: How many candles were taken at once, so far.

    Args:
        series: By symbol, all of one timeframe, with candles before the start that windows and regimes are made of.
        forecasts: Prepared ones; None where every forecaster is off.
        inner: By symbol, shorter candles that tell in which order prices came inside a candle.
        fits: Regimes fitted beforehand; those that are missing are fitted on the way.
        passes_over: Whether runs of candles that would change nothing but the books are taken at once, where a single series is
            followed; the result is the same without, and comes later.
    """

    def __init__(
        self,
        setup: BacktestSetup,
        series: Mapping[str, CandleSeries],
        *,
        forecasts: ForecastService | None = None,
        inner: Mapping[str, InnerCandles] | None = None,
        fits: FitTable | None = None,
        passes_over: bool = True,
    ) -> None:
        self.passed_over = 0
        self._setup = setup
        self._series = {symbol: series[symbol] for symbol in setup.followed or series}
        self._forecasts = forecasts
        self._broker = SimulatedBroker(setup.market, inner=inner)
        self._ledger = BacktestLedger()
        self._clock = ReplayClock(setup.start)
        config = EngineConfig(
            trading=setup.trading, instruments=self._broker.instruments(list(self._series)), symbols=setup.symbols
        )
        wanted = wanted_timeframes(config.sources)
        self._stretches: QuietStretches | None = None
        if len(self._series) == 1 and not wanted:
            (only,) = self._series.values()
            feed = OneSeriesFeed(only, start=setup.start, stop=setup.stop, clock=self._clock)
            if passes_over:
                self._stretches = QuietStretches(only, config=config, feed=feed, broker=self._broker)
        else:
            all_series = list(self._series.values())
            feed = ReplayFeed(all_series, start=setup.start, stop=setup.stop, clock=self._clock, timeframes=wanted)
        regimes = PreparedRegimes(self._series, fits or {})
        models = {symbol: regimes.first(symbol, setup.start) for symbol in self._series}
        self._runner = Runner(
            config,
            feed=feed,
            broker=self._broker,
            ledger=self._ledger,
            clock=self._clock,
            forecasts=forecasts,
            observers=[self._broker],
            regime_models={symbol: model for symbol, model in models.items() if model is not None},
            regimes=regimes,
            records_decisions=False,
        )

    @property
    def state(self) -> EngineState:
        """What the engine remembers after the last candle."""
        return self._runner.state

    def run(self, show: Callable[[int, int], None] | None = None) -> BacktestResult:
        """Trade the period.

        Args:
            show: Called now and then with the number of candles done and of all.

        Raises:
            BadSetup: If a currency can't be converted to the account's.
        """
        total, done, told = self._total(), 0, 0
        curve = CurveRecorder()
        self._runner.start()
        for closed in self._runner.closed_candles():
            point = self._runner.handle(closed).equity
            assert point is not None, "every candle has an equity"
            exposure = float(self._broker.exposure()) if self._broker.book.positions else 0.0
            curve.add_one(int(point.at.timestamp()), float(point.balance), float(point.open_profit), exposure)
            done += len(closed)
            if self._stretches is not None:
                passed = self._stretches.pass_over(self._runner, curve)
                self.passed_over += passed
                done += passed
            if show is not None and done - told >= _SHOWN_EVERY:
                told = done
                show(done, total)
        if show is not None:
            show(done, total)
        return self._result(curve.curve(), done)

    def _total(self) -> int:
        last = to_datetime64(self._setup.stop)
        first = (first_candle(each, self._setup.start) for each in self._series.values())
        stops = (int(np.searchsorted(each.close_times, last)) for each in self._series.values())
        return sum(max(0, stop - start) for start, stop in zip(first, stops, strict=True))

    def _result(self, curve: EquityCurve, candles: int) -> BacktestResult:
        setup, state = self._setup, self._runner.state
        return BacktestResult(
            name=setup.name,
            symbols=setup.symbols,
            timeframe=next(iter(self._series.values())).timeframe.name,
            start=setup.start,
            stop=setup.stop,
            currency=setup.market.account_currency,
            starting_balance=setup.market.starting_balance,
            candles=candles,
            equity=curve,
            transactions=tuple(self._ledger.transactions),
            fill_costs=self._broker.fill_costs,
            orders=self._ledger.orders(),
            signals=tuple(self._ledger.signals),
            positions=self._ledger.positions(),
            risk_events=tuple(self._ledger.risk_events),
            forecasts_missed=state.forecasts_missed,
        )
