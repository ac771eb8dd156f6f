"""Which models there are, what each was worth at training and since, and which is in use."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from fxcast.adapters.storage.model_history import forecast_kinds, models_that_forecast, quality_history
from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.quality import ModelQuality, newest_quality
from fxcast.adapters.storage.recent import ForecastKind, RecentForecast, recent_forecasts
from fxcast.adapters.storage.registry import ANY_SYMBOL, ListedModel, list_models
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, FxcastError, NotFound, StoreUnavailable
from fxcast.web.charts import chart, dressed
from fxcast.web.models_view import (
    LIVE_COLUMNS,
    LiveScores,
    drift_figure,
    in_place_of,
    kind_words,
    live_scores,
    measured_on,
    pit_figure,
    training_scores,
)
from fxcast.web.page import LIVE, THEME, ZONE, Page, loading, mark, or_problem, panel, table, when
from fxcast.web.roles import Role, caller
from fxcast.web.sources import Sources
from fxcast.web.times import clock_time, zone_name, zone_of

_MODEL, _KIND, _REGISTRY, _BODY = "models-model", "models-kind", "models-registry", "models-body"
_ASKED, _SAID = "models-asked", "models-said"
_WINDOW = 500  # forecasts that are scored where jobs.outcomes has not scored them: as many as it does
_POINTS = 1_000  # of the chart over time
_CLOSED = timedelta(days=5)  # weekends and holidays that a window of candles may reach across
_REMEMBERED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A kind of forecast, with what it was worth; `live` is None while no outcome is known."""

    kind: ForecastKind
    quality: ModelQuality | None
    live: LiveScores | None


