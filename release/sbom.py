"""The software bill of materials: CycloneDX JSON of the environment that was tested, held against constraints.txt."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from fxcast.errors import MustStop

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#]+)")
_NAME = re.compile(r"[-_.]+")

Versions = dict[str, str]


def write_sbom(target: Path, pyproject: Path) -> None:
    """Write the packages of this Python's environment, with licenses and dependencies; the same environment gives the same file."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(pyproject), "--output-reproducible"]
    command += ["--output-format", "JSON", "--spec-version", "1.6", "--output-file", str(target), sys.executable]
    written = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if written.returncode:
        raise MustStop(f"no bill of materials: {written.stderr.strip()[-500:]}")


def check_sbom(sbom: Path, constraints: Path) -> None:
    """Check the file against CycloneDX's schema, and the environment that it tells of against the pins.

    Raises:
        MustStop: If it breaks the schema, or the environment is not the pinned one; names the packages.
    """
    text = sbom.read_text(encoding="utf-8")
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise MustStop(f"{sbom}: not CycloneDX 1.6: {problem}")
    differing = differences(read_versions(text), read_pins(constraints))
    if differing:
        raise MustStop(f"the environment is not that of constraints.txt: {'; '.join(differing)}; make .venv anew")


def read_versions(sbom: str) -> Versions:
    """Return the packages of a bill of materials; of a version such as 2.13.0+cpu, the part that PyPI knows."""
    components = json.loads(sbom)["components"]
    return {_canonical(component["name"]): str(component["version"]).partition("+")[0] for component in components}


def read_pins(constraints: Path) -> Versions:
    """Return the packages of constraints.txt."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    return {_canonical(pin[1]): pin[2] for line in lines if (pin := _PIN.match(line.strip()))}


def differences(found: Mapping[str, str], pinned: Mapping[str, str]) -> list[str]:
    """Return one line for each pinned package that the environment has not, or in another version."""
    return [
        f"{name} found {found.get(name, 'nothing')}, pinned {version}"
        for name, version in sorted(pinned.items())
        if found.get(name) != version
    ]


def _canonical(name: str) -> str:
    return _NAME.sub("-", name).lower()
