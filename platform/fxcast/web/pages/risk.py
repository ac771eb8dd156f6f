"""How much is at risk, whether everything is well, and how to stop it."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from fxcast.adapters.storage.accounts import Lease, accounts, leases
from fxcast.adapters.storage.controls import kill_switch_requests, request_kill_switch
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.settings_versions import SettingsVersions
from fxcast.domain.calendar import is_open
from fxcast.errors import BadSetting, BadSetup, FxcastError, NotFound
from fxcast.trading.config import RiskLimits
from fxcast.trading.state import EngineState, KillSwitch
from fxcast.web.charts import BLUE, VERMILLION, chart, dressed
from fxcast.web.page import LIVE, THEME, ZONE, Page, labelled, loading, mark, or_problem, panel, problem, table, when
from fxcast.web.risk_view import exposures_pct, limits_used
from fxcast.web.roles import Role, caller
from fxcast.web.sources import Sources
from fxcast.web.times import ago, zone_name, zone_of

_ACCOUNT, _BODY, _ASKED, _SAID = "risk-account", "risk-body", "risk-asked", "risk-said"
_SWITCH, _STANDS, _THROWN, _HEALTH = "risk-switch", "risk-stands", "risk-thrown", "risk-health"
_KINDS = {KillSwitch.ACTIVE: "good", KillSwitch.REDUCING: "warn", KillSwitch.HALTED: "bad"}
_MEANS = {
    KillSwitch.ACTIVE: "trades",
    KillSwitch.REDUCING: "closes what is open, opens nothing",
    KillSwitch.HALTED: "sends nothing; stops stay at the broker",
}
_CURVE_POINTS = 2_000
_LONGEST_REASON = 200  # characters
_NEAR = 0.75  # of a limit, from where it is marked
_ACCOUNT_CURRENCY = "USD"


def _layout() -> Component:
    # The buttons are not part of what news draws anew: a click on one that is just being replaced would be lost.
    buttons = [
        html.Button(to.value, id=_button(to), className="" if to is KillSwitch.ACTIVE else "danger", disabled=True)
        for to in KillSwitch
    ]
    hint = [] if caller.get().role >= Role.TRADE else [html.Span("needs a token of scope trade", className="note")]
    switch = panel("Kill switch", html.Div(id=_STANDS), html.Div([*buttons, *hint], className="bar"), html.Div(id=_THROWN))
    return html.Div(
        [
            html.Div(html.Label(["Account", dcc.Dropdown(id=_ACCOUNT, clearable=False)]), className="bar"),
            dcc.Store(id=_ASKED),
            html.Div(id="risk-confirm"),
            html.Div(id=_SAID, role="status"),
            html.Div([html.Div(switch, id=_SWITCH, hidden=True), html.Div(id=_HEALTH)], className="columns"),
            html.Div(loading("the ledger"), id=_BODY),
        ]
    )


def _button(to: KillSwitch) -> dict[str, str]:
    return {"type": "kill-switch", "to": to.value}


def _register(app: Dash, sources: Sources) -> None:
    @app.callback(
        Output(_ACCOUNT, "options"),
        Output(_ACCOUNT, "value"),
        Input(LIVE, "data"),
        State(_ACCOUNT, "value"),
        State(_ACCOUNT, "options"),
    )
    def known(_: Any, chosen: str | None, before: list[str] | None) -> tuple[Any, Any]:  # noqa: ANN401  # Dash's own values
        try:
            names = [account.name for account in accounts(sources.database)]
        except FxcastError:
            return no_update, no_update  # the body says what is wrong
        value = chosen if chosen in names else (names[0] if names else None)
        return (names if names != before else no_update), (value if value != chosen else no_update)

    @app.callback(
        Output(_SWITCH, "hidden"),
        Output(_STANDS, "children"),
        Output({"type": "kill-switch", "to": ALL}, "disabled"),
        Output(_THROWN, "children"),
        Output(_HEALTH, "children"),
        Output(_BODY, "children"),
        Input(_ACCOUNT, "value"),
        Input(LIVE, "data"),
        Input(ZONE, "data"),
        Input(THEME, "data"),
    )
    def shown(account: str | None, _: Any, zone: str | None, theme: str | None) -> tuple[Any, ...]:  # noqa: ANN401
        found = or_problem("the ledger", _shown)(sources, account, zone_of(zone), theme)
        hidden, stands, disabled, *others = found if isinstance(found, tuple) else _only(found)
        off = dict(zip(KillSwitch, disabled, strict=True))
        parts: list[Any] = ctx.outputs_list[2]  # as many as the browser has
        return hidden, stands, [off.get(part["id"]["to"], True) for part in parts], *others

    @app.callback(
        Output(_ASKED, "data"),
        Input({"type": "kill-switch", "to": ALL}, "n_clicks"),
        State(_ACCOUNT, "value"),
        prevent_initial_call=True,
    )
    def ask(clicks: list[int | None], account: str | None) -> Any:  # noqa: ANN401
        pressed = ctx.triggered_id
        if not any(clicks) or not isinstance(pressed, dict) or account is None:
            return no_update
        return {"account": account, "to": pressed["to"]}

    @app.callback(Output("risk-confirm", "children"), Input(_ASKED, "data"))
    def confirm(asked: dict[str, str] | None) -> Any:  # noqa: ANN401
        return _confirm(*wanted) if (wanted := _read(asked)) else None

    @app.callback(
        Output(_SAID, "children"),
        Output(_ASKED, "data", allow_duplicate=True),
        Input("risk-throw", "n_clicks"),
        Input("risk-cancel", "n_clicks"),
        State(_ASKED, "data"),
        State("risk-reason", "value"),
        prevent_initial_call=True,
    )
    def throw(thrown: int | None, cancelled: int | None, asked: dict[str, str] | None, reason: str | None) -> tuple[Any, Any]:
        wanted = _read(asked)
        if not (thrown or cancelled) or wanted is None:
            return no_update, no_update
        if ctx.triggered_id == "risk-cancel":
            return "Nothing was changed.", None
        try:
            return _throw(sources, *wanted, reason or ""), None
        except FxcastError as error:
            return problem("The kill switch", error), no_update


def _read(asked: dict[str, str] | None) -> tuple[str, KillSwitch] | None:
    """Return the account and the position of the switch that are asked for, None if they are none."""
    account, word = (asked or {}).get("account"), (asked or {}).get("to")
    to = next((each for each in KillSwitch if each.value == word), None)
    return None if account is None or to is None else (account, to)


def _throw(sources: Sources, account: str, to: KillSwitch, reason: str) -> str:
    who = caller.get()
    who.require(Role.TRADE)
    if account not in (names := [each.name for each in accounts(sources.database)]):
        raise NotFound("account", account[:80], ", ".join(names) or "none: no engine has traded")
    request_kill_switch(sources.database, account, to, who.name, reason[:_LONGEST_REASON], sources.now())
    return f"Kill switch of {account}: {to.value}, asked for by {who.name}. The engine takes it in before it does anything else."


def _confirm(account: str, to: KillSwitch) -> Component:
    return html.Div(
        [
            html.P([html.Strong(f"Set the kill switch of {account} to {to.value}? "), f"Then the engine {_MEANS[to]}."]),
            html.Div(
                [
                    html.Label(
                        ["Reason, kept with the request", dcc.Input(id="risk-reason", type="text", maxLength=_LONGEST_REASON)]
                    ),
                    html.Button(f"Set to {to.value}", id="risk-throw", className="danger"),
                    html.Button("Cancel", id="risk-cancel"),
                ],
                className="bar",
            ),
        ],
        className="confirm",
        role="alertdialog",
        **labelled("confirm the kill switch"),
    )


def _only(part: Component) -> tuple[Any, ...]:
    """Return what is shown where there is nothing to throw a switch of."""
    return True, None, [True] * len(KillSwitch), None, None, part


def _shown(sources: Sources, account: str | None, zone: tzinfo, theme: str | None) -> tuple[Any, ...]:
    database = sources.database
    if account is None and accounts(database):
        return _only(loading("the ledger"))  # the account is chosen in a moment
    if account is None:
        return _only(panel("Nothing yet", html.P("No engine has traded. Start one with python -m jobs.trade.", className="empty")))
    ledger = SqlLedger(database, account)
    state = ledger.load_state()
    if state is None:
        return _only(panel("Nothing yet", html.P(f"The engine of {account} has not finished a candle yet.", className="empty")))
    limits = _limits_in_use(SettingsVersions(database, account))
    saved = {each.name: each.saved_at for each in accounts(database)}[account]
    points = ledger.equity_curve()
    body = [
        _equity([point.at for point in points], [point.balance + point.open_profit for point in points], zone, theme),
        html.Div([_limits(state, limits) if isinstance(limits, RiskLimits) else limits, _exposure(state)], className="columns"),
        _positions(state, zone),
        _events(ledger, zone),
    ]
    read_at = points[-1].at if points else None
    return False, *_switch(sources, account, state, zone), _health(sources, account, state, saved, read_at, zone), html.Div(body)


def _switch(sources: Sources, account: str, state: EngineState, zone: tzinfo) -> tuple[Component, list[bool], Component]:
    """Return where the switch stands, which of its buttons are off, and who has thrown it."""
    requests = kill_switch_requests(sources.database, account)
    waiting = bool(requests) and requests[-1].sequence > state.control_sequence
    may = caller.get().role >= Role.TRADE
    said: list[Any] = [
        "The engine is ",
        mark(state.kill_switch.value, _KINDS[state.kill_switch]),
        f": it {_MEANS[state.kill_switch]}.",
    ]
    if waiting:
        said += [" Asked for, and not taken in yet: ", mark(requests[-1].kill_switch, "warn")]
    rows = [(when(each.requested_at, zone), each.kill_switch, each.by, each.reason or None) for each in requests[::-1][:5]]
    off = [not may or (to is state.kill_switch and not waiting) for to in KillSwitch]
    return html.P(said), off, table(["when", "to", "by", "reason"], rows, empty="Nobody has thrown it.")


def _health(
    sources: Sources, account: str, state: EngineState, saved: datetime, read_at: datetime | None, zone: tzinfo
) -> Component:
    """Return what is well and what is ill; `read_at` is the candle at which the broker told the account last."""
    now = sources.now()
    service = sources.service_problem()
    last = max(state.cursors.values(), default=None)
    rows = [
        *_engines(leases(sources.database), account, saved, now),
        ("forecast service", mark("ready", "good") if not service else mark("not ready", "bad"), service or None),
        ("database", mark("answers", "good"), None),
        (
            "broker",
            _lately(read_at, now),
            "never asked" if read_at is None else f"told the account at a candle {ago(read_at, now)}",
        ),
        ("feed", _lately(last, now), "no candle yet" if last is None else f"last candle closed {ago(last, now)}"),
        ("forecasts missed", mark(f"{state.forecasts_missed:,}", "warn" if state.forecasts_missed else "good"), None),
        ("orders on their way", mark(f"{len(state.pending)}", "plain"), None),
        (
            "others' positions at the broker",
            mark(", ".join(state.foreign) or "none", "warn" if state.foreign else "good"),
            "no new risk there" if state.foreign else None,
        ),
    ]
    if state.cool_off_until is not None and state.cool_off_until > now:
        rows.append(("cooling off", mark("no new risk", "warn"), f"until {state.cool_off_until.astimezone(zone):%H:%M}"))
    return panel("Health", table(["what", "state", "more"], rows, empty="", wide=("more",)), note=f"Times in {zone_name(zone)}.")


def _engines(found: tuple[Lease, ...], account: str, saved: datetime, now: datetime) -> list[tuple[str, Component, str | None]]:
    """Return whether engines run: the paper account's own, and those that hold an account at a broker, whose names are its."""
    held = [each for each in found if each.holder and each.expires_at > now]
    rows: list[tuple[str, Component, str | None]] = [
        (f"engine at {each.account}", mark("runs", "good"), each.process) for each in held if not each.account.startswith("paper:")
    ]
    runs = any(each.account == f"paper:{account}" for each in held)
    if runs or not rows:
        state = mark("runs", "good") if runs else mark("does not run", "bad")
        rows.insert(0, ("engine", state, f"state saved {ago(saved, now)}"))
    return rows


