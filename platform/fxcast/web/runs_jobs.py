"""The cluster's jobs on page Runs: what runs now, how far it is, and a button that stops it."""

from __future__ import annotations

from datetime import tzinfo

from dash import html
from dash.development.base_component import Component

from fxcast.web.cluster_jobs import ClusterJob
from fxcast.web.page import CellT, labelled, mark, panel, table, when
from fxcast.web.roles import Role, caller
from fxcast.web.runs_start import STOP
from fxcast.web.runs_view import duration
from fxcast.web.sources import Sources
from fxcast.web.times import zone_name

_SHOWN = 20
_KINDS = {"succeeded": "good", "failed": "bad", "stopped": "warn"}


def cluster_panel(sources: Sources, zone: tzinfo) -> Component | None:
    """Return the panel of the jobs, None where the page knows of no cluster.

    Raises:
        Unavailable: If its dashboard does not answer.
        BadSetup: If it refuses the page's token.
    """
    if sources.jobs is None:
        return None
    may = caller.get().role >= Role.TRADE
    rows = [_row(each, sources, zone, may=may) for each in sources.jobs.listed(limit=_SHOWN)]
    columns = ["job", "state", "last said", "begun", "took", "by", "command", *(["stop"] if may else [])]
    shown = table(columns, rows, empty="No job of fxcast has run on this cluster.", wide=("last said", "command"))
    return panel("On the cluster", shown, note=f"The newest {_SHOWN}, at {sources.jobs.address}. Times in {zone_name(zone)}.")


def _row(job: ClusterJob, sources: Sources, zone: tzinfo, *, may: bool) -> list[CellT]:
    took = job.took_s(sources.now())
    row: list[CellT] = [
        html.Span(job.id, title=job.name),
        mark(job.state, _KINDS.get(job.state, "plain")),
        job.said or None,
        when(job.begun_at, zone),
        None if took is None else duration(took),
        job.by,
        html.Code(job.command),
    ]
    if may:
        stop = html.Button("Stop", id={"type": STOP, "job": job.id}, className="danger", **labelled(f"Stop {job.id}"))
        row.append("" if job.is_over else stop)
    return row
