"""Searches, walk-forwards and backtests: how far each is, what came of it, and its report."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from dash import Dash, Input, Output, html
from dash.development.base_component import Component

from fxcast.adapters.storage.runs import RunKind, list_backtests, list_searches, list_walk_forwards
from fxcast.web.page import LIVE, ZONE, CellT, Page, mark, or_problem, panel, table, when
from fxcast.web.reports import report_path
from fxcast.web.runs_view import duration, folds_left_s, folds_said, ratio, share, trials_left_s, trials_said
from fxcast.web.sources import Sources
from fxcast.web.times import zone_name, zone_of

_BODY = "runs-body"
_SHOWN = 50


def _layout() -> Component:
    return html.Div(id=_BODY)


def _register(app: Dash, sources: Sources) -> None:
    prefix = str(app.config.routes_pathname_prefix).rstrip("/")

    @app.callback(Output(_BODY, "children"), Input(LIVE, "data"), Input(ZONE, "data"))
    def body(_: Any, zone: str | None) -> Component:  # noqa: ANN401  # Dash's own value
        return or_problem("the list of runs", _body)(sources, zone_of(zone), prefix)


def _body(sources: Sources, zone: tzinfo, prefix: str) -> Component:
    return html.Div([_searches(sources, zone, prefix), _walk_forwards(sources, zone, prefix), _backtests(sources, zone, prefix)])


def _searches(sources: Sources, zone: tzinfo, prefix: str) -> Component:
    rows: list[list[CellT]] = []
    for each in list_searches(sources.database, limit=_SHOWN):
        left = trials_left_s(each)
        if each.finished_at is not None:
            state = mark("promote" if each.promotes else "keep the default", "good" if each.promotes else "plain")
        else:
            state = mark("not finished", "warn")
        rows.append(
            [
                each.name,
                _market(each.symbols, each.timeframe),
                each.level,
                trials_said(each),
                duration(each.seconds),
                None if left is None else duration(left),
                state,
                each.verdict or None,
                when(each.begun_at, zone),
                _report(prefix, "search", each.id, has_report=each.has_report),
            ]
        )
    columns = ["name", "market", "level", "trials", "spent", "left", "verdict", "why", "begun", "report"]
    shown = table(columns, rows, empty="No search yet: python -m jobs.tune --config configs/tune.yaml.", wide=("trials", "why"))
    return panel("Searches", shown, note=f"Newest first. Left: for its trials, without the guard. Times in {zone_name(zone)}.")


def _walk_forwards(sources: Sources, zone: tzinfo, prefix: str) -> Component:
    rows: list[list[CellT]] = []
    for each in list_walk_forwards(sources.database, limit=_SHOWN):
        left = folds_left_s(each, sources.now())
        state = mark("finished", "good") if each.finished_at is not None else mark("not finished", "warn")
        rows.append(
            [
                each.name,
                _market(each.symbols, each.timeframe),
                folds_said(each),
                None if left is None else duration(left),
                state,
                "; ".join(each.problems) or None,
                when(each.begun_at, zone),
                _report(prefix, "walk-forward", each.id, has_report=each.has_report),
            ]
        )
    columns = ["name", "market", "folds", "left", "state", "what failed", "begun", "report"]
    empty = "No walk-forward yet: python -m jobs.walk_forward --config configs/walk_forward.yaml."
    return panel("Walk-forwards", table(columns, rows, empty=empty, wide=("folds", "what failed")))


def _backtests(sources: Sources, zone: tzinfo, prefix: str) -> Component:
    rows: list[list[CellT]] = [
        [
            each.name,
            _market(each.symbols, each.timeframe),
            f"{each.start:%Y-%m-%d} to {each.stop:%Y-%m-%d}",
            f"{each.trades:,}",
            share(each.total_return),
            ratio(each.sharpe),
            None if each.deflated_sharpe is None else f"{each.deflated_sharpe:.0%}",
            share(None if each.max_drawdown is None else -each.max_drawdown),
            mark("model has seen it", "bad") if each.seen_by_model else None,
            when(each.made_at, zone),
            _report(prefix, "backtest", each.id, has_report=each.has_report),
        ]
        for each in list_backtests(sources.database, limit=_SHOWN)
    ]
    columns = ["name", "market", "period", "trades", "return", "Sharpe", "deflated", "drawdown", "caution", "made", "report"]
    empty = "No backtest yet: python -m jobs.backtest --config configs/backtest.yaml."
    note = "Deflated: the probability that the true Sharpe ratio is above the best that so many trials find without skill."
    numbers = ("trades", "return", "Sharpe", "deflated", "drawdown")
    return panel("Backtests", table(columns, rows, empty=empty, numbers=numbers), note=note)


def _market(symbols: str, timeframe: str) -> str:
    return f"{symbols.replace(',', ', ')} {timeframe}"


def _report(prefix: str, kind: RunKind, run_id: str, *, has_report: bool) -> CellT:
    return html.A("open", href=report_path(prefix, kind, run_id), target="_blank") if has_report else None


RUNS = Page(path="runs", title="Runs", layout=_layout, register=_register)
