"""What the engine's benchmark trades on: three hours of 28 pairs with their forecasts, and the engine's step alone on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from fxcast.adapters.clock import ReplayClock
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import LDM4TSPrediction, summarize
from fxcast.domain.money import Quote, Rates, rates_from_prices
from fxcast.domain.order import ChangeAnswer, Fill, FillReason, OrderIntent
from fxcast.domain.portfolio import Account
from fxcast.signals.regime import RegimeModel, RegimeState, fit_regimes
from fxcast.trading.config import ManagementConfig, RiskLimits, TradingConfig
from fxcast.trading.correlation import return_correlation
from fxcast.trading.engine import EngineConfig, step
from fxcast.trading.events import CandleClosed, ChangeAnswered, ChangeProtection, Command, Event, PlaceOrder, TransactionReceived
from fxcast.trading.execution import Stepped
from fxcast.trading.ports import ClosedCandle, ForecastAnswer, ForecastQuestion
from fxcast.trading.source_list import wanted_timeframes
from fxcast.trading.state import EngineState
from tests.factories import make_series

_CURRENCIES = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")
_WORTH = (1.08, 1.27, 0.66, 0.61, 1.0, 0.74, 1.13, 0.0067)  # in dollars
PAIRS = tuple(base + quote for at, base in enumerate(_CURRENCIES) for quote in _CURRENCIES[at + 1 :])
_VOLATILITY = 0.00012  # of a currency in a minute
_HORIZONS = (15, 60, 240)
_SAMPLES = 50
_REGIME_BARS = 1000
_HISTORY = 27 * 240  # minutes: enough candles of 4h for their average
MINUTES = 180
START = datetime(2024, 3, 7, 12, tzinfo=UTC)  # a Thursday, London and New York
EQUITY = Decimal(1_000_000)
CONFIG = EngineConfig(
    trading=TradingConfig(
        ldm4ts_horizons=_HORIZONS,
        use_pattern=True,
        use_multi_timeframe=True,
        min_quality=0.3,
        risk=RiskLimits(max_positions=14, max_currency_exposure_pct=1000.0, cool_off_minutes=0),
        management=ManagementConfig(break_even_at_r=0.5, trail_at_r=1.0),
    )
)


@dataclass(frozen=True, kw_only=True)
class Market:
    """What every part trades on."""

    series: tuple[CandleSeries, ...]
    forecasts: Mapping[tuple[str, datetime], LDM4TSPrediction]
    regimes: Mapping[str, RegimeModel]

    def feed(self, clock: ReplayClock) -> ReplayFeed:
        stop = START + timedelta(minutes=MINUTES)
        return ReplayFeed(self.series, start=START, stop=stop, clock=clock, timeframes=wanted_timeframes(CONFIG.sources))

    def ask(self, questions: Sequence[ForecastQuestion], *, timeout_s: float) -> tuple[ForecastAnswer, ...]:
        """Answer as a forecast service does, at once."""
        del timeout_s
        return tuple(self.forecasts[each.window.symbol, to_datetime(each.window.close_times[-1])] for each in questions)


def make_market() -> Market:
    """Let eight currencies walk at random, all pairs being their ratios, and forecast each minute."""
    rng = np.random.default_rng(0)
    bars = _HISTORY + MINUTES
    worth = np.array(_WORTH)[:, None] * np.exp(np.cumsum(rng.normal(0.0, _VOLATILITY, (len(_WORTH), bars)), axis=1))
    series: list[CandleSeries] = []
    for pair in PAIRS:
        base, quote = _CURRENCIES.index(pair[:3]), _CURRENCIES.index(pair[3:])
        closes: list[float] = (worth[base] / worth[quote]).tolist()
        start = START - timedelta(minutes=_HISTORY)
        made = make_series(closes, symbol=pair, timeframe="1m", start=start, range_width=closes[0] * _VOLATILITY / 2)
        volumes = rng.lognormal(5.0, 0.5, bars)
        digits = 3 if pair.endswith("JPY") else 5
        series.append(replace(made, values=np.column_stack([made.values[:, :4].round(digits), volumes.round()])))
    forecasts = {
        (each.symbol, to_datetime(each.close_times[at])): _forecast(each, at, rng)
        for each in series
        for at in range(_HISTORY - 1, bars)
    }
    regimes = {each.symbol: fit_regimes(each.slice(_HISTORY - _REGIME_BARS, _HISTORY)) for each in series}
    return Market(series=tuple(series), forecasts=forecasts, regimes=regimes)


def _forecast(series: CandleSeries, at: int, rng: np.random.Generator) -> LDM4TSPrediction:
    price, drift = float(series.closes[at]), float(rng.normal(0.0, 0.5))
    deviations = [2**0.5 * _VOLATILITY * minutes**0.5 for minutes in _HORIZONS]
    return LDM4TSPrediction(
        symbol=series.symbol,
        timeframe=series.timeframe,
        made_at=to_datetime(series.close_times[at]),
        price=price,
        horizons={
            minutes: summarize(price * np.exp(deviation * (drift + rng.standard_normal(_SAMPLES))))
            for minutes, deviation in zip(_HORIZONS, deviations, strict=True)
        },
        inference_time_ms=1.0,
        num_samples=_SAMPLES,
        model_version="scripted",
    )


Steps = Callable[[EngineState, CandleClosed], Stepped]


@dataclass
class StepWorld:
    """The engine's step alone: fills follow at once, so that positions are open, managed and closed as they are in a run.

    Attributes:
        candle_step: Takes the steps that are measured.
        held: Positions open at each of them.
        last: What the last of them was made from.
    """

    market: Market
    candle_step: Steps
    state: EngineState = field(default_factory=EngineState)
    sequence: int = 0
    held: list[int] = field(default_factory=list[int])
    last: list[tuple[EngineState, CandleClosed]] = field(default_factory=list[tuple[EngineState, CandleClosed]])

    def play(self) -> None:
        """Go through the hours, from an engine that knows nothing but the regimes."""
        self.state = EngineState(regimes={symbol: RegimeState(model=model) for symbol, model in self.market.regimes.items()})
        windows: dict[str, CandleSeries] = {}
        for closed in self.market.feed(ReplayClock(START)).closed_candles(after={}):
            windows |= {each.window.symbol: each.window for each in closed}
            prices = {symbol: Decimal(repr(float(window.closes[-1]))) for symbol, window in windows.items()}
            rates = rates_from_prices(prices, "USD")
            for each in closed:
                event = self._event(each, windows, rates)
                self.held.append(len(self.state.positions))
                self.last = [(self.state, event)]
                self._take(self.candle_step(self.state, event))

    def _event(self, closed: ClosedCandle, windows: Mapping[str, CandleSeries], rates: Rates) -> CandleClosed:
        symbol, at = closed.window.symbol, closed.closed_at
        instrument = CONFIG.instrument(symbol)
        bid = instrument.round_price(float(closed.window.closes[-1]))
        bars = CONFIG.trading.risk.correlation_bars
        found = {other: return_correlation(windows[symbol], windows[other], bars) for other in self.state.positions}
        return CandleClosed(
            window=closed.window,
            higher=closed.higher,
            predictions={CONFIG.trading.forecast_source.value: self.market.forecasts[symbol, at]},
            account=Account(currency="USD", balance=EQUITY, open_profit=Decimal(0)),
            quote=Quote(bid=bid, ask=bid + instrument.pip, at=at),
            rates=rates,
            correlations={other: each for other, each in found.items() if each is not None},
            seen_at=at,
        )

    def _take(self, stepped: Stepped) -> None:
        self.state, commands = stepped
        for command in commands:
            answer = self._answer(command)
            if answer is not None:
                self._take(step(self.state, answer, CONFIG))

    def _answer(self, command: Command) -> Event | None:
        match command:
            case PlaceOrder():
                self.sequence += 1
                return TransactionReceived(transaction=_filled(command.intent, self.sequence, self.state))
            case ChangeProtection():
                return ChangeAnswered(change=command.change, answer=ChangeAnswer(accepted=True), at=command.change.created_at)
            case _:
                return None


def _filled(intent: OrderIntent, sequence: int, state: EngineState) -> Fill:
    return Fill(
        sequence=sequence,
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        units=intent.units,
        price=state.prices[intent.symbol],
        reason=FillReason.MARKET,
        profit=Decimal(0),
        filled_at=intent.created_at,
    )
