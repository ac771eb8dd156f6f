"""What the engine trades with: shown, changed after a look at the difference, and put back."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any, NotRequired

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from fxcast.adapters.storage.accounts import accounts
from fxcast.adapters.storage.settings_versions import STARTED, SettingsVersion, SettingsVersions, accounts_with_settings
from fxcast.errors import BadSetting, Conflict, FxcastError
from fxcast.trading.config import TradingConfig
from fxcast.web.forms import Difference, control, value_at
from fxcast.web.page import LIVE, ZONE, Page, labelled, loading, mark, or_problem, panel, problem, table, when
from fxcast.web.roles import Role, caller
from fxcast.web.settings_view import SECTIONS, changed, content_of, what_differs
from fxcast.web.sources import Sources
from fxcast.web.times import zone_name, zone_of

_ACCOUNT, _FORM, _HISTORY, _LOADED = "settings-account", "settings-form", "settings-history", "settings-loaded"
_ASKED, _CONFIRM, _SAID, _STATE = "settings-asked", "settings-confirm", "settings-said", "settings-state"
_LOOK, _BAR = "settings-look", "settings-bar"
_LOAD, _BEHIND, _BEHIND_BAR = "settings-load", "settings-behind", "settings-behind-bar"
_APPLIED = "settings-applied"  # number of the version that was set last
_LISTED = "settings-listed"  # what the history shows: it is drawn anew if that differs, lest a click on a button of it be lost
_REASON_LENGTH = 200
_SHOWN = 20  # versions


class _Asked(TypedDict):
    """Which version of an account's settings somebody looked at, and what they ask for in place of it."""

    account: str
    version: int
    values: NotRequired[dict[str, Any]]
    back: NotRequired[int]


def _layout() -> Component:
    may = caller.get().role >= Role.TRADE
    hint = html.Span("Nothing is set before you have seen it." if may else "needs a token of scope trade", className="note")
    return html.Div(
        [
            html.Div(html.Label(["Account", dcc.Dropdown(id=_ACCOUNT, clearable=False)]), className="bar"),
            dcc.Store(id=_LOADED),
            dcc.Store(id=_ASKED),
            dcc.Store(id=_APPLIED),
            html.Div(loading("the settings"), id=_STATE),
            html.Div(
                [html.Span(id=_BEHIND), html.Button("Show the newest", id=_LOAD)], id=_BEHIND_BAR, className="bar", hidden=True
            ),
            html.Div(id=_FORM),
            html.Div([html.Button("Show what changes", id=_LOOK, disabled=not may), hint], id=_BAR, className="bar", hidden=True),
            html.Div(id=_CONFIRM),  # near the buttons that lead to it, above and below
            html.Div(id=_SAID, role="status"),
            dcc.Store(id=_LISTED),
            html.Div(id=_HISTORY),
        ]
    )


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
            names = _names(sources)
        except FxcastError:
            return no_update, no_update  # the other parts say what is wrong
        value = chosen if chosen in names else (names[0] if names else None)
        return (names if names != before else no_update), (value if value != chosen else no_update)

    # Not at every piece of news: what somebody is writing stays until they ask for the newest version.
    @app.callback(
        Output(_FORM, "children"),
        Output(_BAR, "hidden"),
        Output(_LOADED, "data"),
        Input(_ACCOUNT, "value"),
        Input(_LOAD, "n_clicks"),
        Input(_APPLIED, "data"),
    )
    def form(account: str | None, *_: Any) -> tuple[Any, bool, Any]:
        if account is None:
            return None, True, None
        try:
            newest = _newest(sources, account)
            shown = None if newest is None else _form(newest)
        except FxcastError as error:
            return problem("The settings", error), True, None
        return shown, newest is None, None if newest is None else {"account": account, "version": newest.version}

    @app.callback(
        Output(_STATE, "children"),
        Output(_BEHIND, "children"),
        Output(_BEHIND_BAR, "hidden"),
        Input(_ACCOUNT, "value"),
        Input(LIVE, "data"),
        Input(ZONE, "data"),
        Input(_LOADED, "data"),
    )
    def state(account: str | None, _: Any, zone: str | None, loaded: _Asked | None) -> tuple[Any, str, bool]:  # noqa: ANN401
        found = or_problem("the settings", _state)(sources, account, loaded, zone_of(zone))
        shown, behind = found if isinstance(found, tuple) else (found, "")
        return shown, behind, not behind

    @app.callback(
        Output(_HISTORY, "children"),
        Output(_LISTED, "data"),
        Input(_ACCOUNT, "value"),
        Input(LIVE, "data"),
        Input(ZONE, "data"),
        Input(_APPLIED, "data"),
        State(_LISTED, "data"),
    )
    def history(account: str | None, _: Any, zone: str | None, __: Any, listed: str | None) -> tuple[Any, Any]:  # noqa: ANN401
        found = or_problem("the history", _history)(sources, account, zone_of(zone))
        if not isinstance(found, tuple):
            return found, None
        shown, now = found
        return (no_update, no_update) if now == listed else (shown, now)

    @app.callback(
        Output(_ASKED, "data"),
        Input(_LOOK, "n_clicks"),
        Input({"type": "settings-back", "account": ALL, "to": ALL}, "n_clicks"),
        State({"type": "setting", "path": ALL}, "value"),
        State({"type": "setting", "path": ALL}, "id"),
        State(_LOADED, "data"),
        prevent_initial_call=True,
    )
    def ask(look: int | None, backs: list[int | None], values: list[Any], ids: list[dict[str, str]], loaded: _Asked | None) -> Any:  # noqa: ANN401
        pressed = ctx.triggered_id
        if loaded is None or not (look or any(backs)):
            return no_update
        if isinstance(pressed, dict):
            clicked = next((each["value"] for each in ctx.triggered), None)
            return {**loaded, "back": pressed["to"]} if clicked and pressed["account"] == loaded["account"] else no_update
        if pressed != _LOOK:  # nobody did: the history was drawn anew
            return no_update
        return loaded | {"values": {each["path"]: value for each, value in zip(ids, values, strict=True)}}

    @app.callback(Output(_CONFIRM, "children"), Input(_ASKED, "data"))
    def confirm(asked: _Asked | None) -> Any:  # noqa: ANN401
        if asked is None:
            return None
        try:
            caller.get().require(Role.TRADE)
            return _confirm(sources, asked)
        except FxcastError as error:
            return _refused(error)

    @app.callback(
        Output(_SAID, "children"),
        Output(_ASKED, "data", allow_duplicate=True),
        Output(_APPLIED, "data"),
        Input("settings-apply", "n_clicks"),
        Input("settings-cancel", "n_clicks"),
        State(_ASKED, "data"),
        State("settings-reason", "value"),
        prevent_initial_call=True,
    )
    def apply(applied: int | None, cancelled: int | None, asked: _Asked | None, reason: str | None) -> tuple[Any, Any, Any]:
        if not (applied or cancelled) or asked is None:
            return no_update, no_update, no_update
        if ctx.triggered_id == "settings-cancel":
            return "Nothing was changed.", None, no_update
        try:
            said, version = _apply(sources, asked, (reason or "")[:_REASON_LENGTH])
        except FxcastError as error:
            return _refused(error), no_update, no_update
        return said, None, version


