"""What the model sees of the newest candles, what it is told beside that, and the futures that it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Any

import structlog
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from fxcast.adapters.storage.outages import answered
from fxcast.adapters.storage.registry import ANY_SYMBOL, list_models
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import FxcastError
from fxcast.web.asked_forecasts import Asked, AskedForecasts, Kept, Look
from fxcast.web.charts import chart
from fxcast.web.page import LIVE, THEME, ZONE, Page, mark, panel, when
from fxcast.web.sources import Sources
from fxcast.web.times import ago, zone_name, zone_of
from fxcast.web.vision_view import (
    TITLES,
    channel_figure,
    colour_figure,
    future_words,
    noise_words,
    picture_words,
    prices_figure,
    rhythm_words,
)

_SYMBOL, _TIMEFRAME, _MODEL, _LOOK, _FOLLOW = "vision-symbol", "vision-timeframe", "vision-model", "vision-look", "vision-follow"
_ASKED, _BUSY, _NEWS, _BODY = "vision-asked", "vision-busy", "vision-news", "vision-body"
_IN_USE = "the one in use"
_FOLLOWS = {False: "Follow: off", True: "Follow: on"}
_NO_CANDLES = "No candles are stored. Fetch some with python -m jobs.ingest, or follow the market with python -m jobs.stream."

log = structlog.get_logger(__name__)


def _layout() -> Component:
    chosen = [
        html.Label([words, dcc.Dropdown(id=id_, clearable=False)])
        for words, id_ in (("Symbol", _SYMBOL), ("Timeframe", _TIMEFRAME), ("Model", _MODEL))
    ]
    look = html.Button("Look", id=_LOOK, title="Ask the forecast service what it sees of the newest candles")
    follow = html.Button(_FOLLOWS[False], id=_FOLLOW, title="Look again whenever a candle has closed")
    return html.Div(
        [
            dcc.Store(id=_ASKED),
            html.Div([*chosen, look, follow], className="bar"),
            html.P("The forecast service is asked: a forecast takes a second or more.", id=_BUSY, hidden=True, className="note"),
            html.Div(id=_NEWS, role="status"),
            html.Div(panel("The window", html.P("Nothing has been asked yet.", className="empty")), id=_BODY),
        ]
    )


def _register(app: Dash, sources: Sources) -> None:
    looks = AskedForecasts(sources.forecasts, sources.candles, sources.now)
    chosen = (_SYMBOL, _TIMEFRAME, _MODEL)

    @app.callback(
        output=[Output(each, part) for each in chosen for part in ("options", "value")],
        inputs={"_live": Input(LIVE, "data"), "values": [Input(each, "value") for each in chosen]},
        state={"before": [State(each, "options") for each in chosen]},
    )
    def known(_live: Any, values: list[Any], before: list[Any]) -> list[Any]:  # noqa: ANN401  # Dash's own values, here and below
        answers: list[Any] = []
        for (options, value), old_options, old_value in zip(_choices(sources, values), before, values, strict=True):
            answers += [options if options != old_options else no_update, value if value != old_value else no_update]
        return answers

    @app.callback(
        output=[Output(_ASKED, "data"), Output(_NEWS, "children"), Output(_FOLLOW, "children")],
        inputs={
            "clicks": Input(_LOOK, "n_clicks"),
            "values": [Input(each, "value") for each in chosen],
            "follow": Input(_FOLLOW, "n_clicks"),
            "_live": Input(LIVE, "data"),
        },
        state={"kept": State(_ASKED, "data")},
    )
    def ask(clicks: int | None, values: list[Any], follow: int | None, _live: Any, kept: Any) -> tuple[Any, ...]:  # noqa: ANN401
        follows = bool((follow or 0) % 2)
        return *_asked_next(sources, looks, values, Kept.read(kept), clicks=clicks or 0, follows=follows), _FOLLOWS[follows]

    @app.callback(
        Output(_BODY, "children"),
        Input(_ASKED, "data"),
        Input(ZONE, "data"),
        Input(THEME, "data"),
        running=[(Output(_BUSY, "hidden"), False, True), (Output(_LOOK, "disabled"), True, False)],
        prevent_initial_call=True,
    )
    def body(kept: Any, zone: str | None, theme: str | None) -> Any:  # noqa: ANN401
        known = Kept.read(kept)
        if known is None:
            return no_update
        try:
            look = looks.look(known.asked)
        except FxcastError as error:
            log.warning("not shown", what="what the model sees", problem=str(error))
            return panel("The window", _refused("The forecast service gave no answer", error))
        return _shown(look, zone_of(zone), theme)


def _asked_next(
    sources: Sources, looks: AskedForecasts, values: list[Any], before: Kept | None, *, clicks: int, follows: bool
) -> tuple[Any, Any]:
    """Return what to look at now, and what to say of newer candles."""
    try:
        wanted = _wanted(looks, values)
        is_empty = wanted is None and not sources.series()
    except FxcastError as error:
        return no_update, _refused("The candles can't be read now", error)
    if wanted is None:
        return no_update, html.P(_NO_CANDLES, className="empty panel") if is_empty else None
    if before is not None and before.is_pressed_since(clicks):
        return Kept(asked=replace(wanted, pressed_at=sources.now()), clicks=clicks).written(), None
    newer = Kept(asked=wanted, clicks=clicks).written()
    if before is None or before.asked.about != wanted.about:
        return newer, None
    if before.asked.until == wanted.until:
        return no_update, None
    if follows:
        return newer, None
    return no_update, html.P([mark("old", "warn"), " A newer candle has closed since. Press Look to see it."])


def _choices(sources: Sources, values: list[Any]) -> list[tuple[Any, Any]]:
    symbol, timeframe, model = values
    try:
        series = sources.series()
    except FxcastError:
        return [(no_update, value) for value in values]  # `ask` says what is wrong
    symbols = list(dict.fromkeys(each for each, _ in series))
    symbol = symbol if symbol in symbols else (symbols[0] if symbols else None)
    names = [each.name for owner, each in series if owner == symbol]
    timeframe = timeframe if timeframe in names else (names[0] if names else None)
    try:
        with answered(sources.database):
            found = list_models(sources.database)
    except FxcastError as error:
        return [
            (symbols, symbol),
            (names, timeframe),
            ([_option(_IN_USE), _option(f"others can't be read: {error}", off=True)], _IN_USE),
        ]
    fitting = [each.model for each in found if each.model.timeframe == timeframe and each.model.symbol in (symbol, ANY_SYMBOL)]
    versions = [_IN_USE, *(each.version for each in fitting)]
    return [(symbols, symbol), (names, timeframe), ([_option(each) for each in versions], model if model in versions else _IN_USE)]


def _option(words: str, *, off: bool = False) -> dict[str, Any]:
    return {"label": words, "value": words, "disabled": off}


def _wanted(looks: AskedForecasts, values: list[Any]) -> Asked | None:
    """Return what a look now would be about, None before something is chosen."""
    symbol, timeframe, model = values
    if not isinstance(symbol, str) or not isinstance(timeframe, str):
        return None
    until = looks.newest_close(symbol, Timeframe(timeframe))
    if until is None:
        return None
    return Asked(
        symbol=symbol,
        timeframe=Timeframe(timeframe),
        model=model if isinstance(model, str) and model != _IN_USE else None,
        until=until,
    )


def _refused(what: str, error: FxcastError) -> Component:
    said = [html.Strong(f"{what}: "), html.Span(str(error)), html.P("Press Look to ask again.")]
    return html.Div(said, className="problem", role="alert")


def _shown(look: Look, zone: tzinfo, theme: str | None) -> list[Component]:
    return [_window(look, zone), html.Div(_pictures(look, zone, theme), className="columns"), _told(look), _futures(look, theme)]


def _window(look: Look, zone: tzinfo) -> Component:
    window, forecast = look.window, look.forecast
    closed: list[Any] = ["Its last candle closed ", when(forecast.made_at, zone), f" ({ago(forecast.made_at, look.asked_at)} when"]
    closed += [" it was asked for, ", when(look.asked_at, zone), f"). Times in {zone_name(zone)}."]
    by = f"Model {forecast.model_version}, {forecast.num_samples} samples in {forecast.inference_time_ms:,.0f} ms."
    return panel(
        f"The last {len(window)} candles of {window.symbol} {window.timeframe}",
        html.P(closed),
        html.P([by, " Point at a pixel to see the candles behind it."]),
    )


def _pictures(look: Look, zone: tzinfo, theme: str | None) -> list[Component]:
    size = len(look.seen.pixels.seg)
    shown = [
        panel(title, chart(channel_figure(look, name, zone, theme), said=f"{title}. {picture_words(look, name)}"), note=note)
        for name, title in TITLES.items()
        for note in [picture_words(look, name)]
    ]
    note = (
        f"The three as the one picture of {size} × {size} pixels that the model gets: red is SEG, green GAF, blue RP. "
        "A pixel's red is another moment than its green and blue."
    )
    return [*shown, panel("RGB: all three at once", chart(colour_figure(look, zone, theme), said=note), note=note)]


def _told(look: Look) -> Component:
    seen, minutes = look.seen, look.window.timeframe.minutes
    return panel(
        "What it is told beside the picture",
        html.P([html.Strong("In words: "), html.Q(seen.text)]),
        html.P([html.Strong("Periods of the returns: "), rhythm_words(seen.return_rhythms, minutes)]),
        html.P([html.Strong("Periods of their sizes (calm and storm): "), rhythm_words(seen.size_rhythms, minutes)]),
        html.P(noise_words(), className="note"),
        html.P("Besides, the model gets the candles themselves, the time of day and week, and which pair it is.", className="note"),
    )


def _futures(look: Look, theme: str | None) -> Component:
    words, count = future_words(look), len(look.seen.futures)
    said = "The sampled futures as prices, with the mean and the interval from q05 to q95 of all samples"
    return panel(
        "The futures that it draws",
        chart(prices_figure(look, theme), said=said),
        html.P(
            "The charts that the decoder made of them: red the path folded row by row, green its GAF, blue its RP. They look much "
            "alike because their scale reaches to four times a usual move. A path is read back from its chart and calibrated; that "
            "gives the lines above.",
            className="note",
        ),
        html.Div(_charts(look, words), className="futures"),
        note=f"{count} of the {look.forecast.num_samples} samples of this forecast. At the diamonds they are calibrated "
        "prices of the forecast itself; between them calibration is taken along straight lines in the logarithm of time.",
    )


def _charts(look: Look, words: Sequence[str]) -> list[Component]:
    return [
        html.Figure(
            [
                html.Img(src=f"data:image/png;base64,{future.chart}", alt=f"Chart of sampled future {number}"),
                html.Figcaption(said),
            ]
        )
        for number, (future, said) in enumerate(zip(look.seen.futures, words, strict=True), start=1)
    ]


VISION = Page(path="vision", title="Vision", layout=_layout, register=_register)