class _Scores:
    """Scores kinds of forecasts, and remembers those whose stored row has not changed: a page is drawn at each candle."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._known: dict[ModelQuality, LiveScores] = {}
        self._lock = threading.Lock()

    def of(self, version: str) -> tuple[_Scored, ...]:
        database = self._sources.database
        with answered(database):
            found = newest_quality(database, model_version=version)
        newest = {(each.symbol, each.timeframe, each.horizon_minutes): each for each in found}
        kinds = forecast_kinds(database, version)
        return tuple(self._scored(kind, newest.get((kind.symbol, kind.timeframe, kind.horizon_minutes))) for kind in kinds)

    def _scored(self, kind: ForecastKind, quality: ModelQuality | None) -> _Scored:
        if quality is not None and (known := self._known.get(quality)) is not None:
            return _Scored(kind=kind, quality=quality, live=known)
        limit = _WINDOW if quality is None else quality.scores.forecasts
        forecasts = recent_forecasts(self._sources.database, kind, limit=limit)
        if not forecasts:
            return _Scored(kind=kind, quality=quality, live=None)
        live = live_scores(
            forecasts,
            kind.horizon_minutes,
            symbol=kind.symbol,
            stored=None if quality is None else quality.scores,
            candles=self._candles(kind, forecasts),
        )
        if quality is not None and live.walk is not None:  # without the walk, its candles may still come
            with self._lock:
                self._known[quality] = live
                while len(self._known) > _REMEMBERED:
                    del self._known[next(iter(self._known))]
        return _Scored(kind=kind, quality=quality, live=live)

    def _candles(self, kind: ForecastKind, forecasts: Sequence[RecentForecast]) -> CandleSeries | None:
        timeframe = Timeframe(kind.timeframe)
        reach = CONTEXT_BARS * timeframe.duration * 2 + _CLOSED
        try:
            return self._sources.candles.read(
                kind.symbol, timeframe, forecasts[0].made_at - reach, forecasts[-1].made_at + timeframe.duration
            )
        except (BadCandles, StoreUnavailable):
            return None  # the table says that there are no candles to compare with


def _layout() -> Component:
    return html.Div(
        [
            dcc.Store(id=_ASKED),
            html.Div(id="models-confirm"),
            dcc.Loading(html.Div(id=_SAID, role="status"), type="dot"),
            html.Div(loading("the registry"), id=_REGISTRY),
            html.Div(
                [
                    html.Label(["Model", dcc.Dropdown(id=_MODEL, clearable=False)]),
                    html.Label(["Forecasts in the charts", dcc.Dropdown(id=_KIND, clearable=False)]),
                ],
                className="bar",
            ),
            html.Div(id=_BODY),
        ]
    )


def _register(app: Dash, sources: Sources) -> None:
    scores = _Scores(sources)

    @app.callback(Output(_REGISTRY, "children"), Input(LIVE, "data"), Input(ZONE, "data"))
    def registry(_: Any, zone: str | None) -> Component:  # noqa: ANN401  # Dash's own values
        return or_problem("the registry", _registry)(sources, zone_of(zone))

    @app.callback(
        Output(_MODEL, "options"), Output(_MODEL, "value"), Input(LIVE, "data"), State(_MODEL, "value"), State(_MODEL, "options")
    )
    def versions(_: Any, chosen: str | None, before: list[str] | None) -> tuple[Any, Any]:  # noqa: ANN401
        try:
            listed, known = _known(sources)
        except FxcastError:
            return no_update, no_update  # the registry says what is wrong
        registered = [each.model.version for each in listed]
        names = [*registered, *(name for name in known if name not in registered)]
        in_use = next((each.model.version for each in listed if each.is_active), None)
        value = chosen if chosen in names else in_use or (names[0] if names else None)
        return (names if names != before else no_update), (value if value != chosen else no_update)

    @app.callback(
        Output(_KIND, "options"),
        Output(_KIND, "value"),
        Input(_MODEL, "value"),
        Input(LIVE, "data"),
        State(_KIND, "value"),
        State(_KIND, "options"),
    )
    def kinds(version: str | None, _: Any, chosen: str | None, before: list[str] | None) -> tuple[Any, Any]:  # noqa: ANN401
        try:
            names = [] if version is None else [kind_words(each) for each in forecast_kinds(sources.database, version)]
        except FxcastError:
            return no_update, no_update
        value = chosen if chosen in names else (names[0] if names else None)
        return (names if names != before else no_update), (value if value != chosen else no_update)

    @app.callback(
        Output(_BODY, "children"),
        Input(_MODEL, "value"),
        Input(_KIND, "value"),
        Input(LIVE, "data"),
        Input(ZONE, "data"),
        Input(THEME, "data"),
    )
    def body(version: str | None, kind: str | None, _: Any, zone: str | None, theme: str | None) -> Component | None:  # noqa: ANN401
        if version is None:
            return None
        return or_problem("the model's scores", _body)(sources, scores, version, kind, zone_of(zone), theme)

    @app.callback(Output(_ASKED, "data"), Input({"type": "activate", "version": ALL}, "n_clicks"), prevent_initial_call=True)
    def ask(clicks: list[int | None]) -> Any:  # noqa: ANN401
        pressed = ctx.triggered_id
        return pressed["version"] if any(clicks) and isinstance(pressed, dict) else no_update

    @app.callback(Output("models-confirm", "children"), Input(_ASKED, "data"))
    def confirm(asked: str | None) -> Any:  # noqa: ANN401
        return or_problem("the registry", _confirm)(sources, asked) if asked else None

    @app.callback(
        Output(_SAID, "children"),
        Output(_ASKED, "data", allow_duplicate=True),
        Input("models-activate", "n_clicks"),
        Input("models-cancel", "n_clicks"),
        State(_ASKED, "data"),
        prevent_initial_call=True,
    )
    def activate(pressed: int | None, cancelled: int | None, asked: str | None) -> tuple[Any, Any]:
        if not (pressed or cancelled) or asked is None:
            return no_update, no_update
        if ctx.triggered_id == "models-cancel":
            return "Nothing was changed.", None
        try:
            return _activate(sources, asked), None
        except FxcastError as error:
            return _refused(asked, str(error)), None


def _known(sources: Sources) -> tuple[tuple[ListedModel, ...], dict[str, datetime]]:
    database = sources.database
    with answered(database):
        return list_models(database), models_that_forecast(database)


def _found(listed: Sequence[ListedModel], version: str) -> ListedModel:
    for each in listed:
        if each.model.version == version:
            return each
    raise NotFound("model", version, "those of the registry")


def _label(said: str) -> dict[str, Any]:
    return {"aria-label": said}


def _wrapped(words: str) -> Component:
    return html.Div(words, style={"whiteSpace": "normal", "minWidth": "150px"})


def _pair(symbol: str) -> str:
    return "every other pair" if symbol == ANY_SYMBOL else symbol


def _registry(sources: Sources, zone: tzinfo) -> Component:
    listed, last = _known(sources)
    may = caller.get().role >= Role.ADMIN
    rows: list[list[Any]] = []
    for each in listed:
        model, instead = each.model, in_place_of(each, listed)
        does = "Roll back to it" if instead is not None and each.created_at < instead.created_at else "Put to use"
        button = html.Button(
            does, id={"type": "activate", "version": model.version}, disabled=not may, **_label(f"{does}: {model.version}")
        )
        rows.append(
            [
                model.version,
                mark("in use", "good") if each.is_active else mark("not in use", "plain"),
                None if each.is_active else button,
                when(last.get(model.version), zone),
                model.preset,
                f"{_pair(model.symbol)}, {model.timeframe}",
                f"{model.data_start:%Y-%m-%d} to {model.data_end:%Y-%m-%d}",
                when(each.created_at, zone),
            ]
        )
    registered = {each.model.version for each in listed}
    others = [version for version in last if version not in registered]
    rows += [[version, mark("not in the registry", "warn"), None, when(last[version], zone), *[None] * 4] for version in others]
    columns = ("version", "state", "change", "last forecast from", "kind", "for", "trained and validated on", "registered")
    said = "" if listed else "No model is registered. Train one with python -m jobs.train."
    notes = [f"Times in {zone_name(zone)}. Who was in use before is not kept; the last forecast of each is a hint."]
    if others:
        notes.append("What is not in the registry was served from a folder.")
    if listed and not may:
        notes.append("Putting one to use needs a token of scope admin.")
    return panel(
        "Registry",
        *([html.P(said, className="empty")] if said else []),
        *([table(columns, rows, empty="")] if rows else []),
        note=" ".join(notes) if rows else "",
    )


def _confirm(sources: Sources, version: str) -> Component:
    listed, _ = _known(sources)
    model = _found(listed, version)
    instead = in_place_of(model, listed)
    then = "No model is in use there now."
    if instead is not None:
        then = f"It takes the place of {instead.model.version}; putting that one to use again is the way back."
    return html.Div(
        [
            html.P([html.Strong(f"Put {version} to use for {_pair(model.model.symbol)}, {model.model.timeframe} candles? "), then]),
            html.P("The forecast service loads it first: that takes some seconds.", className="note"),
            html.Div(
                [html.Button("Put to use", id="models-activate", className="danger"), html.Button("Cancel", id="models-cancel")],
                className="bar",
            ),
        ],
        className="confirm",
        role="alertdialog",
        **_label("confirm the model"),
    )


def _activate(sources: Sources, version: str) -> Component:
    caller.get().require(Role.ADMIN)
    listed, _ = _known(sources)
    before = in_place_of(_found(listed, version), listed)
    if wrong := sources.activate_model(version):
        return _refused(version, wrong)
    back = "" if before is None else f" {before.model.version} was in use before: to go back, put that one to use."
    return html.P(f"{version} is in use now.{back}")


def _refused(version: str, why: str) -> Component:
    return html.Div([html.Strong(f"{version} was not put to use: "), html.Span(why)], className="problem", role="alert")


def _body(sources: Sources, scores: _Scores, version: str, chosen: str | None, zone: tzinfo, theme: str | None) -> Component:
    listed, _ = _known(sources)
    found = scores.of(version)
    kind = next((each for each in found if kind_words(each.kind) == chosen), found[0] if found else None)
    model = next((each for each in listed if each.model.version == version), None)
    parts = [_live(version, found, zone)]
    if kind is not None:
        parts.append(html.Div([_pit(kind, theme), _drift(sources, kind, zone, theme)], className="columns"))
    return html.Div([*parts, _training(version, model)])


def _live(version: str, found: Sequence[_Scored], zone: tzinfo) -> Component:
    title = f"Live: what the forecasts of {version} were worth"
    known = [(each, each.live) for each in found if each.live is not None]
    if not known:
        empty = "None of its forecasts has an outcome yet: python -m jobs.outcomes fills in those whose time has come."
        return panel(title, html.P(empty, className="empty"))
    rows: list[list[Any]] = [
        [
            kind_words(each.kind),
            *live.cells,
            mark(*live.verdict),
            None if each.quality is None else f"{each.quality.learned.factor:.2f}",
        ]
        for each, live in known
    ]
    note = "CRPS says how far a whole forecast lay from its outcome; less is better."
    if any(each.quality is None for each, _ in known):
        note += " Scored for this page, as none are stored: python -m jobs.outcomes stores them and calibrates online."
    newest = max((each.quality.as_of for each, _ in known if each.quality is not None), default=None)
    if newest is not None:
        note += f" Newest outcome stored: {clock_time(newest, zone)}, times in {zone_name(zone)}."
    meanings = [*LIVE_COLUMNS.items(), ("width ×", "What the online calibration multiplies the spread of forecasts by.")]
    says = table(["column", "says"], [(name, _wrapped(words)) for name, words in meanings], empty="")
    return panel(
        title,
        table(["forecasts", *LIVE_COLUMNS, "coverage", "width ×"], rows, empty="", numbers=(*LIVE_COLUMNS, "width ×")),
        html.Details([html.Summary("What the columns say"), says]),
        note=note,
    )


def _pit(each: _Scored, theme: str | None) -> Component:
    title = f"Where outcomes fell: {kind_words(each.kind)}"
    pit = None if each.live is None else each.live.pit
    if pit is None:
        without = "No outcome is known yet." if each.live is None else "No samples were stored with these forecasts."
        return panel(title, html.P(without, className="empty"))
    note = (
        f"{pit.said}. 0 % is at a forecast's lowest price. "
        "Right forecasts give flat bars; high in the middle: too wide; high at both ends: too narrow."
    )
    return panel(title, chart(dressed(pit_figure(pit), theme, height=320), said=pit.said, id="models-pit"), note=note)


def _drift(sources: Sources, each: _Scored, zone: tzinfo, theme: str | None) -> Component:
    title = f"Calibration over time: {kind_words(each.kind)}"
    points = quality_history(sources.database, each.kind, points=_POINTS)
    if not points:
        empty = "No scores are stored yet. python -m jobs.outcomes --every 60 stores them as outcomes become known."
        return panel(title, html.P(empty, className="empty"))
    last = points[-1]
    said = f"Coverage of the last {last.forecasts:,} is {last.coverage_90:.1%}, log width {last.log_width:+.2f}"
    note = f"{said}. Log width 0 leaves forecasts as the model makes them; above 0 they are made wider. Times in {zone_name(zone)}."
    return panel(title, chart(dressed(drift_figure(points, zone), theme, height=320), said=said, id="models-drift"), note=note)


def _training(version: str, listed: ListedModel | None) -> Component:
    title = f"At training: {version}"
    if listed is None:
        return panel(title, html.P("It is not in the registry, so nothing is known here of its training.", className="empty"))
    scores = training_scores(listed.model.metrics)
    rows = [[_wrapped(words), *values] for words, values in scores.scores]
    course = table(["what", "value"], scores.others, empty="", numbers=("value",))
    more = html.Details([html.Summary("How the training went"), course], open=not rows)
    return panel(
        title,
        table(["what", *scores.columns], rows, empty="No scores were registered with it.", numbers=scores.columns),
        *([more] if scores.others else []),
        note=measured_on(listed.model.config) if rows else "",
    )


MODELS = Page(path="models", title="Models", layout=_layout, register=_register)
