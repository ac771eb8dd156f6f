"""Check a cluster for what fxcast needs: python -m jobs.doctor --store s3://bucket/candles --database-url postgresql+psycopg://…"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.table import Table

from fxcast.adapters.storage.database import absolute_database_url
from fxcast.cluster.doctor import Finding, Needs, State, examine
from fxcast.cluster.doctor_checks import CHECKS
from fxcast.config import JobSettings
from fxcast.data.store import absolute_location
from fxcast.terminal import new_console
from jobs.entry import run

_MARKS = {State.PASSED: "[green]✓[/]", State.FAILED: "[red]✗[/]", State.SKIPPED: "–"}


class DoctorSettings(JobSettings):
    """Check the cluster that runs for what fxcast needs, from every node, and say how to mend what it lacks.

    Exit code 0 if nothing failed, 1 if something did. It writes small files to the stores and deletes them, and writes to the
    database in a transaction that it rolls back.
    """

    address: str = Field(
        default="auto", description="of the cluster, as ray.init takes it; RAY_ADDRESS, or the one on this machine"
    )
    store: str = Field(default="runs/store", description="candle store, a folder or a URI (FXCAST_STORE)")
    models: str | None = Field(default=None, description="where models and checkpoints go, a folder or a URI")
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the ledger as the nodes see it (FXCAST_DATABASE_URL)"
    )
    serve_port: int = Field(default=8000, gt=0, lt=65536, description="of the forecast service")
    variables: tuple[str, ...] = Field(default=(), description="environment variables that every node must have, as secrets")
    max_clock_skew_s: float = Field(
        default=2.0, gt=0, description="by how much clocks may differ; must be well below the engine's lease_ttl_s"
    )
    min_free_gb: float = Field(default=5.0, gt=0, description="free disk space on every node")
    require_token: bool = Field(default=True, description="whether ports that other machines reach must ask for a token")
    timeout_s: float = Field(default=60.0, gt=0, description="for one question to all nodes")
    as_json: bool = Field(default=False, alias="json", description="the findings as JSON")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _examine(DoctorSettings.parse(arguments)))


def _examine(settings: DoctorSettings) -> int:
    folders = {"candles": settings.store} | ({} if settings.models is None else {"models": settings.models})
    needs = Needs(
        folders={purpose: absolute_location(root) for purpose, root in folders.items()},
        database_url=None if settings.database_url is None else absolute_database_url(settings.database_url),
        serve_port=settings.serve_port,
        variables=settings.variables,
        max_clock_skew_s=settings.max_clock_skew_s,
        min_free_gb=settings.min_free_gb,
        require_token=settings.require_token,
        timeout_s=settings.timeout_s,
    )
    findings = examine(needs, settings.address, CHECKS)
    failures = sum(finding.state is State.FAILED for finding in findings)
    if settings.as_json:
        sys.stdout.write(json.dumps({"failures": failures, "findings": [asdict(finding) for finding in findings]}, indent=2) + "\n")
    else:
        console = new_console()
        console.print(_table(findings))
        for advice in dict.fromkeys(finding.advice for finding in findings if finding.advice):
            checks = dict.fromkeys(finding.check for finding in findings if finding.advice == advice)
            console.print(f"{', '.join(checks)}: {advice}", markup=False)
        console.print("nothing failed" if not failures else f"{failures} failed", markup=False)
    return 1 if failures else 0


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "check", "node", "found"):
        table.add_column(heading, overflow="fold")
    rows: dict[tuple[State, str, str], list[str]] = {}
    for finding in findings:
        rows.setdefault((finding.state, finding.check, finding.found), []).append(finding.node)
    for (state, check, found), nodes in rows.items():
        table.add_row(_MARKS[state], check, nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes", found)
    return table


if __name__ == "__main__":
    sys.exit(main())
