"""What the market does, what was forecast of it, and whether that was right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go
from dash import ALL, ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from fxcast.adapters.storage.accounts import accounts
from fxcast.adapters.storage.fans import forecasting_models, newest_forecast, past_forecasts
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.signal_marks import SignalMarks, signal_marks
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import FxcastError, NotFound
from fxcast.trading.ports import PositionRecord
from fxcast.web.charts import chart, dressed
from fxcast.web.market_marks import signals_said
from fxcast.web.market_period import Period, View, moved, newest_period, view_of, within
from fxcast.web.market_view import Shown, bar_sentence, candles_since, hit_sentence, market_figure
from fxcast.web.page import LIVE, THEME, ZONE, Page, loading, mark, or_problem, when
from fxcast.web.sources import Sources
from fxcast.web.thinning import Bars, thin
from fxcast.web.times import zone_name, zone_of

_SYMBOL, _TIMEFRAME, _MODEL, _HORIZON = "market-symbol", "market-timeframe", "market-model", "market-horizon"
_ACCOUNT, _PATHS, _SIGNALS = "market-account", "market-paths", "market-signals"
_VIEW, _GRAPH = "market-view", "market-chart"
_NO_ACCOUNT = "none"
_LONGEST_MINUTES = 10_000_000  # of a horizon, which is asked for by hand: some twenty years
_Value = str | int | None  # of a dropdown
_NEWEST, _MOST_BARS, _MOST_MARKS, _OLD_CANDLES = 300, 1_500, 1_500, 3
_NO_CANDLES = "No candles are stored. Fetch some with python -m jobs.ingest, or follow the market with python -m jobs.stream."
_MOVES = {
    "newest": f"Newest {_NEWEST}",
    "forecast": "Newest forecast",
    "all": "All",
    "earlier": "← Earlier",
    "later": "Later →",
    "closer": "Closer",
    "wider": "Wider",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    symbol: str
    timeframe: Timeframe
    model: str | None
    horizon_minutes: int | None
    account: str | None
    with_paths: bool
    with_signals: bool


class _Candles:
    """Reads of the store, remembered until a candle is stored: many open pages ask for the same."""

    def __init__(self, store: CandleStore) -> None:
        self._store = store
        self.span = lru_cache(maxsize=64)(self._span)
        self.bars = lru_cache(maxsize=64)(self._bars)
        self.newest = lru_cache(maxsize=64)(self._newest)

    def _span(self, symbol: str, timeframe: Timeframe, _part: str) -> tuple[datetime, datetime] | None:
        return self._store.span(symbol, timeframe)

    def _bars(self, symbol: str, timeframe: Timeframe, _part: str, start: datetime, stop: datetime) -> Bars:
        return thin(self._store.read(symbol, timeframe, start, stop), _MOST_BARS)

    def _newest(self, symbol: str, timeframe: Timeframe, part: str, count: int) -> CandleSeries:
        """Return so many of the last candles; only the last months are read, unless there are holes."""
        span = self.span(symbol, timeframe, part)
        assert span is not None, "a series that has a part has candles"
        first, last = span
        back = timeframe.duration * count * 1.5 + timedelta(days=4)
        while True:
            series = self._store.read(symbol, timeframe, max(first, last - back))
            if len(series) >= count or last - back <= first:
                return series.slice(max(0, len(series) - count), len(series))
            back *= 4


def _layout() -> Component:
    switches = [
        html.Label([words, dcc.Dropdown(id=id_, clearable=False)])
        for words, id_ in (
            ("Symbol", _SYMBOL),
            ("Timeframe", _TIMEFRAME),
            ("Model", _MODEL),
            ("Past forecasts at", _HORIZON),
            ("Trades and signals of account", _ACCOUNT),
        )
    ]
    moves = [html.Button(words, id={"type": "market-move", "to": to}) for to, words in _MOVES.items()]
    paths = html.Button("Sampled paths", id=_PATHS, title="Show or hide the sampled paths of the newest forecast")
    signals = html.Button("Signals", id=_SIGNALS, title="Show or hide what the engine of the account decided")
    nothing = go.Figure(layout={"xaxis": {"visible": False}, "yaxis": {"visible": False}})
    said = "Candles with volume, forecasts, signals and trades; the sentences beside the chart say what it shows"
    return html.Div(
        [
            dcc.Store(id=_VIEW, data=asdict(View())),
            html.Div(switches, className="bar"),
            html.Div([*moves, paths, signals], className="bar"),
            html.Div(id="market-problem"),
            html.Section(
                [
                    html.Div(id="market-head"),
                    chart(dressed(nothing, None, height=560), said=said, id=_GRAPH),
                    html.Div(loading("the candles"), id="market-said"),
                ],
                id="market-panel",
                className="panel",
            ),
        ]
    )


def _register(app: Dash, sources: Sources) -> None:
    candles = _Candles(sources.candles)
    chosen = (_SYMBOL, _TIMEFRAME, _MODEL, _HORIZON, _ACCOUNT)

    @app.callback(
        output=[Output(each, part) for each in chosen for part in ("options", "value")],
        inputs={"_live": Input(LIVE, "data"), "values": [Input(each, "value") for each in chosen]},
        state={"before": [State(each, "options") for each in chosen]},
    )
    def known(_live: Any, values: list[_Value], before: list[Any]) -> list[Any]:  # noqa: ANN401  # Dash's own values
        answers: list[Any] = []
        for (options, value), old_options, old_value in zip(_choices(sources, values), before, values, strict=True):
            answers += [options if options != old_options else no_update, value if value != old_value else no_update]
        return answers

    @app.callback(
        output=[
            Output("market-problem", "children"),
            Output("market-panel", "hidden"),
            Output("market-head", "children"),
            Output(_GRAPH, "figure"),
            Output("market-said", "children"),
            Output(_VIEW, "data"),
        ],
        inputs={
            "kept": Input(_VIEW, "data"),
            "values": [Input(each, "value") for each in chosen],
            "paths": Input(_PATHS, "n_clicks"),
            "signals": Input(_SIGNALS, "n_clicks"),
            "_live": Input(LIVE, "data"),
            "zone_asked": Input(ZONE, "data"),
            "theme": Input(THEME, "data"),
        },
    )
    def body(
        kept: Any,  # noqa: ANN401  # Dash's own values, here and below
        values: list[_Value],
        paths: int | None,
        signals: int | None,
        _live: Any,  # noqa: ANN401
        zone_asked: str | None,
        theme: str | None,
    ) -> tuple[Any, ...]:
        def show() -> tuple[Any, ...]:
            choice = _choice(sources, values, with_paths=bool((paths or 0) % 2), with_signals=not (signals or 0) % 2)
            if choice is None:
                return html.P(_NO_CANDLES, className="empty panel"), True, None, no_update, None, no_update
            zone, asked = zone_of(zone_asked), view_of(kept)
            view = _stepped(sources, candles, choice, asked)
            shown, until, span = _shown(sources, candles, choice, view, zone_name(zone))
            figure, said = market_figure(shown, zone, theme), _said(shown, choice, until, zone)
            return None, False, _head(shown, span, zone), figure, said, no_update if view == asked else asdict(view)

        shown = or_problem("The market", show)()
        return (shown, True, None, no_update, None, no_update) if isinstance(shown, Component) else shown

    # What is asked for is written down in the browser, at once: the answer to an earlier wish then never comes after it.
    moved_by = (
        ("pan", Input(_GRAPH, "relayoutData"), (State(ZONE, "data"), State(_TIMEFRAME, "value"))),
        ("step", Input({"type": "market-move", "to": ALL}, "n_clicks"), ()),
    )
    for name, trigger, more in moved_by:
        wanted = Output(_VIEW, "data", allow_duplicate=True)
        app.clientside_callback(
            ClientsideFunction("fxcast", name), wanted, trigger, State(_VIEW, "data"), *more, prevent_initial_call=True
        )


def _choices(sources: Sources, values: list[_Value]) -> list[tuple[Any, Any]]:
    symbol, timeframe, model, horizon, account = values
    try:
        series = sources.series()
    except FxcastError:
        return [(no_update, value) for value in values]  # the body says what is wrong
    symbols = list(dict.fromkeys(each for each, _ in series))
    symbol = symbol if symbol in symbols else (symbols[0] if symbols else None)
    names = [each.name for owner, each in series if owner == symbol]
    timeframe = timeframe if timeframe in names else (names[0] if names else None)
    answers: list[tuple[Any, Any]] = [(symbols, symbol), (names, timeframe)]
    try:
        found = forecasting_models(sources.database, symbol=str(symbol), timeframe=str(timeframe))
        traded = [_NO_ACCOUNT, *(each.name for each in accounts(sources.database))]
    except FxcastError:
        return [*answers, *((no_update, value) for value in values[2:])]
    models = {each.version: each.horizons_minutes for each in found}
    model = model if model in models else next(iter(models), None)
    minutes = models.get(str(model), ())
    horizon = horizon if horizon in minutes else (minutes[0] if minutes else None)
    account = account if account in traded else traded[min(1, len(traded) - 1)]
    horizons = [{"label": f"{each:,} minutes", "value": each} for each in minutes]
    return [*answers, (list(models), model), (horizons, horizon), (traded, account)]


def _choice(sources: Sources, values: list[_Value], *, with_paths: bool, with_signals: bool) -> _Choice | None:
    symbol, timeframe, model, horizon, account = values
    series = {(owner, each.name): each for owner, each in sources.series()}
    if not series:
        return None
    key = next((each for each in series if each == (symbol, timeframe)), next(iter(series)))
    return _Choice(
        symbol=key[0],
        timeframe=series[key],
        model=model if isinstance(model, str) else None,
        horizon_minutes=horizon if isinstance(horizon, int) and 0 < horizon < _LONGEST_MINUTES else None,
        account=account if isinstance(account, str) and account != _NO_ACCOUNT else None,
        with_paths=with_paths,
        with_signals=with_signals,
    )


def _periods(
    sources: Sources, candles: _Candles, choice: _Choice, view: View
) -> tuple[Period, Period, Period, LDM4TSPrediction | None]:
    """Return what is to be seen, what the newest candles are in, what is stored, and the newest forecast."""
    symbol, timeframe = choice.symbol, choice.timeframe
    part = sources.candles.newest_parts().get((symbol, timeframe), "")
    span = candles.span(symbol, timeframe, part)
    if span is None:
        raise NotFound("series", f"{symbol} {timeframe}", "one that has candles")
    newest = _forecast(sources, choice, None)
    home = newest_period(candles.newest(symbol, timeframe, part, _NEWEST), newest)
    asked = view.period if view.timeframe == timeframe.name else None
    return (home if asked is None else within(asked, span, timeframe.duration)), home, span, newest


def _stepped(sources: Sources, candles: _Candles, choice: _Choice, view: View) -> View:
    """Return a view after the buttons that were pressed."""
    for step in view.steps:
        period, home, span, newest = _periods(sources, candles, choice, view)
        view = moved(view, step, period, home, span, newest, choice.timeframe)
    return view


def _shown(sources: Sources, candles: _Candles, choice: _Choice, view: View, zone: str) -> tuple[Shown, datetime, Period]:
    """Return what is to be shown, until when its forecast was looked for, and what is stored."""
    symbol, timeframe = choice.symbol, choice.timeframe
    (start, stop), _, span, newest = _periods(sources, candles, choice, view)
    part = sources.candles.newest_parts().get((symbol, timeframe), "")
    margin = (stop - start) / 2
    bars = candles.bars(symbol, timeframe, part, start - margin, stop + margin)
    # With the last candle in view, the newest forecast; in the past, one that leaves room for what happened then.
    until = span[1] if stop >= span[1] else start + 0.8 * (stop - start)
    fan = newest if newest is not None and newest.made_at <= until else _forecast(sources, choice, until)
    past = None
    if choice.model is not None and choice.horizon_minutes is not None:
        past = past_forecasts(
            sources.database,
            symbol=symbol,
            timeframe=timeframe.name,
            model_version=choice.model,
            horizon_minutes=choice.horizon_minutes,
            since=start,
            until=stop,
            at_most=_MOST_MARKS,
        )
    shown = Shown(
        symbol=symbol,
        timeframe=timeframe,
        start=start,
        stop=stop,
        bars=bars,
        fan=fan,
        with_paths=choice.with_paths,
        past=past,
        horizon_minutes=choice.horizon_minutes,
        trades=_trades(sources, choice, start, stop),
        signals=_signals(sources, choice, start, stop),
        revision=f"{symbol} {timeframe} {zone} {view.turn}",
    )
    return shown, until, span


def _forecast(sources: Sources, choice: _Choice, until: datetime | None) -> LDM4TSPrediction | None:
    if choice.model is None:
        return None
    return newest_forecast(
        sources.database, symbol=choice.symbol, timeframe=choice.timeframe, model_version=choice.model, until=until
    )


def _trades(sources: Sources, choice: _Choice, start: datetime, stop: datetime) -> tuple[PositionRecord, ...]:
    if choice.account is None:
        return ()
    return tuple(
        each
        for each in SqlLedger(sources.database, choice.account).positions()
        if each.position.symbol == choice.symbol
        and each.position.opened_at < stop
        and (each.closed_at is None or each.closed_at >= start)
    )[-_MOST_MARKS:]


def _signals(sources: Sources, choice: _Choice, start: datetime, stop: datetime) -> SignalMarks | None:
    if choice.account is None or not choice.with_signals:
        return None
    return signal_marks(sources.database, choice.account, symbol=choice.symbol, since=start, before=stop, at_most=_MOST_MARKS)


def _head(shown: Shown, span: tuple[datetime, datetime], zone: tzinfo) -> list[Component]:
    stored: list[Any] = [
        f"{bar_sentence(shown.bars, shown.timeframe)} Stored from ",
        when(span[0], zone),
        " to ",
        when(span[1], zone),
    ]
    words = f". Times in {zone_name(zone)}. Drag to move, turn the wheel or pinch to zoom."
    return [html.H2(f"{shown.symbol} {shown.timeframe}"), html.P([*stored, words], className="note")]


def _said(shown: Shown, choice: _Choice, until: datetime, zone: tzinfo) -> Component:
    fan, lines = shown.fan, list[Any]()
    if fan is None:
        lines.append(
            "No forecast of this symbol and timeframe is stored that was made by then; an engine or the service stores them."
        )
    else:
        behind = candles_since(fan, shown.bars, until)
        of: list[Any] = [f"Forecast of model {fan.model_version}, made ", when(fan.made_at, zone), f" at {fan.price:.5g}. "]
        if behind > _OLD_CANDLES:
            of += [mark("old", "warn"), f" {behind:,} candles have closed since. "]
        of.append(
            "The price is expected in the light band in 90 of 100 cases, in the darker one in 50; diamonds are the mean. "
            f"It is known at {', '.join(f'{each:,}' for each in fan.horizons)} minutes of open market; lines between join them."
        )
        lines.append(of)
        if shown.with_paths:
            lines.append(
                "Sampled paths: the database keeps the sampled prices of each horizon in order of size, not the paths themselves; "
                "each thin line joins the samples of equal rank."
                if any(each.samples for each in fan.horizons.values())
                else "No samples were stored with this forecast."
            )
    if shown.past is not None and shown.horizon_minutes is not None:
        lines.append(hit_sentence(shown.past, shown.horizon_minutes))
    if shown.signals is not None and choice.account is not None:
        lines.append(signals_said(shown.signals, shown.symbol, choice.account))
    lines.append("A forecast and its outcome stand at the candle at whose close they are due. Hollow candles rose, filled fell.")
    return html.Div([html.P(line) for line in lines])


MARKET = Page(path="", title="Market", layout=_layout, register=_register)
