"""What a backtest leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np

from fxcast.domain.candle import FloatArray, TimeArray
from fxcast.domain.order import Transaction
from fxcast.trading.ports import DecidedSignal, OrderRecord, PositionRecord, RiskEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class FillCost:
    """What a fill cost against the mid of its moment, in account currency; zero or more, the commission not included."""

    spread: Decimal
    slippage: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityCurve:
    """The account at the close of each moment's candles.

    Attributes:
        times: (n,) datetime64[s], UTC, ascending.
        balance: (n,) account currency.
        open_profit: (n,) account currency, marked at the side that would close each position.
        exposure: (n,) worth of all open positions in account currency; zero while there is none.
    """

    times: TimeArray
    balance: FloatArray
    open_profit: FloatArray
    exposure: FloatArray

    def __len__(self) -> int:
        return len(self.times)

    @property
    def equity(self) -> FloatArray:
        """Balance and open profit, (n,)."""
        return self.balance + self.open_profit

    @classmethod
    def joined(cls, parts: Sequence[EquityCurve]) -> EquityCurve:
        """Return curves one after the other, as they are."""
        return cls(
            times=np.concatenate([part.times for part in parts]),
            balance=np.concatenate([part.balance for part in parts]),
            open_profit=np.concatenate([part.open_profit for part in parts]),
            exposure=np.concatenate([part.exposure for part in parts]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestResult:
    """Everything that one run of the engine over past candles did.

    Attributes:
        name: Of the variant, as it is called in reports.
        symbols: What was traded.
        start: The first candle closed at or after it.
        stop: Candles that closed at or after it were not seen.
        currency: Of the account.
        candles: Handled.
        transactions: Fills and interest, in order.
        fill_costs: By the fill's sequence.
        orders: As they ended, oldest first.
        signals: Every decision with its verdict, oldest first.
        positions: Closed and, with `closed_at` None, still open ones, by when they were opened.
        forecasts_missed: Asked for in vain.
    """

    name: str
    symbols: tuple[str, ...]
    timeframe: str
    start: datetime
    stop: datetime
    currency: str
    starting_balance: Decimal
    candles: int
    equity: EquityCurve
    transactions: tuple[Transaction, ...]
    fill_costs: Mapping[int, FillCost]
    orders: tuple[OrderRecord, ...]
    signals: tuple[DecidedSignal, ...]
    positions: tuple[PositionRecord, ...]
    risk_events: tuple[RiskEvent, ...]
    forecasts_missed: int = 0