def _names(sources: Sources) -> list[str]:
    database = sources.database
    return sorted({*(account.name for account in accounts(database)), *accounts_with_settings(database)})


def _newest(sources: Sources, account: str) -> SettingsVersion | None:
    """Return the newest version that no engine has refused."""
    return next((each for each in SettingsVersions(sources.database, account).newest(_SHOWN) if not each.problem), None)


def _form(version: SettingsVersion) -> Component:
    content = content_of(version.trading())
    parts: list[Component] = []
    for section in SECTIONS:
        controls = [
            control(field, value_at(content, field.path), id={"type": "setting", "path": field.path}) for field in section.fields
        ]
        summary = html.Summary([html.H2(section.title), html.Span(section.help, className="note")])
        parts.append(html.Details([summary, html.Div(controls, className="fields")], open=section.is_open, className="panel"))
    own = ", ".join(str(each["class"]) for each in content["sources"])
    if own:
        parts.append(html.P(f"Sources of your own, set where the engine is started: {own}.", className="note"))
    return html.Div(parts)


def _state(sources: Sources, account: str | None, loaded: _Asked | None, zone: tzinfo) -> tuple[Component, str]:
    """Return what is in force, and a sentence if what the form was made of is not the newest."""
    if account is None and _names(sources):
        return loading("the settings"), ""  # the account is chosen in a moment
    if account is None:
        return panel("Nothing yet", html.P("No engine has traded. Start one with python -m jobs.trade.", className="empty")), ""
    versions = SettingsVersions(sources.database, account).newest(_SHOWN)
    newest = next((each for each in versions if not each.problem), None)
    if newest is None:
        words = f"The engine of {account} tells its settings when it is started the next time."
        return panel("Nothing yet", html.P(words, className="empty")), ""
    said: list[Any] = [f"Version {newest.version}, {_by(newest)}, "]
    if newest.taken_at is None:
        said += [mark("not taken in yet", "warn"), ": the engine takes it before its next candle, if it runs."]
    else:
        said += [mark("in force", "good"), " since ", when(newest.taken_at, zone), "."]
    bad: list[Component] = []
    if versions[0].problem:
        words = f"Version {versions[0].version}, {_by(versions[0])}, was refused by the engine, which goes on with those before: "
        bad = [html.P([html.Strong(words), versions[0].problem], className="problem", role="alert")]
    shown = panel("In force", html.P(said), *bad, note=f"Of account {account}. Times in {zone_name(zone)}.")
    if loaded is None or loaded.get("account") != account or loaded.get("version") == newest.version:
        return shown, ""
    return shown, f"Below is version {loaded['version']}; the newest is {newest.version}."


