"""What a backtest found, as a folder: one HTML file that no link leads out of, its pictures, and the data behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxcast.domain.candle import CandleSeries
from fxcast.domain.signal import Verdict
from fxcast.performance import charts_candles, charts_equity, charts_quality, charts_trades, export, measure_table
from fxcast.performance.measures import Costs, Findings, Group, Luck
from fxcast.performance.page import render
from fxcast.performance.pictures import Picture
from fxcast.performance.wording import count, money, number, percent, probability


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pictures:
    """By the section of the page that they stand in."""

    equity: Sequence[Picture] = ()
    candles: Sequence[Picture] = ()
    months: Sequence[Picture] = ()
    trades: Sequence[Picture] = ()
    order: Sequence[Picture] = ()


def write_report(folder: Path, findings: Findings, *, candles: Mapping[str, CandleSeries]) -> None:
    """Write report.html, pictures/*.png, findings.json, trades.parquet and equity.parquet.

    Args:
        folder: Made if it is missing; what an earlier report left there under these names is replaced.
        findings: Of the run.
        candles: By symbol, of the run's timeframe; a symbol without any gets no picture of its trades.
    """
    pictures = _draw(folder / "pictures", findings, candles)
    text = render(
        "fxcast.performance",
        "report.html.jinja",
        findings=findings,
        result=findings.result,
        subtitle=_subtitle(findings),
        measures=(measure_table.columns(findings), measure_table.rows(findings)),
        compared_with=[benchmark.title for benchmark in measure_table.compared_with(findings)],
        differences=measure_table.difference_rows(findings),
        pictures=pictures,
        folds=[list(findings.folds[0]), *(list(fold.values()) for fold in findings.folds)] if findings.folds else [],
        groups=[(head, _group_rows(findings, kind)) for kind, head in _GROUP_HEADS.items() if findings.groups.get(kind)],
        group_columns=_group_columns(findings.result.currency),
        costs=_cost_rows(findings),
        luck=_luck_rows(findings.luck),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(text, encoding="utf-8")
    export.write_json(folder / "findings.json", findings)
    export.write_trades(folder / "trades.parquet", findings.trades)
    export.write_equity(folder / "equity.parquet", findings.result.equity)


_GROUP_HEADS = {
    "month": "By month",
    "symbol": "By symbol",
    "source": "By source",
    "regime": "By regime",
    "hour": "By hour of opening, New York",
}


def _draw(folder: Path, findings: Findings, candles: Mapping[str, CandleSeries]) -> _Pictures:
    for old in folder.glob("*.png"):  # of an earlier report, whose symbols may have been others
        old.unlink()
    has_equity, has_trades, order = len(findings.result.equity) > 0, len(findings.trades) > 0, findings.luck.trade_order
    return _Pictures(
        equity=[charts_equity.equity(folder / "equity.png", findings)] if has_equity else [],
        candles=charts_candles.trades_on_candles(folder, findings, candles),
        months=[charts_equity.months(folder / "months.png", findings)] if has_equity else [],
        trades=[
            charts_trades.distribution(folder / "trades.png", findings),
            charts_quality.quality(folder / "quality.png", findings.trades),
        ]
        if has_trades
        else [],
        order=[charts_trades.trade_order(folder / "trade-order.png", order)] if order is not None else [],
    )


def _subtitle(findings: Findings) -> str:
    result = findings.result
    signals = findings.counts.get("signals", len(result.signals))
    accepted = findings.counts.get("signals_accepted", sum(decided.verdict is Verdict.ACCEPTED for decided in result.signals))
    missed = f"; {count(result.forecasts_missed, 'forecast')} asked for in vain" if result.forecasts_missed else ""
    return (
        f"{', '.join(result.symbols)} {result.timeframe}, {result.start:%d %B %Y %H:%M} to {result.stop:%d %B %Y %H:%M} UTC "
        f"({number(findings.measures.years, 1)} years); {count(result.candles, 'candle')}, {count(signals, 'signal')}, "
        f"{accepted:,} of them accepted, {count(len(findings.trades), 'trade')}; started with "
        f"{money(float(result.starting_balance), result.currency)}{missed}"
    )


def _group_columns(currency: str) -> list[str]:
    amounts = ("spread", "slippage", "commission", "financing", "all costs")
    return ["", "trades", f"net, {currency}", "win rate", "profit factor", f"expectancy, {currency}", *amounts]


def _group_rows(findings: Findings, kind: str) -> list[list[str]]:
    groups = findings.groups[kind]
    rows = {group.label: _group_row(group) for group in groups}
    if kind != "month" or not len(findings.result.equity):
        return list(rows.values())
    # A month in which nothing was traded is a finding too.
    months = {str(month) for month in np.unique(charts_equity.trading_months(findings.result.equity.times))}
    empty = len(_group_columns("")) - 2
    return [rows.get(month, [month, "no trades", *[""] * empty]) for month in sorted(months | rows.keys())]


def _group_row(group: Group) -> list[str]:
    return [
        group.label.replace("_", " "),
        f"{group.trades:,}",
        money(group.net, signed=True),
        percent(group.win_rate),
        number(group.profit_factor),
        money(group.expectancy, signed=True),
        *_amounts(group.costs),
    ]


def _amounts(costs: Costs) -> list[str]:
    financing = money(-costs.financing)  # as a cost, as the others are
    return [money(costs.spread), money(costs.slippage), money(costs.commission), financing, money(costs.total)]


def _cost_rows(findings: Findings) -> list[list[str]]:
    """Return what was paid for what, a trade, and as a share of the starting balance."""
    costs, start, trades = findings.measures.costs, float(findings.result.starting_balance), findings.measures.trades
    amounts = {
        "spread": costs.spread,
        "slippage": costs.slippage,
        "commission": costs.commission,
        "financing paid" if costs.financing <= 0 else "financing received": -costs.financing,
        "all": costs.total,
    }
    currency = findings.result.currency
    return [
        [name, money(amount, currency), money(amount / trades if trades else None, currency), percent(amount / start, 2)]
        for name, amount in amounts.items()
    ]


def _luck_rows(luck: Luck) -> list[tuple[str, str]]:
    return [
        ("Settings tried on this market, this one included", f"{luck.trials:,}"),
        ("Sharpe ratio of the best of so many without any skill", number(luck.expected_best_sharpe)),
        ("Probability that the true Sharpe ratio is above that (deflated Sharpe ratio)", probability(luck.deflated_sharpe)),
    ]
