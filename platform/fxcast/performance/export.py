"""Findings as data for other programs: JSON, and trades and equity as Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fxcast.backtest.result import BacktestResult, EquityCurve
from fxcast.domain.candle import TimeArray, to_datetime64
from fxcast.domain.signal import DIMENSIONS, Verdict
from fxcast.performance.measures import Findings, Measures
from fxcast.performance.trade import Trade

# Ten places lie far below a cent or a pipette, and leave room for whatever an account can hold.
_DECIMAL, _TIME = pa.decimal128(38, 10), pa.timestamp("s", tz="UTC")
_STEP = Decimal(1).scaleb(-10)
_MONEY = ("profit", "commission", "financing", "spread_cost", "slippage_cost", "net", "risk")
_TRADES = pa.schema(
    {
        "order_id": pa.string(),
        "symbol": pa.string(),
        "side": pa.string(),
        "units": _DECIMAL,
        "opened_at": _TIME,
        "closed_at": _TIME,
        "entry_price": _DECIMAL,
        "exit_price": _DECIMAL,
        "exit_reason": pa.string(),
        **dict.fromkeys(_MONEY, _DECIMAL),
        "r_multiple": pa.float64(),
        "source": pa.string(),
        "regime": pa.string(),
        "horizon_minutes": pa.int64(),
        "strength": pa.float64(),
        "uncertainty_pct": pa.float64(),
        **{f"quality_{name}": pa.float64() for name in DIMENSIONS},
        "weighted_mean": pa.float64(),
        "uncertainty_penalty": pa.float64(),
        "quality_total": pa.float64(),
        "base_units": _DECIMAL,
    }
)
_EQUITY = pa.schema({"times": _TIME, "balance": pa.float64(), "open_profit": pa.float64(), "exposure": pa.float64()})


def to_dict(findings: Findings) -> dict[str, Any]:
    """Return plain JSON types: shares are of 1, money is in the account's currency, what can't be told is None."""
    content = {
        "run": {**_run(findings.result), **findings.counts},
        "verdicts": list(findings.verdicts),
        "warnings": list(findings.warnings),
        "measures": measures_to_dict(findings.measures),
        "benchmarks": {
            benchmark.key: {
                "title": benchmark.title,
                "measures": measures_to_dict(benchmark.measures),
                "differences": {
                    each.measure: {"ours": each.ours, "theirs": each.theirs, **asdict(each.difference)}
                    for each in benchmark.differences
                },
            }
            for benchmark in findings.benchmarks
        },
        "luck": asdict(findings.luck),
        "groups": {
            kind: [{**asdict(group), "costs": {**asdict(group.costs), "total": group.costs.total}} for group in groups]
            for kind, groups in findings.groups.items()
        },
        "facts": dict(findings.facts),
        "command": findings.command,
        **({"folds": [dict(fold) for fold in findings.folds]} if findings.folds else {}),
    }
    return plain(content)


def write_json(path: Path, findings: Findings) -> None:
    """Write `to_dict` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_dict(findings), indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def write_trades(path: Path, trades: Sequence[Trade]) -> None:
    """Write a row a trade: money, prices and units as decimals with ten places, times to the second in UTC.

    Parquet knows no seconds, and keeps them as milliseconds. `strength` is the signal's; the dimensions of its quality are
    called `quality_consistency` and so on.
    """
    _write(path, pa.table(_trade_columns(trades), schema=_TRADES))


def write_equity(path: Path, equity: EquityCurve) -> None:
    """Write a row a moment: times in UTC, balance, open profit and exposure in account currency."""
    columns = {field.name: getattr(equity, field.name) for field in _EQUITY}
    _write(path, pa.table(columns, schema=_EQUITY))


def _run(result: BacktestResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "symbols": list(result.symbols),
        "timeframe": result.timeframe,
        "start": result.start.isoformat(),
        "stop": result.stop.isoformat(),
        "currency": result.currency,
        "starting_balance": str(result.starting_balance),
        "final_equity": float(result.equity.equity[-1]) if len(result.equity) else None,
        "candles": result.candles,
        "orders": len(result.orders),
        "signals": len(result.signals),
        "signals_accepted": sum(decided.verdict is Verdict.ACCEPTED for decided in result.signals),
        "forecasts_missed": result.forecasts_missed,
        "risk_events": len(result.risk_events),
    }


def measures_to_dict(measures: Measures) -> dict[str, Any]:
    """Return measures by name, with what all costs make together."""
    return {**asdict(measures), "costs": {**asdict(measures.costs), "total": measures.costs.total}}


def plain(value: Any) -> Any:  # noqa: ANN401  # whatever JSON can hold
    """Turn numpy's numbers into Python's, tuples into lists, and what is not finite into None: JSON has no word for it."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _trade_columns(trades: Sequence[Trade]) -> dict[str, Sequence[Any] | TimeArray]:
    signals = [trade.signal for trade in trades]
    return {
        "order_id": [trade.order_id for trade in trades],
        "symbol": [trade.symbol for trade in trades],
        "side": [trade.side.value for trade in trades],
        "units": _decimals(trade.units for trade in trades),
        "opened_at": _times(trade.opened_at for trade in trades),
        "closed_at": _times(trade.closed_at for trade in trades),
        "entry_price": _decimals(trade.entry_price for trade in trades),
        "exit_price": _decimals(trade.exit_price for trade in trades),
        "exit_reason": [str(trade.exit_reason) for trade in trades],
        **{name: _decimals(getattr(trade, name) for trade in trades) for name in _MONEY},
        "r_multiple": [trade.r_multiple for trade in trades],
        "source": [trade.source for trade in trades],
        "regime": [signal.regime.value for signal in signals],
        "horizon_minutes": [signal.horizon_minutes for signal in signals],
        "strength": [signal.strength for signal in signals],
        "uncertainty_pct": [signal.uncertainty_pct for signal in signals],
        **{f"quality_{name}": [getattr(signal.quality, name) for signal in signals] for name in DIMENSIONS},
        "weighted_mean": [signal.quality.weighted_mean for signal in signals],
        "uncertainty_penalty": [signal.quality.uncertainty_penalty for signal in signals],
        "quality_total": [signal.quality.total for signal in signals],
        "base_units": _decimals(trade.base_units for trade in trades),
    }


def _times(moments: Iterable[datetime]) -> TimeArray:
    return np.array([to_datetime64(moment) for moment in moments], dtype="datetime64[s]")


def _decimals(values: Iterable[Decimal]) -> list[Decimal]:
    with localcontext(prec=38):  # the default of 28 digits refuses large numbers with ten places
        return [value.quantize(_STEP, rounding=ROUND_HALF_EVEN) for value in values]


def _write(path: Path, rows: Any) -> None:  # noqa: ANN401  # a pyarrow table, of which it publishes no type
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd")
