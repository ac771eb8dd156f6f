"""Ask whether known vulnerabilities are in the pinned packages, and say plainly if nobody could tell."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxcast.errors import MustStop

SERVICES = ("pypi", "osv")

# A release with vulnerabilities that everybody knows (CVE-2018-18074 and later). A service that finds none in it, as a mirror that
# serves packages without advisories does, would call anything clean.
_CANARY = "requests==2.19.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What one service of vulnerabilities said of the pinned packages.

    Attributes:
        service: pypi or osv.
        audited: How many packages it knew.
        skipped: Packages that it did not know, which are thus not audited.
        vulnerabilities: One line each: package, version, ids, and the versions that mend it.
        problem: Why the service can't be relied on; empty if it can.
    """

    service: str
    audited: int = 0
    skipped: tuple[str, ...] = ()
    vulnerabilities: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_complete(self) -> bool:
        """Return whether every package was audited by a service that knows vulnerabilities."""
        return not self.problem and not self.skipped and self.audited > 0

    def describe(self) -> str:
        """Return one sentence for the release notes."""
        if self.problem:
            return f"{self.service}: {self.problem}"
        if self.skipped:
            of = self.audited + len(self.skipped)
            return f"{self.service}: {len(self.skipped)} of {of} packages unknown to it, among them {', '.join(self.skipped[:3])}"
        return f"{self.service}: {self.audited} packages audited, {len(self.vulnerabilities)} known vulnerabilities"


def audit_packages(constraints: Path) -> tuple[Audit, ...]:
    """Audit the pinned packages with one service after the other, until one has answered for all of them.

    Args:
        constraints: Lines of NAME==VERSION.
    """
    audits: list[Audit] = []
    for service in SERVICES:
        audits.append(_audit(service, constraints))
        if audits[-1].is_complete:
            break
    return tuple(audits)


def require_audited(audits: Sequence[Audit], *, allow_none: bool) -> str:
    """Return what the release notes say of the audit.

    Args:
        allow_none: Go on if no service answered for all packages.

    Raises:
        MustStop: If a vulnerability is known, or if none could be looked for and that is not allowed.
    """
    found = sorted({line for audit in audits for line in audit.vulnerabilities})
    if found:
        raise MustStop(f"known vulnerabilities in constraints.txt: {'; '.join(found)}; update these packages")
    told = "; ".join(audit.describe() for audit in audits)
    if any(audit.is_complete for audit in audits):
        return f"Audited with pip-audit. {told}."
    if not allow_none:
        raise MustStop(
            f"the packages were NOT audited: {told}; run where a service is reached, or release all the same with ALLOW_NO_AUDIT=1"
        )
    return f"**NOT audited**, and released all the same (ALLOW_NO_AUDIT=1). {told}."


def read_report(service: str, report: Mapping[str, Any]) -> Audit:
    """Read pip-audit's JSON."""
    packages: list[dict[str, Any]] = report["dependencies"]
    return Audit(
        service=service,
        audited=sum("vulns" in package for package in packages),
        skipped=tuple(sorted(str(package["name"]) for package in packages if "vulns" not in package)),
        vulnerabilities=tuple(_line(package, vulnerability) for package in packages for vulnerability in package.get("vulns", ())),
    )


def _line(package: Mapping[str, Any], vulnerability: Mapping[str, Any]) -> str:
    ids = ", ".join(dict.fromkeys([vulnerability["id"], *vulnerability.get("aliases", ())]))
    mended = ", ".join(vulnerability.get("fix_versions", ())) or "no version yet"
    return f"{package['name']} {package['version']}: {ids} (mended in {mended})"


def _audit(service: str, constraints: Path) -> Audit:
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary.txt"
        canary.write_text(f"{_CANARY}\n")
        known = ask(service, canary)
    if known.problem:
        return known
    if not known.vulnerabilities:
        return Audit(service=service, problem=f"tells no vulnerability of {_CANARY}, which has some: it has no advisories here")
    return ask(service, constraints)


def ask(service: str, requirements: Path) -> Audit:
    """Ask one service about the packages of a requirements file."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--vulnerability-service", service]
    command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    try:
        return read_report(service, json.loads(told.stdout))
    except (json.JSONDecodeError, KeyError, TypeError):  # it ends with 1 for a vulnerability as well as for a failure
        lines = told.stderr.strip().splitlines() or ["it said nothing"]
        return Audit(service=service, problem=f"did not answer ({lines[-1].strip()[:300]})")
