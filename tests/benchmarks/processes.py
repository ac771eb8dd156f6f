"""What the processes of a benchmark use, read from /proc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def family(root: int) -> Iterator[tuple[int, str]]:
    """Yield (process id, command line) of a process and all that descend from it."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    wanted = {root}
    while more := {process for process, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return ((process, commands[process]) for process in sorted(wanted) if process in commands)


def memory_mb(process: int, file: str, line: str) -> float:
    """Return a figure of a process' memory from /proc, 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(each.split()[1]) for each in lines if each.startswith(f"{line}:")) / 1024.0
