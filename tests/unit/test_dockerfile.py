"""The image of the pods is pinned, runs as nobody special and holds what .dockerignore lets through. It is not built here."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from fxcast.cluster.local import REPOSITORY

_LINES = (REPOSITORY / "deploy" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
INSTRUCTIONS = [tuple(line.split(maxsplit=1)) for line in _LINES if line.strip() and not line.startswith("#")]
TARGETS = ("cpu", "cuda")


def stages() -> dict[str, tuple[str, list[tuple[str, ...]]]]:
    """Return the image each stage begins with and its instructions, by the stage's name."""
    found: dict[str, tuple[str, list[tuple[str, ...]]]] = {}
    for keyword, rest in (instruction for instruction in INSTRUCTIONS if len(instruction) == 2):
        if keyword == "FROM":
            image, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # pyright: ignore[reportOptionalMemberAccess]  # a stage without a name fails
            found[name] = (image, [])
        elif found:
            found[list(found)[-1]][1].append((keyword, rest))
    return found


def all_of(stage: str) -> list[tuple[str, ...]]:
    """Return the instructions of a stage after those of the stages that it begins with."""
    if stage not in stages():
        return []
    image, own = stages()[stage]
    return [*all_of(image), *own]


def copied() -> list[str]:
    """Return what is copied from the build's context."""
    sources: list[str] = []
    for _, instructions in stages().values():
        for keyword, rest in instructions:
            words = [word for word in rest.split() if not word.startswith("--")]
            if keyword in ("COPY", "ADD") and "--from" not in rest:
                sources += words[:-1]
    return sources


def test_both_targets_are_there() -> None:
    assert set(TARGETS) <= stages().keys()


def test_every_base_image_is_pinned_by_a_whole_version_of_the_projects_python() -> None:
    arguments = dict(rest.split("=", 1) for keyword, rest in INSTRUCTIONS[:2] if keyword == "ARG")
    images = {re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], image) for image, _ in stages().values()} - stages().keys()
    assert images
    for image in images:
        assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", image), image


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_as_a_user_without_rights_whom_kubernetes_knows_by_number(target: str) -> None:
    instructions = all_of(target)
    assert [rest for keyword, rest in instructions if keyword == "USER"][-1] == "ray"
    assert "useradd --uid 1000 " in " ".join(rest for keyword, rest in instructions if keyword == "RUN")
    first = next(position for position, (keyword, _) in enumerate(instructions) if keyword == "USER")
    assert all("--chown=ray:ray" in rest for keyword, rest in instructions[first:] if keyword == "COPY")


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_is_installed_from_pypi_is_pinned(target: str) -> None:
    installs = [
        command
        for keyword, rest in all_of(target)
        if keyword == "RUN"
        for command in rest.split("&&")
        if re.search(r"\bpip install\b", command)
    ]
    assert len(installs) == 3
    for command in installs:
        assert "-c constraints.txt" in command or "==" in command
    assert f"--torch-backend {'cpu' if target == 'cpu' else '${CUDA}'} " in installs[1]
    assert "-r pyproject.toml --extra postgres" in installs[1]


def test_uv_is_the_one_of_the_clusters() -> None:
    (version,) = {found for line in _LINES for found in re.findall(r"uv==([\d.]+)", line)}
    for file in ("cluster.yaml", "deploy/gcp.yaml"):
        assert f"uv=={version} " in (REPOSITORY / file).read_text()


def test_what_is_copied_exists_and_passes_the_ignore_file_which_passes_nothing_else() -> None:
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert sorted(copied()) == sorted(line.removeprefix("!") for line in lines if line.startswith("!"))
    for source in copied():
        assert (REPOSITORY / source).exists(), source


def test_no_file_that_may_hold_a_secret_is_copied() -> None:
    ignored = [
        line.removeprefix("**/") for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("**/")
    ]
    kept = [
        path
        for source in copied()
        for path in ([REPOSITORY / source] if (REPOSITORY / source).is_file() else (REPOSITORY / source).rglob("*"))
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    ]
    assert kept
    assert [path for path in kept if _may_hold_a_secret(path)] == []
    arguments = [rest for keyword, rest in INSTRUCTIONS if keyword in ("ARG", "ENV")]
    assert [rest for rest in arguments if re.search(r"PASSWORD|SECRET|TOKEN=|KEY", rest)] == []


def _may_hold_a_secret(path: Path) -> bool:
    return path.suffix in (".pem", ".key", ".env", ".db") or path.name == "auth_token"
