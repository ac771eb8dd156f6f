"""Examine a cluster for what fxcast needs, and say how to mend what it lacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import ray

from fxcast.cluster.nodes import Node, alive_nodes
from fxcast.cluster.versions import explained_refusal
from fxcast.errors import BadSetup


class State(StrEnum):
    """What came of looking."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the cluster is examined for.

    Attributes:
        folders: Stores of candles, models and checkpoints, by what they are for: folders, or URIs that `pyarrow.fs` knows.
        database_url: Of the ledger; None to look at none.
        serve_port: Of the forecast service.
        variables: Environment variables that the workers of every node must have.
        max_clock_skew_s: By how much a clock may differ from the driver's.
        min_free_gb: Free disk space where Ray writes logs and spilled objects.
        require_token: Whether ports that other machines reach must ask for a token.
        timeout_s: For one question to all nodes.
    """

    folders: dict[str, str]
    database_url: str | None
    serve_port: int
    variables: tuple[str, ...]
    max_clock_skew_s: float
    min_free_gb: float
    require_token: bool
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: The name of the check.
        node: Where; empty for the cluster as a whole.
        found: In words.
        advice: What to do if it failed.
    """

    check: str = ""
    node: str = ""
    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check: its name, and what looks; what it raises is a failure that says why."""

    name: str
    look: Callable[[Needs, Sequence[Node]], Iterable[Finding]]


def passed(found: str, node: str = "") -> Finding:
    """Return the finding that something is as it must be."""
    return Finding(node=node, state=State.PASSED, found=found)


def failed(found: str, advice: str, node: str = "") -> Finding:
    """Return the finding that something is not as it must be."""
    return Finding(node=node, state=State.FAILED, found=found, advice=advice)


def skipped(found: str, advice: str = "", node: str = "") -> Finding:
    """Return the finding that something was not looked at, and why."""
    return Finding(node=node, state=State.SKIPPED, found=found, advice=advice)


def examine(needs: Needs, address: str, checks: Sequence[Check]) -> tuple[Finding, ...]:
    """Join a cluster and run checks on it; without a cluster there is one finding, that there is none."""
    try:
        with explained_refusal():
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (BadSetup, ConnectionError, RuntimeError, ValueError) as error:
        advice = (
            "start it (ray up cluster.yaml, or ray start --head), name it with --address or RAY_ADDRESS, and give this process its "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN; or submit the doctor with python -m jobs.submit"
        )
        return (replace(failed(in_words(error), "" if isinstance(error, BadSetup) else advice), check="Ray"),)
    try:
        nodes = alive_nodes()
        joined = replace(passed(f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}, Ray {ray.__version__}"), check="Ray")
        return (joined, *(finding for check in checks for finding in look(check, needs, nodes)))
    finally:
        ray.shutdown()


def look(check: Check, needs: Needs, nodes: Sequence[Node]) -> list[Finding]:
    """Run one check."""
    findings: list[Finding] = []
    try:
        for finding in check.look(needs, nodes):
            findings.append(replace(finding, check=check.name))  # noqa: PERF401 - what came before a crash is kept
    except Exception as error:  # noqa: BLE001  # a check may raise anything: it is told as failed, and the others go on
        found = f"the check itself failed: {type(error).__name__}: {in_words(error)}"
        findings.append(Finding(check=check.name, state=State.FAILED, found=found, advice="look at the node's logs in /tmp/ray"))
    return findings


def in_words(error: Exception) -> str:
    """Return what an error says, in one line and without its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
