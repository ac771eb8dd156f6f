"""The files of a release: wheel, sdist, notes and checksums."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fxcast.errors import BadSetup, MustStop

CHECKSUMS = "SHA256SUMS"


def build(repository: Path, target: Path) -> None:
    """Build wheel and sdist, by what pyproject.toml names, in a fresh environment with the pinned versions.

    Raises:
        MustStop: If it fails, with the end of what was said.
    """
    command = [sys.executable, "-m", "build", "--sdist", "--wheel", "--outdir", str(target), str(repository)]
    environment = {**os.environ, "PIP_CONSTRAINT": str(repository / "constraints.txt")}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if built.returncode:
        raise MustStop(f"wheel and sdist can't be built: {(built.stdout + built.stderr).strip()[-800:]}")


def empty(folder: Path) -> None:
    """Make an empty folder, removing what an older release has left there.

    Raises:
        BadSetup: If it holds something else.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / CHECKSUMS).is_file():
            raise BadSetup(
                f"{folder}: found files that are no release ({CHECKSUMS} is missing); allowed: a new or empty folder, or a release"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def write_checksums(folder: Path) -> Path:
    """Write the SHA-256 of each file of a folder, as `sha256sum --check` reads them."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != CHECKSUMS)
    target = folder / CHECKSUMS
    target.write_text("".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files))
    return target


def changes(changelog: str, version: str) -> str:
    """Return the changelog's section of a version, or of what is not released yet.

    Raises:
        MustStop: If it has neither.
    """
    for name in (version, "Unreleased"):
        section = re.search(rf"^## \[{re.escape(name)}\].*?\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
        if section is not None:
            return section[1].strip()
    raise MustStop(f"CHANGELOG.md: found neither a section [{version}] nor [Unreleased]")


def notes(*, version: str, source: str, audit: str, sbom: str, files: Sequence[str], changed: str) -> str:
    """Return the release notes.

    Args:
        source: The commit, and whether the files differed from it.
        audit: What is known of vulnerabilities.
        sbom: The name of the bill of materials.
    """
    return f"""# fxcast {version}

Built from {source}. Files: {", ".join(files)}. Check them with `sha256sum --check {CHECKSUMS}`.

## Vulnerabilities

{audit}
The packages that this version was tested with are in {sbom} (CycloneDX 1.6).

## Changes

{changed}
"""


def source_of(repository: Path) -> str:
    """Name the commit of a checkout; says so if files differ from it."""
    commit = _git(repository, "rev-parse", "HEAD")
    return f"commit {commit}" + (", with changes that are in no commit" if _git(repository, "status", "--porcelain") else "")


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - our own words
