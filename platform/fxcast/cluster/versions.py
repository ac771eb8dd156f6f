"""What must be the same in the driver and on every node, and the refusal of a cluster where it is not.

Ray pickles objects between processes, so that another numpy or torch may fail on them or, worse, read them differently; and a
worker that imports another fxcast than the driver's does something else than what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from fxcast.cluster.nodes import Node, alive_nodes, ask_nodes
from fxcast.errors import BadSetup

log = structlog.get_logger()

PACKAGES = (
    "ray",
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "diffusers",
    "transformers",
    "accelerate",
    "pydantic",
    "sqlalchemy",
    "optuna",
)
SOURCE = "fxcast's source"
MISSING = "none"

_RAY_MISMATCH = re.compile(r"Version mismatch: .*?Ray: (\S+)\s+Python: (\S+).*?Ray: (\S+)\s+Python: (\S+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """A node that differs from the driver.

    Attributes:
        package: Which package of the node, "python", "fxcast" or `SOURCE`.
        found: On the node.
        expected: What the driver has.
    """

    node: str
    package: str
    found: str
    expected: str

    @property
    def advice(self) -> str:
        """How to mend it."""
        if self.package == SOURCE or self.package == "fxcast":
            return (
                "submit with jobs/runtime_env.yaml, whose PYTHONPATH puts the submitted fxcast before an installed one, or install "
                "the driver's fxcast on that node"
            )
        return "start every node from one image (pip install -c constraints.txt), or run the driver with the cluster's versions"

    def __str__(self) -> str:
        return f"{self.package} on node {self.node}: found {self.found}, the driver has {self.expected}"


def local_versions() -> dict[str, str]:
    """Return the versions of this process by package, without importing the packages; `MISSING` for one that is not there."""
    return _reader()(PACKAGES)


def compare(expected: Mapping[str, str], found: Mapping[str, Mapping[str, str]]) -> tuple[Skew, ...]:
    """Return what differs.

    Args:
        expected: The driver's versions.
        found: By node its versions. A build for CUDA and one for the CPU (2.13.0+cpu) are the same version.
    """
    return tuple(
        Skew(node=node, package=package, found=versions.get(package, MISSING), expected=wanted)
        for node, versions in found.items()
        for package, wanted in expected.items()
        if _public(versions.get(package, MISSING)) != _public(wanted)
    )


def read_versions(nodes: Sequence[Node], timeout_s: float) -> dict[Node, dict[str, str] | Exception]:
    """Return by node the versions that its workers import, or why they can't be told."""
    return ask_nodes(nodes, _reader(), PACKAGES, timeout_s=timeout_s)


def require_equal_versions(timeout_s: float = 60.0) -> None:
    """Refuse a cluster some node of which has other versions than this process; nodes that join later are not seen.

    A node that does not answer in time is said in the log and passes: it may be dying, and the job is made for that.

    Raises:
        BadSetup: Names node, package, what was found and what was expected, and how to mend it.
    """
    found: dict[str, dict[str, str]] = {}
    for node, answer in read_versions(alive_nodes(), timeout_s).items():
        if isinstance(answer, Exception):
            log.warning("versions of a node are not known", node=node.name, reason=_first_line(answer))
        else:
            found[node.name] = answer
    skews = list(compare(local_versions(), found))
    if skews:
        more = f" ({len(skews) - 1} more differ)" if len(skews) > 1 else ""
        raise BadSetup(f"{skews[0]}{more}; {skews[0].advice}")


@contextmanager
def explained_refusal() -> Generator[None]:
    """Turn Ray's refusal of a driver of another Ray or Python into ours.

    Raises:
        BadSetup: Instead of Ray's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        versions = _RAY_MISMATCH.search(str(error))
        if versions is None:
            raise
        ray_there, python_there, ray_here, python_here = versions.groups()
        package, there, here = ("Ray", ray_there, ray_here) if ray_there != ray_here else ("Python", python_there, python_here)
        skew = Skew(node="that started the cluster", package=package, found=there, expected=here)
        raise BadSetup(f"{skew}; {skew.advice}") from None


def _public(version: str) -> str:
    return version.partition("+")[0]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _reader() -> Callable[[Sequence[str]], dict[str, str]]:
    # Nested, so that Ray sends its code and not its name: by name, a worker would look for it in the fxcast that it imports, which
    # is what is asked about. Only what it imports itself is there for it.
    def read(packages: Sequence[str]) -> dict[str, str]:
        import hashlib
        import importlib
        import importlib.metadata
        import platform
        from pathlib import Path

        def version(package: str) -> str:
            try:
                return importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                return "none"

        versions = {"python": platform.python_version(), "fxcast": "none", "fxcast's source": "none"}
        try:
            fxcast = importlib.import_module("fxcast")
        except ImportError:
            pass  # which "none" says
        else:
            folder = Path(str(fxcast.__file__)).parent
            digest = hashlib.sha256()
            for path in sorted(folder.rglob("*.py")):
                digest.update(f"{path.relative_to(folder)}\n".encode())
                digest.update(path.read_bytes())
            versions |= {"fxcast": str(fxcast.__version__), "fxcast's source": digest.hexdigest()[:12]}
        return versions | {package: version(package) for package in packages}

    return read
