"""Make a release in dist/: python -m release.make [--allow-no-audit]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from fxcast import __version__
from fxcast.config import JobSettings
from jobs.entry import run
from release.audit import audit_packages, require_audited
from release.files import build, changes, empty, notes, source_of, write_checksums
from release.sbom import check_sbom, write_sbom

REPOSITORY = Path(__file__).resolve().parents[1]


class ReleaseSettings(JobSettings):
    """Audit the pinned packages, build wheel and sdist, write the bill of materials, the notes and the checksums."""

    target: Path = Field(default=REPOSITORY / "dist", description="an older release there is removed first")
    allow_no_audit: bool = Field(default=False, description="go on if no service of vulnerabilities answers; the notes say so")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it."""
    return run(lambda: _release(ReleaseSettings.parse(arguments)))


def _release(settings: ReleaseSettings) -> int:
    constraints = REPOSITORY / "constraints.txt"
    audit = require_audited(audit_packages(constraints), allow_none=settings.allow_no_audit)
    empty(settings.target)
    sbom = settings.target / f"fxcast-{__version__}.cdx.json"
    write_sbom(sbom, REPOSITORY / "pyproject.toml")
    check_sbom(sbom, constraints)
    build(REPOSITORY, settings.target)
    files = sorted(file.name for file in settings.target.iterdir())
    changed = changes((REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), __version__)
    text = notes(version=__version__, source=source_of(REPOSITORY), audit=audit, sbom=sbom.name, files=files, changed=changed)
    (settings.target / "RELEASE_NOTES.md").write_text(text, encoding="utf-8")
    write_checksums(settings.target)
    print(audit)
    print(f"released to {settings.target}: {', '.join(sorted(file.name for file in settings.target.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
