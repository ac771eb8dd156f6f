"""Every decision and its reasons; from each to its order, its fills and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from fxcast.adapters.storage.accounts import accounts
from fxcast.adapters.storage.decided import (
    SIGNALS_A_PAGE,
    Consequences,
    Wanted,
    consequences_of,
    count_signals,
    find_signal,
    signal_symbols,
    signals_page,
)
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.domain.signal import Direction, Verdict
from fxcast.errors import FxcastError
from fxcast.trading.ports import DecidedSignal
from fxcast.web.charts import chart, dressed
from fxcast.web.decisions_view import (
    Linked,
    change_rows,
    counts_said,
    currency_of,
    dimensions,
    duration,
    fill_rows,
    key_figures,
    link_to,
    linked,
    member_rows,
    money,
    order_said,
    outcome,
    pages_of,
    plain_text,
    price,
    quality_figure,
    quality_said,
    total,
    verdict_said,
    wanted_of,
    why_said,
)
from fxcast.web.page import LIVE, THEME, ZONE, CellT, Page, loading, mark, or_problem, panel, table, when
from fxcast.web.sources import Sources
from fxcast.web.times import zone_name, zone_of

_ACCOUNT, _SYMBOL, _VERDICT, _DIRECTION = "decisions-account", "decisions-symbol", "decisions-verdict", "decisions-direction"
_REASON, _FIRST_DAY, _LAST_DAY = "decisions-reason", "decisions-first-day", "decisions-last-day"
_ASKED, _SEEN = "decisions-asked", "decisions-seen"
_OPENED, _LIST, _NEWS, _ADDRESS = "decisions-opened", "decisions-list", "decisions-news", "decisions-address"
_NEWER, _OLDER, _PLACE = "decisions-newer", "decisions-older", "decisions-place"
_VERDICTS = [{"label": "accepted", "value": Verdict.ACCEPTED.value}, {"label": "refused", "value": Verdict.REJECTED.value}]
_DIRECTIONS = [{"label": "bull (up)", "value": Direction.BULL.value}, {"label": "bear (down)", "value": Direction.BEAR.value}]
_CHOICES = {  # what a reader may choose, and where it stands
    "account": (_ACCOUNT, "value"),
    "symbol": (_SYMBOL, "value"),
    "verdict": (_VERDICT, "value"),
    "direction": (_DIRECTION, "value"),
    "reason": (_REASON, "value"),
    "first_day": (_FIRST_DAY, "value"),
    "last_day": (_LAST_DAY, "value"),
}
_COLUMNS = ("made", "symbol", "direction", "horizon", "quality", "uncertainty", "base units", "units", "verdict", "why")
_FILL_NUMBERS = ("units", "price", "profit", "commission")
_NUMBERS = ("quality", "uncertainty", "base units", "units")
_Asked = Mapping[str, object]
_HEADING = {"fontSize": "15px", "margin": "14px 0 6px"}
_SMALL = {"whiteSpace": "normal", "fontSize": "13px", "maxWidth": "260px", "minWidth": "120px", "margin": "0"}
_WRAPPED = {"whiteSpace": "normal", "display": "block", "minWidth": "240px"}


def _layout() -> Component:
    def choice(label: str, id: str, options: Sequence[dict[str, str]] = ()) -> Component:  # noqa: A002  # as Dash names it
        return html.Label([label, dcc.Dropdown(id=id, options=list(options), placeholder="all", searchable=False)])

    def day(id: str) -> Component:  # noqa: A002  # as Dash names it
        return dcc.Input(id=id, type="text", debounce=True, maxLength=10, placeholder="any day")

    return html.Div(
        [
            dcc.Location(id=_ADDRESS, refresh="callback-nav"),
            dcc.Store(id=_ASKED),
            dcc.Store(id=_SEEN),
            html.Div(html.Label(["Account", dcc.Dropdown(id=_ACCOUNT, clearable=False)]), className="bar"),
            html.Div(id=_OPENED),
            html.Section(
                [
                    html.H2("All decisions"),
                    html.Div(
                        [
                            choice("Symbol", _SYMBOL),
                            choice("Verdict", _VERDICT, _VERDICTS),
                            choice("Direction", _DIRECTION, _DIRECTIONS),
                            html.Label(["Words in the reason", dcc.Input(id=_REASON, type="text", debounce=0.4, maxLength=200)]),
                            html.Label(["Made from (YYYY-MM-DD)", day(_FIRST_DAY)]),
                            html.Label(["to", day(_LAST_DAY)]),
                        ],
                        className="bar",
                    ),
                    html.Div(id=_NEWS, role="status"),
                    html.Div(loading("the decisions"), id=_LIST),
                    html.Div(
                        [
                            html.Button("Newer", id=_NEWER, disabled=True),
                            html.Button("Older", id=_OLDER, disabled=True),
                            html.Span(id=_PLACE, className="note"),
                        ],
                        className="bar",
                    ),
                ],
                className="panel",
            ),
        ]
    )


def _register(app: Dash, sources: Sources) -> None:
    @app.callback(
        Output(_ACCOUNT, "options"),
        Output(_ACCOUNT, "value"),
        Input(LIVE, "data"),
        Input("url", "search"),
        State(_ACCOUNT, "value"),
        State(_ACCOUNT, "options"),
    )
    def known(_: Any, search: Any, chosen: str | None, before: list[str] | None) -> tuple[Any, Any]:  # noqa: ANN401  # Dash's own values
        try:
            names = [account.name for account in accounts(sources.database)]
        except FxcastError:
            return no_update, no_update  # the list says what is wrong
        opened = linked(search)
        if opened is not None and opened.account in names and (chosen is None or ctx.triggered_id == "url"):
            chosen_now = opened.account
        else:
            chosen_now = chosen if chosen in names else (names[0] if names else None)
        return (names if names != before else no_update), (chosen_now if chosen_now != chosen else no_update)

    @app.callback(Output(_ADDRESS, "search"), Input(_ACCOUNT, "value"), State("url", "search"), prevent_initial_call=True)
    def left(account: Any, search: Any) -> Any:  # noqa: ANN401
        """Close the decision of an account that somebody leaves."""
        opened = linked(search)
        return "" if opened is not None and account is not None and opened.account != account else no_update

    @app.callback(Output(_SYMBOL, "options"), Input(_ACCOUNT, "value"), Input(LIVE, "data"), State(_SYMBOL, "options"))
    def symbols(account: Any, _: Any, before: list[str] | None) -> Any:  # noqa: ANN401
        if before and ctx.triggered_id == LIVE:
            return no_update  # they hardly ever change, and all signals have to be looked at
        try:
            names = list(signal_symbols(sources.database, plain_text(account)))
        except FxcastError:
            return no_update
        return names if names != before else no_update

    @app.callback(
        Output(_ASKED, "data"),
        *(Input(place, of) for place, of in _CHOICES.values()),
        Input(_NEWER, "n_clicks"),
        Input(_OLDER, "n_clicks"),
        State(_ASKED, "data"),
    )
    def asked(*values: object) -> dict[str, object]:
        choices, before = dict(zip(_CHOICES, values, strict=False)), values[-1]
        step = {_NEWER: -1, _OLDER: 1}.get(str(ctx.triggered_id), 0)
        page = before.get("page") if step and isinstance(before, dict) else 0  # another choice begins at the newest again
        return {**choices, "page": page + step if isinstance(page, int) else 0}

    @app.callback(
        Output(_LIST, "children"),
        Output(_NEWS, "children"),
        Output(_PLACE, "children"),
        Output(_NEWER, "disabled"),
        Output(_OLDER, "disabled"),
        Output(_SEEN, "data"),
        Input(_ASKED, "data"),
        Input(LIVE, "data"),
        Input(ZONE, "data"),
        Input("url", "search"),
        State(_SEEN, "data"),
    )
    def listed(asked: Any, _: Any, zone: str | None, search: Any, seen: Any) -> tuple[Any, ...]:  # noqa: ANN401
        choices: _Asked = asked if isinstance(asked, dict) else {}
        # While somebody looks at a decision, the list stays: so does the focus on the link in it, which a new list would not have.
        same_list = {each["prop_id"] for each in ctx.triggered} <= {f"{LIVE}.data", "url.search"}
        if linked(search) is not None and same_list and isinstance(seen, int):
            shown = or_problem("the ledger", _news)(sources, choices, zone_of(zone), seen)
        else:
            shown = or_problem("the ledger", _listed)(sources, choices, zone_of(zone))
        return shown if isinstance(shown, tuple) else (shown, None, None, True, True, None)

    @app.callback(
        Output(_OPENED, "children"), Input("url", "search"), Input(LIVE, "data"), Input(ZONE, "data"), Input(THEME, "data")
    )
    def opened(search: Any, _: Any, zone: str | None, theme: str | None) -> Any:  # noqa: ANN401
        found = linked(search)
        return None if found is None else or_problem("the decision", _opened)(sources, found, zone_of(zone), theme)


def _wanted(asked: _Asked, zone: tzinfo) -> Wanted:
    return wanted_of(**{name: asked.get(name) for name in _CHOICES if name != "account"}, zone=zone)


def _news(sources: Sources, asked: _Asked, zone: tzinfo, seen: int) -> tuple[Any, ...]:
    """Leave the list as it is while somebody looks at a decision, and tell how many have come."""
    wanted = _wanted(asked, zone)
    more = count_signals(sources.database, plain_text(asked.get("account")), wanted).of(wanted.verdict) - seen
    said = f"{more:,} more since this list was made; close the decision above to see them." if more > 0 else None
    return no_update, said, no_update, no_update, no_update, no_update


def _listed(sources: Sources, asked: _Asked, zone: tzinfo) -> tuple[Any, ...]:
    account = plain_text(asked.get("account"))
    if not account:
        return html.P("No engine has traded. Start one with python -m jobs.trade.", className="empty"), None, None, True, True, None
    wanted = _wanted(asked, zone)
    counts = count_signals(sources.database, account, wanted)
    count = counts.of(wanted.verdict)
    page, pages = pages_of(count, asked.get("page"), size=SIGNALS_A_PAGE)
    found = signals_page(sources.database, account, wanted, page=page)
    rows = [_row(account, each, zone) for each in found]
    everything = wanted == Wanted()
    empty = f"The engine of {account} has decided nothing yet." if everything else "No decision is like this. Take a filter away."
    children = [
        html.P(counts_said(counts), id="decisions-counts"),
        html.P(
            f"Times in {zone_name(zone)}. Quality from 0 to 1; uncertainty in per cent of the price; units of the base currency, "
            "before and after uncertainty and the limits of risk. Open a decision by its time.",
            className="note",
        ),
        table(_COLUMNS, rows, empty=empty, numbers=_NUMBERS),
    ]
    first = page * SIGNALS_A_PAGE
    place = f"{first + 1:,} to {first + len(found):,} of {count:,}, newest first" if found else None
    return children, None, place, page == 0, page + 1 >= pages, count


def _row(account: str, decided: DecidedSignal, zone: tzinfo) -> list[CellT]:
    signal = decided.signal
    link = dcc.Link(when(signal.made_at, zone), href=link_to(account, signal.signal_id), title="Open this decision")
    return [
        link,
        signal.symbol,
        signal.direction.value,
        duration(signal.horizon_minutes),
        f"{signal.quality.total:.3f}",
        None if signal.uncertainty_pct is None else f"{signal.uncertainty_pct:.3f} %",
        f"{decided.base_units:,f}",
        f"{decided.units:,f}",
        mark(*verdict_said(decided)),
        html.Span(why, style=_WRAPPED) if (why := "; ".join(why_said(decided))) else None,
    ]


def _opened(sources: Sources, asked: Linked, zone: tzinfo, theme: str | None) -> Component:
    close = html.P(dcc.Link("Close this decision", href="decisions"))
    decided = find_signal(sources.database, asked.account, asked.signal_id)
    if decided is None:
        said = f"The account {asked.account} has no decision {asked.signal_id}."
        return panel("No such decision", html.P(said, className="empty"), close)
    signal = decided.signal
    came = consequences_of(sources.database, asked.account, asked.signal_id)
    newest = SqlLedger(sources.database, asked.account).decisions(limit=1)
    currency = currency_of(newest[0].inputs) if newest else ""
    end = outcome(decided, came, currency, zone)
    return html.Div(
        [
            panel(
                f"{signal.symbol} {signal.direction.value}, {duration(signal.horizon_minutes)} ahead",
                html.P(
                    [
                        mark(*verdict_said(decided)),
                        " ",
                        mark(end.word, end.kind),
                        f" Size: {decided.units:,f} of {decided.base_units:,f} units. {end.said}",
                    ]
                ),
                html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in key_figures(decided)], className="figures"),
                close,
                note=f"{asked.account}, made at the candle's close {signal.made_at.astimezone(zone):%Y-%m-%d %H:%M}. "
                f"Times in {zone_name(zone)}. The address of this page leads to this decision.",
            ),
            html.Div([_quality(decided), html.Div([_size(decided), _lost(decided, theme)])], className="columns"),
            _members(decided, zone),
            _orders(came, currency, zone),
        ]
    )


def _quality(decided: DecidedSignal) -> Component:
    quality = decided.signal.quality
    lost = quality.weighted_mean - quality.total
    rows: list[Sequence[CellT]] = [
        [
            html.Div([each.name, html.Div(each.asks, className="note", style=_SMALL)]),
            f"{each.value:.3f}",
            None if each.weight is None else f"{each.weight:.2f}",
            None if each.weight is None else f"{each.gave:.3f}",
        ]
        for each in dimensions(quality)
    ]
    rows += [
        ["weighted mean", None, None, f"{quality.weighted_mean:.3f}"],
        ["uncertainty penalty", f"{quality.uncertainty_penalty:.3f}", None, f"−{lost:.3f}" if lost else None],
        [html.Strong("total"), None, None, html.Strong(f"{quality.total:.3f}")],
    ]
    return panel(
        "Quality",
        table(["dimension", "value", "weight", "gives"], rows, empty="", numbers=("value", "weight", "gives")),
        note="Six views of the signal, each from 0 to 1; value × weight of each make the weighted mean.",
    )


def _lost(decided: DecidedSignal, theme: str | None) -> Component:
    quality = decided.signal.quality
    lines = [html.Li(line.replace("_", " ")) for line in decided.explanation]
    return panel(
        "What quality lost",
        chart(dressed(quality_figure(quality), theme, height=250), said=quality_said(quality), id="decisions-quality"),
        html.Ul(lines or [html.Li("not recorded")]),
        note="Of a perfect 1; below, the most first.",
    )


def _size(decided: DecidedSignal) -> Component:
    return panel(
        "Size, step by step",
        html.Ol([html.Li(line) for line in decided.arithmetic] or [html.Li("not recorded")]),
        html.P([html.Strong(f"{decided.units:,f} units"), f" in the end, of a base size of {decided.base_units:,f}."]),
        html.H3("What stood against it", style=_HEADING),
        html.Ul([html.Li(reason) for reason in why_said(decided) or ("nothing",)]),
        note="Base size: before uncertainty. What limits of risk took stands below.",
    )


def _members(decided: DecidedSignal, zone: tzinfo) -> Component:
    return panel(
        "What each source said",
        table(
            ["source", "rests on", "said", "strength", "horizon", "price then", "stop", "target", "when"],
            member_rows(decided, zone),
            empty="Not recorded.",
            numbers=("strength", "price then", "stop", "target"),
        ),
        note="Strength from 0 to 1; neutral is no opinion. The strongest that agrees gives horizon, stop and target.",
    )


def _orders(came: Consequences, currency: str, zone: tzinfo) -> Component:
    note = f"Money in {currency or 'account currency'}."
    if not came.orders:
        return panel("Orders, fills and result", html.P("No order came of it.", className="empty"), note=note)
    orders: list[list[CellT]] = []
    for each in came.orders:
        intent, (status, kind, words) = each.intent, order_said(each)
        orders.append(
            [
                when(intent.created_at, zone),
                f"{intent.side.value} to {intent.purpose.value}",
                f"{intent.units:,f}",
                price(intent.symbol, intent.stop),
                price(intent.symbol, intent.target),
                mark(status, kind),
                html.Span(words, style=_WRAPPED) if words else None,
                each.broker_order_id or None,
            ]
        )
    order_columns = ["ordered", "what", "units", "stop", "target", "status", "words", "broker's id"]
    fill_columns = ["filled", "side", "units", "price", "by", "profit", "commission"]
    parts = [
        table(order_columns, orders, empty="", numbers=("units", "stop", "target")),
        html.H3("Fills", style=_HEADING),
        table(fill_columns, fill_rows(came, currency, zone), empty="Nothing is filled.", numbers=_FILL_NUMBERS),
    ]
    if came.financings:
        interest = total([each.amount for each in came.financings])
        parts.append(html.P(f"Interest while it was held: {money(interest, currency)}."))
    if came.changes:
        columns = ["changed", "stop", "target", "why", "the broker"]
        changes = table(columns, change_rows(came, zone), empty="", numbers=("stop", "target"))
        parts += [html.H3("Changes of stop and target", style=_HEADING), changes]
    return panel("Orders, fills and result", *parts, note=note)


DECISIONS = Page(path="decisions", title="Decisions", layout=_layout, register=_register)
