"""What is measured of a run, and of one run against another; shares are of 1, money is in account currency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fxcast.backtest.result import BacktestResult, EquityCurve
from fxcast.domain.candle import FloatArray
from fxcast.performance.trade import Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval; None where it can't be told (no trade, no loss, no spread of returns)."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What trading cost; `financing` above zero was received, the others are zero or more."""

    spread: float
    slippage: float
    commission: float
    financing: float

    @property
    def total(self) -> float:
        """All that was paid, less what was received."""
        return self.spread + self.slippage + self.commission - self.financing


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One run in figures. Returns are of FX days (17:00 to 17:00 New York); a year is 260 of them.

    Attributes:
        net_profit: Equity at the end less the starting balance, open positions as they were marked.
        max_drawdown: Deepest fall below an earlier peak of the equity at candle closes, as a share of that peak.
        max_drawdown_days: Longest time from a peak until it was reached again, or to the end.
        win_rate: Share of trades that ended above zero after all costs.
        expectancy: Mean net of a trade.
        average_loss: Below zero.
        turnover: Worth of everything bought and sold in a year, in mean equities.
        exposure: Share of candles at whose close a position was open.
        probabilistic_sharpe: Probability that the true Sharpe ratio is above zero (Bailey & López de Prado 2012).
        open_positions: Not closed at the end.
    """

    years: float
    net_profit: float
    total_return: float
    cagr: Interval
    sharpe: Interval
    sortino: Interval
    calmar: Interval
    max_drawdown: Interval
    max_drawdown_days: float
    trades: int
    win_rate: Interval
    profit_factor: Interval
    expectancy: Interval
    average_win: float | None
    average_loss: float | None
    turnover: float
    exposure: float
    costs: Costs
    probabilistic_sharpe: float | None
    open_positions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The trades of one month, symbol, source, regime or hour of opening (New York)."""

    label: str
    trades: int
    net: float
    win_rate: float
    profit_factor: float | None
    expectancy: float
    costs: Costs


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOrder:
    """What the same trades do in another order: quantiles of the deepest drawdown over random orders (shares of the peak)."""

    orders: int
    drawdown_q05: float
    drawdown_q50: float
    drawdown_q95: float
    actual: float
    as_deep_or_deeper: float  # share of orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Luck:
    """Whether chance explains it.

    Attributes:
        trials: Different settings that were tried on this market, this one included.
        expected_best_sharpe: Annualised, of so many trials without any skill.
        deflated_sharpe: Probability that the true Sharpe ratio is above that (Bailey & López de Prado 2014).
    """

    trials: int
    expected_best_sharpe: float | None
    deflated_sharpe: float | None
    trade_order: TradeOrder | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One measure of a run less another run's, on the same days, with its paired interval."""

    measure: str  # sharpe, max_drawdown, win_rate, total_return
    ours: float | None
    theirs: float | None
    difference: Interval

    @property
    def is_told(self) -> bool:
        """Whether its interval lies on one side of zero, also as it is printed: a bound that reads 0.00 does not."""
        low, high = self.difference.low, self.difference.high
        least = 0.005 if self.measure == "sharpe" else 0.0005
        return low is not None and high is not None and (low >= least or high <= -least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Another way to trade the same time, beside the run.

    Attributes:
        key: no-scaling, sssd, random-walk or buy-and-hold.
        title: What it is, in words.
        result: None for what no engine traded (buy and hold).
        differences: The run less this.
    """

    key: str
    title: str
    equity: EquityCurve
    measures: Measures
    differences: tuple[Difference, ...]
    result: BacktestResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fans:
    """Forecasts of one symbol and horizon, as the engine had them: for the charts.

    Attributes:
        made_at: (n,) datetime64[s], UTC, ascending.
        price, mean, q05, q95: (n,) quote currency.
    """

    symbol: str
    horizon_minutes: int
    made_at: np.ndarray
    price: FloatArray
    mean: FloatArray
    q05: FloatArray
    q95: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that a report, its JSON and the database rows are made of.

    Attributes:
        verdicts: The first lines: did sizing by uncertainty help, did LDM4TS beat SSSD, is it distinguishable from luck.
        warnings: What a reader must know before the figures; shown in red.
        groups: By month, symbol, source, regime and hour.
        facts: What was run on what, by name: models and their hashes, data hash, settings hash, costs, seeds.
        command: What to run to get the same.
        folds: Of a walk-forward, a row a fold: column and cell, in words.
        counts: Of a run whose single orders and signals are not kept: how many there were, by the names that the JSON has for them.
    """

    result: BacktestResult
    trades: tuple[Trade, ...]
    measures: Measures
    groups: Mapping[str, tuple[Group, ...]]
    luck: Luck
    benchmarks: tuple[Benchmark, ...]
    verdicts: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    fans: tuple[Fans, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    command: str = ""
    folds: tuple[Mapping[str, str], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
