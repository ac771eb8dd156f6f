"""Starting and stopping runs: a form out of the run's own settings, a confirmation that shows the command, a job of the cluster."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, cast

from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from ray.job_submission import JobStatus
from typing_extensions import TypedDict  # pydantic takes only this before Python 3.12

from fxcast.errors import BadSetup, FxcastError, Unavailable
from fxcast.web.cluster_jobs import ClusterJobs
from fxcast.web.forms import FormField, control, value_at
from fxcast.web.page import labelled, panel
from fxcast.web.roles import Role, caller
from fxcast.web.sources import Sources
from fxcast.web.startable import STARTABLE, CheckedRun, StartForm, checked_run, config_names, is_ready, start_form, startable

SAID = "runs-said"  # what came of the last start or stop
STOP = "run-stop"  # type of the buttons that stop a job, whose id is under "job"

_OPENED, _PANEL, _ASKED, _CONFIRM = "runs-opened", "runs-start", "runs-asked", "runs-confirm"
_KIND, _CONFIG, _CHOICE, _FORM, _PROBLEM = "runs-kind", "runs-config", "runs-choice", "runs-form", "runs-problem"
_FIELD, _AGAIN = "run-field", "runs-again"
_QUESTION = "runs-question"  # what the dialog on the screen asks; `_ASKED` may be another one already
_READ_S, _AGAIN_MS = 5.0, 500  # how long the settings of a run are waited for, and the pause before that is done again
_NOWHERE = "Runs are not started from here: this page was not told where a cluster's dashboard is (dashboard_url)."


class _Start(TypedDict):
    do: Literal["start"]
    kind: str
    config: str
    raw: dict[str, Any]
    again: bool
    before: str


class _Stop(TypedDict):
    do: Literal["stop"]
    job: str


def start_layout() -> Component:
    """Return the parts that start and stop."""
    return html.Div(
        [
            dcc.Store(id=_OPENED, data=True),
            dcc.Store(id=_ASKED),
            dcc.Interval(id=_AGAIN, interval=_AGAIN_MS, max_intervals=0),
            html.Div(id=_PANEL),
            html.Div(id=_CONFIRM),
            dcc.Loading(html.Div(id=SAID, role="status"), type="dot"),
        ]
    )


def register_start(app: Dash, sources: Sources) -> None:
    """Add the callbacks that start and stop."""

    @app.callback(Output(_PANEL, "children"), Input(_OPENED, "data"))
    def begin(_: Any) -> Component:  # noqa: ANN401  # Dash's own values
        return _start_panel(sources)

    @app.callback(Output(_CHOICE, "children"), Input(_KIND, "value"))
    def choose(kind: str | None) -> Any:  # noqa: ANN401
        try:
            return None if kind is None else _choice(kind)
        except FxcastError as error:
            return _refused("This run can't be started", error)

    @app.callback(
        Output(_FORM, "children"),
        Output(_AGAIN, "max_intervals"),
        Input(_CONFIG, "value"),
        Input(_AGAIN, "n_intervals"),
        State(_KIND, "value"),
        prevent_initial_call=True,
    )
    def show(config: str | None, asked: int | None, kind: str | None) -> tuple[Any, Any]:
        if kind is None:
            return None, no_update
        try:
            _jobs(sources)
            if not is_ready(startable(kind), wait_s=_READ_S):
                return html.P("Reading the settings of this run for the first time …", className="empty"), (asked or 0) + 1
            return _form(kind, start_form(startable(kind), config or "")), no_update
        except FxcastError as error:
            return _refused("This run can't be started", error), no_update

    @app.callback(
        Output(_ASKED, "data"),
        Output(_PROBLEM, "children"),
        Input("runs-check", "n_clicks"),
        State(_KIND, "value"),
        State(_CONFIG, "value"),
        State({"type": _FIELD, "path": ALL}, "value"),
        State({"type": _FIELD, "path": ALL}, "id"),
        prevent_initial_call=True,
    )
    def check(
        clicks: int | None, kind: str, config: str | None, values: Sequence[object], ids: Sequence[Mapping[str, str]]
    ) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        raw = {each["path"]: value for each, value in zip(ids, values, strict=True)}
        try:
            return _checked(sources, kind, config or "", raw), None
        except FxcastError as error:
            return None, _refused("Not started", error)

    @app.callback(
        Output(_ASKED, "data", allow_duplicate=True), Input({"type": STOP, "job": ALL}, "n_clicks"), prevent_initial_call=True
    )
    def ask_to_stop(clicks: Sequence[int | None]) -> Any:  # noqa: ANN401
        pressed = ctx.triggered_id
        return {"do": "stop", "job": pressed["job"]} if any(clicks) and isinstance(pressed, dict) else no_update

    @app.callback(Output(_CONFIRM, "children"), Input(_ASKED, "data"))
    def confirm(asked: _Start | _Stop | None) -> Any:  # noqa: ANN401
        if not asked:
            return None
        try:
            return _confirm_stop(asked) if asked["do"] == "stop" else _confirm_start(sources, asked)
        except FxcastError as error:
            return _refused("Not started", error)

    @app.callback(
        Output(SAID, "children"),
        Output(_ASKED, "data", allow_duplicate=True),
        Input("runs-do", "n_clicks"),
        Input("runs-cancel", "n_clicks"),
        State(_QUESTION, "data"),
        State(_ASKED, "data"),
        prevent_initial_call=True,
    )
    def do(done: int | None, cancelled: int | None, shown: _Start | _Stop | None, asked: _Start | _Stop | None) -> tuple[Any, Any]:
        if not (done or cancelled) or not shown:
            return no_update, no_update
        answered = None if asked == shown else no_update  # the next question is on its way to the screen
        if ctx.triggered_id == "runs-cancel":
            return "Nothing was started or stopped.", answered
        try:
            return (_stop(sources, shown["job"]) if shown["do"] == "stop" else _start(sources, shown)), answered
        except FxcastError as error:
            return _refused("Not done", error), no_update


def _jobs(sources: Sources) -> ClusterJobs:
    """Return the cluster's jobs to somebody who may start and stop them.

    Raises:
        Forbidden: To everybody else.
        BadSetup: If there is no cluster.
    """
    caller.get().require(Role.TRADE)
    if sources.jobs is None:
        raise BadSetup(_NOWHERE)
    return sources.jobs


def _checked(sources: Sources, kind: str, config: str, raw: Mapping[str, object]) -> dict[str, Any]:
    """Return what to confirm, once the settings class has taken it."""
    jobs = _jobs(sources)
    run = checked_run(startable(kind), config, raw, home=jobs.home)
    asked: dict[str, Any] = {"do": "start", "kind": kind, "config": config, "raw": dict(run.changed), "again": False, "before": ""}
    try:
        latest = jobs.latest(run.arguments, name=run.name)
    except Unavailable as error:
        return asked | {"before": str(error)}
    if latest is None:
        return asked
    if latest.state == JobStatus.SUCCEEDED.value.lower():
        return asked | {"again": True, "before": f"It has succeeded before, as job {latest.id}: this starts it anew."}
    if not latest.is_over:
        return asked | {"before": f"It runs already, as job {latest.id}: while it does, nothing more is started."}
    return asked | {"before": f"It has {latest.state} before, as job {latest.id}: this starts it anew."}


def _run(jobs: ClusterJobs, asked: Mapping[str, Any]) -> CheckedRun:
    return checked_run(startable(asked["kind"]), asked["config"], asked["raw"], home=jobs.home)


def _start(sources: Sources, asked: Mapping[str, Any]) -> str:
    jobs = _jobs(sources)
    run = _run(jobs, asked)
    job = jobs.start(run.arguments, name=run.name, by=caller.get().name, again=bool(asked["again"]))
    if job.is_new:
        return f"Started as job {job.id} by {caller.get().name}."
    if job.status is JobStatus.SUCCEEDED:
        return f"Job {job.id} has succeeded meanwhile; nothing was started."
    return f"Job {job.id} runs already; nothing more was started."


def _stop(sources: Sources, job_id: str) -> str:
    ran = _jobs(sources).stop(job_id, by=caller.get().name)
    return f"Job {job_id} is asked to stop, by {caller.get().name}." if ran else f"Job {job_id} had ended by itself."


def _start_panel(sources: Sources) -> Component:
    if sources.jobs is None:
        return panel("Start a run", html.P(_NOWHERE, className="empty"))
    if caller.get().role < Role.TRADE:
        return panel("Start a run", html.P("Starting and stopping runs needs a token of scope trade.", className="empty"))
    kinds = dcc.RadioItems([each.kind for each in STARTABLE], id=_KIND, inline=True)
    return panel(
        "Start a run",
        html.Fieldset([html.Legend("Run"), kinds], className="field choices"),
        html.Div(id=_CHOICE),
        html.Div(id=_FORM),
        html.Div(id=_PROBLEM, role="alert"),
        note=f"As a job of the Ray cluster at {sources.jobs.address}. Nothing is started before you have seen the command.",
    )


def _choice(kind: str) -> Component:
    run = startable(kind)
    names = config_names(run)
    options: list[Any] = [*({"label": name, "value": name} for name in names), {"label": "none: the defaults", "value": ""}]
    files = dcc.RadioItems(options, options[0]["value"], id=_CONFIG, inline=True)
    return html.Div([html.P(run.help), html.Fieldset([html.Legend("Config file, in configs/"), files], className="field choices")])


def _form(kind: str, form: StartForm) -> Component:
    first = [field for field in form.fields if field.path == "name" or field.required]
    others = [field for field in form.fields if field not in first]
    alone = [field for field in others if "." not in field.path]
    nested = sorted((field for field in others if "." in field.path), key=lambda field: field.path.partition(".")[0])
    groups = [
        html.Details([html.Summary(f"{name} ({len(inner)})"), _controls(form, inner)], className="group")
        for name, found in groupby(nested, key=lambda field: field.path.partition(".")[0])
        if (inner := list(found))
    ]
    return html.Div(
        [
            _controls(form, first),
            html.Details(
                [
                    html.Summary(f"All other settings ({len(others)}); only what you change is passed"),
                    _controls(form, alone),
                    *groups,
                ],
                className="group",
            ),
            html.Button(f"Check {kind} and show the command", id="runs-check"),
        ]
    )


def _controls(form: StartForm, fields: Sequence[FormField]) -> Component:
    made = [control(field, value_at(form.content, field.path), id={"type": _FIELD, "path": field.path}) for field in fields]
    return html.Div(made, className="fields")


def _confirm_start(sources: Sources, asked: Mapping[str, Any]) -> Component:
    jobs = _jobs(sources)
    run = _run(jobs, asked)
    notes = [cast("str", asked["before"])] if asked["before"] else []
    notes.append(f"Relative paths are meant from {jobs.home} on the cluster's nodes.")
    if jobs.variables.kept:
        notes.append(f"Left to the environment of the cluster's nodes: {', '.join(jobs.variables.kept)}.")
    return _dialog(
        "confirm the start",
        html.P([html.Strong(f"Start this on the cluster at {jobs.address}?")]),
        html.Pre(html.Code(shlex.join(run.arguments)), className="command", tabIndex=0),
        *(html.P(note) for note in notes),
        question=asked,
        button=html.Button("Start", id="runs-do"),
    )


def _confirm_stop(asked: _Stop) -> Component:
    return _dialog(
        "confirm the stop",
        html.P([html.Strong(f"Stop job {asked['job']}? "), "It is asked to end, and killed if it has not after some seconds."]),
        question=asked,
        button=html.Button("Stop the job", id="runs-do", className="danger"),
    )


def _dialog(what: str, *children: Component, question: Mapping[str, Any], button: Component) -> Component:
    buttons = html.Div([button, html.Button("Cancel", id="runs-cancel")], className="bar")
    return html.Div(
        [dcc.Store(id=_QUESTION, data=dict(question)), *children, buttons],
        className="confirm",
        role="alertdialog",
        **labelled(what),
    )


def _refused(what: str, error: FxcastError) -> Component:
    return html.Div([html.Strong(f"{what}: "), html.Span(str(error))], className="problem", role="alert")
