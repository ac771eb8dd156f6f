"""The bones: what may be imported where, what importing does, and what is pinned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
HEAVY = ("ray", "sqlalchemy", "torch", "pandas")
WITHOUT_TORCH = (
    "jobs.ingest",
    "jobs.export",
    "jobs.download",
    "jobs.stream",
    "jobs.trade",
    "actors.market_feed",
    "actors.trading_engine",
    "fxcast.serving.app",
    "fxcast.cluster.train_worker",
)
LONGEST_FILE = 400  # lines; STYLE.md: aim for 200, rethink at 400


def run_python(code: str, *, folder: Path = ROOT) -> str:
    """Run code in a fresh interpreter whose first import path is `folder`, as a user's would be."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT)])}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_the_source_root_does_not_shadow_pythons_own_platform_module() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    found = run_python("import platform; platform.system(); print(platform.__file__)")
    assert not Path(found).is_relative_to(ROOT / "platform")


@pytest.mark.parametrize("module", ["fxcast.domain", "fxcast.domain.forecast", "fxcast.trading.engine", "fxcast.trading.runner"])
def test_the_core_pulls_in_no_heavy_library(module: str) -> None:
    found = run_python(f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])")
    assert found == ""


def test_what_runs_no_model_starts_without_torch() -> None:
    """An engine that was killed trades again seconds sooner, and half a gigabyte smaller."""
    code = """
import importlib, sys
for name in NAMES:
    importlib.import_module(name)
    print(*[name + " imports " + heavy for heavy in ("torch", "diffusers", "transformers") if heavy in sys.modules], end="")
""".replace("NAMES", repr(WITHOUT_TORCH))
    assert run_python(code) == ""


def test_importing_everything_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    code = """
import importlib, logging, pkgutil, threading
import fxcast, actors, jobs
threads = threading.active_count()
for package in (fxcast, actors, jobs):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import ray
assert not ray.is_initialized(), "ray was started"
assert not logging.getLogger("fxcast").handlers, "logging was set up"
assert fxcast.__file__.startswith(ROOT), fxcast.__file__
""".replace("ROOT", repr(str(ROOT)))
    run_python(code, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (re.fullmatch(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)", line) for line in lines if line)
    return {canonicalize_name(pin["name"]): pin["version"] for pin in pins if pin is not None}


def requirements_of(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield requirement


def installed_below(name: str, extras: frozenset[str]) -> set[str]:
    """Return the canonical names of a distribution's installed dependencies, to any depth."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, extras)]
    while waiting:
        for requirement in requirements_of(*waiting.pop()):
            one = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            try:
                distribution(one[0])
            except PackageNotFoundError:
                continue
            if one not in found:
                found.add(one)
                waiting.append(one)
    return {dependency for dependency, _ in found} - {canonicalize_name(name)}


def test_every_installed_dependency_is_pinned_at_its_version() -> None:
    pins = pinned()
    installed = installed_below("fxcast", frozenset({"sample", "dev"})) - {"setuptools", "pip"}  # the venv's own
    differing = {name: (version(name), pins.get(name)) for name in installed if version(name).split("+")[0] != pins.get(name)}
    assert differing == {}


def test_torch_is_pinned_exactly() -> None:
    assert pinned()["torch"] == "2.13.0"


def test_every_line_of_the_constraints_is_a_pin() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(pinned()) == len([line for line in lines if line])


def test_no_source_file_has_grown_beyond_rethinking() -> None:
    files = [path for folder in ("platform", "actors", "jobs", "migrations") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}
