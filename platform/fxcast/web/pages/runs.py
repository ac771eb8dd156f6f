"""Runs: how far each is, what came of it and its report; and how to start and stop one."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.registry import ANY_SYMBOL, list_models
from fxcast.adapters.storage.runs import list_backtests, list_searches, list_walk_forwards
from fxcast.web.evaluations import list_evaluations
from fxcast.web.page import LIVE, ZONE, CellT, Page, loading, mark, or_problem, panel, table, when
from fxcast.web.reports import ReportKind, report_path
from fxcast.web.runs_jobs import cluster_panel
from fxcast.web.runs_start import SAID, register_start, start_layout
from fxcast.web.runs_view import duration, folds_left_s, folds_said, ratio, share, trials_left_s, trials_said
from fxcast.web.sources import Sources
from fxcast.web.times import zone_name, zone_of

_BODY, _JOBS, _TICK = "runs-body", "runs-jobs", "runs-tick"
_SHOWN = 50
_TICK_MS = 5_000  # the cluster tells nobody that a job has begun, got on or ended


def _layout() -> Component:
    return html.Div(
        [
            start_layout(),
            dcc.Interval(id=_TICK, interval=_TICK_MS),
            html.Div(loading("the jobs of the cluster"), id=_JOBS),
            html.Div(loading("the list of runs"), id=_BODY),
        ]
    )


def _register(app: Dash, sources: Sources) -> None:
    prefix = str(app.config.routes_pathname_prefix).rstrip("/")
    register_start(app, sources)

    @app.callback(Output(_JOBS, "children"), Input(_TICK, "n_intervals"), Input(SAID, "children"), Input(ZONE, "data"))
    def jobs(_: Any, __: Any, zone: str | None) -> Component | None:  # noqa: ANN401  # Dash's own values
        return or_problem("The list of the cluster's jobs", cluster_panel)(sources, zone_of(zone))

    @app.callback(Output(_BODY, "children"), Input(LIVE, "data"), Input(ZONE, "data"))
    def body(_: Any, zone: str | None) -> Component:  # noqa: ANN401  # Dash's own value
        return or_problem("the list of runs", _body)(sources, zone_of(zone), prefix)


def _body(sources: Sources, zone: tzinfo, prefix: str) -> Component:
    return html.Div(
        [
            _trainings(sources, zone),
            _searches(sources, zone, prefix),
            _walk_forwards(sources, zone, prefix),
            _backtests(sources, zone, prefix),
            _evaluations(sources, zone, prefix),
        ]
    )


def _trainings(sources: Sources, zone: tzinfo) -> Component:
    with answered(sources.database):
        listed = list_models(sources.database)[:_SHOWN]
    rows: list[list[CellT]] = []
    for each in listed:
        model = each.model
        steps, took, skill = (model.metrics.get(name) for name in ("step", "seconds", "validation_crps_skill"))
        rows.append(
            [
                model.version,
                model.preset,
                _market("all pairs" if model.symbol == ANY_SYMBOL else model.symbol, model.timeframe),
                f"{model.data_start:%Y-%m-%d} to {model.data_end:%Y-%m-%d}",
                f"{steps:,}" if isinstance(steps, int) else None,
                duration(took) if isinstance(took, int | float) else None,
                share(skill if isinstance(skill, int | float) else None),
                when(each.created_at, zone),
            ]
        )
    columns = ["model", "kind", "market", "learned from", "steps", "took", "CRPS skill", "registered"]
    note = "Those that have registered their model; what they were worth is on page Models. CRPS skill: in validation."
    empty = "No model has been trained yet: python -m jobs.train --config configs/train.yaml."
    return panel("Trainings", table(columns, rows, empty=empty, numbers=("steps", "took", "CRPS skill")), note=note)


def _evaluations(sources: Sources, zone: tzinfo, prefix: str) -> Component:
    rows: list[list[CellT]] = []
    for each in list_evaluations(sources.home, limit=_SHOWN):
        skills = "; ".join(f"{share(value)} against {opponent}" for opponent, value in each.skills)
        told = "; ".join(each.warnings) or each.problem
        rows.append(
            [
                each.model or each.id,
                _market(",".join(each.symbols), each.timeframe),
                each.period or None,
                skills or None,
                told or None,
                when(each.made_at, zone),
                _report(prefix, "evaluation", each.id, has_report=each.has_report),
            ]
        )
    columns = ["model", "market", "period", "CRPS skill", "caution", "made", "report"]
    empty = "No evaluation yet: python -m jobs.evaluate --config configs/evaluate.yaml."
    note = "CRPS skill: how much lower the score is than the opponent's, over all symbols and horizons; above zero is better."
    return panel("Evaluations", table(columns, rows, empty=empty, wide=("CRPS skill", "caution")), note=note)


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


def _report(prefix: str, kind: ReportKind, run_id: str, *, has_report: bool) -> CellT:
    return html.A("open", href=report_path(prefix, kind, run_id), target="_blank") if has_report else None


RUNS = Page(path="runs", title="Runs", layout=_layout, register=_register)
