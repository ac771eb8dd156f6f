"""Read the cases in `cases/`, each a table that a trader can check with a pencil.

A case says which candles close, what is signalled at which closes, and what must follow: the fills, the interest, the orders that
ended otherwise, and the balance. The sum behind each number stands beside it. Times are UTC, and rows are:

    candles     by symbol: opens at, open, high, low, close
    signals     candle closes at, symbol, side, stop, target, horizon in candles
    fills       at, symbol, side, units, price, reason, profit, commission
    interest    at, symbol, amount
    ended       orders rejected or cancelled: made at, symbol, purpose, status, reason
    refused     signals that became no order: candle closes at, symbol, reason
    open        positions left: symbol, side, units, entry, stop, target
    costs       of each fill, if given: spread, slippage
    equity      at every close, if given: at, balance, open profit

`market` and `trading` are settings as in a configuration; `rules` the rules of `fxcast.trading.fill_simulation` that a case shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from fxcast.backtest.result import BacktestResult
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.trading.config import PaperMarketConfig
from tests.backtest_factories import Script, only_source, run_backtest

CASES = Path(__file__).parent / "cases"
_KEYS = {
    *("name", "rules", "timeframe", "symbols", "market", "trading", "candles", "signals"),
    *("fills", "interest", "ended", "refused", "open", "costs", "equity", "balance"),
}
_RISK_PCT = 1  # of equity at the stop

Row = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case as it stands in its file: every value is still text, so that no number is rounded on the way."""

    name: str
    content: Mapping[str, Any]

    @property
    def rules(self) -> tuple[int, ...]:
        return tuple(int(rule) for rule in self.content["rules"])

    @property
    def balance(self) -> Decimal:
        return Decimal(self.content["balance"])

    def rows(self, table: str) -> tuple[Row, ...]:
        return tuple(self.content.get(table) or ())

    def run(self) -> BacktestResult:
        """Put the case through the backtest engine."""
        series = [self._series(symbol, rows) for symbol, rows in self.content["candles"].items()]
        trading = {"sizing": {"risk_per_trade_pct": _RISK_PCT}, **self.content.get("trading", {})}
        return run_backtest(
            series,
            trading=only_source(self._script(), **trading),
            market=PaperMarketConfig.model_validate(self.content["market"]),
            start=min(to_datetime(each.close_times[CONTEXT_BARS - 1]) for each in series),
            stop=max(to_datetime(each.close_times[-1]) for each in series) + self._timeframe.duration,
            symbols=self.content.get("symbols", ()),
        )

    @property
    def _timeframe(self) -> Timeframe:
        return Timeframe(self.content.get("timeframe", "1h"))

    def _series(self, symbol: str, rows: Sequence[Row]) -> CandleSeries:
        """Return the rows, after as many flat candles as the engine needs before the first."""
        step, flat = self._timeframe.step, float(rows[0][1])
        first = to_datetime64(moment(rows[0][0]))
        before = first - step * np.arange(CONTEXT_BARS - 1, 0, -1)
        opens = [to_datetime64(moment(row[0])) for row in rows]
        prices = [[flat] * 4] * len(before) + [[float(price) for price in row[1:]] for row in rows]
        values = np.column_stack([np.array(prices), np.full(len(prices), 1000.0)])
        return CandleSeries(
            symbol=symbol, timeframe=self._timeframe, open_times=np.concatenate([before, np.array(opens)]), values=values
        )

    def _script(self) -> dict[str, object]:
        lines = [
            {
                "at": moment(at).isoformat(),
                "symbol": symbol,
                "side": side,
                "stop": stop,
                "target": target,
                "minutes": int(candles) * self._timeframe.minutes,
            }
            for at, symbol, side, stop, target, candles in self.rows("signals")
        ]
        return {"class": f"{Script.__module__}:{Script.__name__}", "options": {"lines": lines}}


def moment(text: str) -> datetime:
    """Return the time that a table names."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def read_cases() -> list[Case]:
    """Read every case, in the order of the files."""
    cases: list[Case] = []
    for path in sorted(CASES.glob("*.yaml")):
        for found in yaml.load_all(path.read_text(), Loader=yaml.BaseLoader):  # which makes nothing but text
            content = cast("dict[str, Any]", found)
            assert content.keys() <= _KEYS, f"{path.name}: {content.keys() - _KEYS}"
            cases.append(Case(name=f"{path.stem[3:]}: {content['name']}", content=content))
    return cases