def _lately(last: datetime | None, now: datetime) -> Component:
    if last is None:
        return mark("nothing yet", "plain")
    if not is_open(now):
        return mark("market closed", "plain")
    return mark("fresh", "good") if now - last < timedelta(hours=2) else mark("old", "warn")


def _equity(at: list[datetime], equity: list[Decimal], zone: tzinfo, theme: str | None) -> Component:
    if not at:
        return panel("Equity", html.P("No candle has been handled yet.", className="empty"))
    step = max(1, len(at) // _CURVE_POINTS)
    kept = sorted({*range(0, len(at), step), len(at) - 1})
    times = [at[place].astimezone(zone).replace(tzinfo=None) for place in kept]
    values = [float(each) for each in equity]
    peak, falls = values[0], list[float]()
    for value in values:
        peak = max(peak, value)
        falls.append(100.0 * (value / peak - 1.0))
    figure = go.Figure()
    figure.add_scatter(x=times, y=[values[place] for place in kept], name="equity", line={"color": BLUE, "width": 1.6})
    figure.add_scatter(
        x=times,
        y=[falls[place] for place in kept],
        name="drawdown, %",
        yaxis="y2",
        line={"color": VERMILLION, "width": 1},
        fill="tozeroy",
    )
    figure.update_layout(
        yaxis={"domain": [0.32, 1.0], "tickformat": ",.0f"}, yaxis2={"domain": [0.0, 0.26], "anchor": "x", "tickformat": ".1f"}
    )
    said = f"Equity from {values[0]:,.2f} to {values[-1]:,.2f}, at worst {min(falls):.2f} % below its peak"
    return panel(
        "Equity and drawdown",
        chart(dressed(figure, theme, height=320), said=said, id="risk-equity"),
        note=f"{said}. Times in {zone_name(zone)}.",
    )


def _limits_in_use(versions: SettingsVersions) -> RiskLimits | Component:
    """Return the limits that the engine trades with, or what is said in place of them: the kill switch must not wait for them."""
    settings = versions.in_use()
    if settings is None:
        return panel("Limits", html.P("No engine has told its settings yet: it does at its next start.", className="empty"))
    try:
        return settings.trading().risk
    except BadSetting as error:
        return panel("Limits", problem("What the engine trades with", error))


def _limits(state: EngineState, limits: RiskLimits) -> Component:
    rows: list[list[Any]] = []
    for use in limits_used(state, limits, _ACCOUNT_CURRENCY):
        share = "?" if use.share is None else f"{use.share:.0%}"
        used = None if use.used is None else f"{use.used:,.2f}".rstrip("0").rstrip(".")
        at_most = f"{use.limit.normalize():f} {use.unit}".strip()
        rows.append([use.name, used, at_most, mark(share, _use_kind(use.share))])
    note = "Those of the account; what cut or refused one order stands with its decision."
    return panel("Limits", table(["limit", "used", "at most", "share"], rows, empty="", numbers=("used", "at most")), note=note)


def _use_kind(share: float | None) -> str:
    if share is None:
        return "plain"
    return "good" if share < _NEAR else "warn" if share < 1 else "bad"


def _exposure(state: EngineState) -> Component:
    try:
        rows = [(currency, f"{share:+,.1f} %") for currency, share in exposures_pct(state, _ACCOUNT_CURRENCY).items()]
    except BadSetup as error:
        return panel("Exposure by currency", problem("Exposure", error))
    return panel(
        "Exposure by currency",
        table(["currency", "net, of equity"], rows, empty="Nothing is open.", numbers=("net, of equity",)),
        note="Positive is long.",
    )


def _positions(state: EngineState, zone: tzinfo) -> Component:
    rows: list[list[Any]] = []
    for held in state.positions.values():
        each, last = held.position, state.prices.get(held.position.symbol)
        in_r = None if last is None or not held.risk else f"{each.side.sign * (last - each.entry_price) / held.risk:+.2f}"
        rows.append(
            [
                each.symbol,
                each.side.value,
                f"{each.units:,f}",
                str(each.entry_price),
                None if last is None else str(last),
                mark("stop lost at the broker", "bad") if held.stop_lost else str(each.stop),
                None if each.target is None else str(each.target),
                in_r,
                when(each.opened_at, zone),
                f"{held.bars_held} of {held.horizon_bars}",
            ]
        )
    columns = ["symbol", "side", "units", "entry", "last", "stop", "target", "R", "opened", "candles"]
    numbers = ("units", "entry", "last", "stop", "target", "R", "candles")
    return panel("Open positions", table(columns, rows, empty="Nothing is open.", numbers=numbers))


def _events(ledger: SqlLedger, zone: tzinfo) -> Component:
    rows = [(when(each.at, zone), each.kind.value, each.symbol or None, each.detail) for each in ledger.risk_events()[::-1][:20]]
    return panel(
        "Risk events",
        table(["when", "kind", "symbol", "detail"], rows, empty="Nothing has happened.", wide=("detail",)),
        note="The newest 20.",
    )


RISK = Page(path="risk", title="Risk", layout=_layout, register=_register)