def _by(version: SettingsVersion) -> str:
    return "from the start of the engine" if version.by == STARTED else f"set by {version.by}"


def _history(sources: Sources, account: str | None, zone: tzinfo) -> tuple[Component | None, str]:
    """Return the versions, and a text that differs if they do."""
    if account is None:
        return None, ""
    found = SettingsVersions(sources.database, account).newest(_SHOWN + 1)
    may = caller.get().role >= Role.TRADE
    rows: list[list[Any]] = []
    newest = next((each.version for each in found if not each.problem), None)
    for place, each in enumerate(found[:_SHOWN]):
        before = found[place + 1] if place + 1 < len(found) else None
        back = html.Button(
            f"go back to {each.version}",
            id={"type": "settings-back", "account": account, "to": each.version},
            disabled=not may or each.version == newest or bool(each.problem),
        )
        state = mark("refused", "bad") if each.problem else "not yet" if each.taken_at is None else when(each.taken_at, zone)
        rows.append([str(each.version), when(each.made_at, zone), _by(each), each.reason or None, _told(before, each), state, back])
    columns = ["version", "set", "by", "reason", "what changed", "taken in", "undo"]
    shown = table(columns, rows, empty="No version yet.", wide=("reason", "what changed"))
    told = [(each.version, str(each.taken_at), each.problem) for each in found]
    return panel("History", shown, note=f"The newest {_SHOWN}. Going back makes a new version."), f"{account} {zone} {told}"


def _told(before: SettingsVersion | None, after: SettingsVersion) -> str | None:
    if before is None:
        return None
    try:
        found = what_differs(before.trading(), after.trading())
    except BadSetting as error:
        return f"can't be told: {error}"
    return "; ".join(f"{each.label}: {each.before or 'not set'} → {each.after or 'not set'}" for each in found) or "nothing"


def _wanted(sources: Sources, asked: _Asked) -> tuple[SettingsVersion, TradingConfig]:
    """Return the version that somebody looked at, and what they ask for in place of it."""
    versions = SettingsVersions(sources.database, str(asked["account"]))
    seen = versions.get(int(asked["version"]))
    if "back" in asked:
        back = versions.get(int(asked["back"])).trading()
        return seen, back.model_copy(update={"sources": seen.trading().sources})  # which come with the start
    return seen, changed(seen.trading(), asked.get("values", {}))


def _confirm(sources: Sources, asked: _Asked) -> Component:
    seen, wanted = _wanted(sources, asked)
    found = what_differs(seen.trading(), wanted)
    cancel = html.Button("Cancel", id="settings-cancel")
    if not found:
        hidden = [html.Button("Apply", id="settings-apply", hidden=True), dcc.Input(id="settings-reason", type="hidden")]
        return html.Div([html.P("Nothing differs from what is set."), cancel, *hidden], className="confirm", role="alertdialog")
    account = asked["account"]
    return html.Div(
        [
            html.P([html.Strong(f"Set this for {account}? "), "Its engine trades with it from the next candle on."]),
            _differences(found),
            html.Div(
                [
                    html.Label(["Reason, kept with it", dcc.Input(id="settings-reason", type="text", maxLength=_REASON_LENGTH)]),
                    html.Button("Apply", id="settings-apply", className="danger"),
                    cancel,
                ],
                className="bar",
            ),
        ],
        className="confirm",
        role="alertdialog",
        **labelled("confirm the settings"),
    )


def _differences(found: tuple[Difference, ...]) -> Component:
    rows = [(each.label, each.before or None, html.Strong(each.after or "not set")) for each in found]
    return table(["setting", "now", "then"], rows, empty="", wide=("now", "then"))


def _apply(sources: Sources, asked: _Asked, reason: str) -> tuple[str, int]:
    """Set what was asked for; say so, and return the version's number."""
    who = caller.get()
    who.require(Role.TRADE)
    seen, wanted = _wanted(sources, asked)
    if not what_differs(seen.trading(), wanted):
        raise Conflict("nothing differs from what is set")
    versions = SettingsVersions(sources.database, str(asked["account"]))
    newest = versions.newest(_SHOWN)  # read once: what comes after it is a conflict
    in_force = next((each for each in newest if not each.problem), None)
    if in_force is None or in_force.version != seen.version:
        found = "none" if in_force is None else f"version {in_force.version}"
        raise Conflict(f"the settings were changed meanwhile: found {found}, expected version {seen.version}; look at them again")
    words = reason or (f"back to version {asked['back']}" if "back" in asked else "")
    version = versions.add(wanted, by=who.name, reason=words, after=newest[0].version, now=sources.now())
    return f"Version {version} is set by {who.name}. The engine takes it before its next candle.", version


def _refused(error: FxcastError) -> Component:
    return html.Div([html.Strong("Not set: "), str(error)], className="problem", role="alert")


SETTINGS = Page(path="settings", title="Settings", layout=_layout, register=_register)
