"""Evaluations as page Runs lists them: jobs.evaluate keeps each in a folder, with its scores and its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from fxcast.errors import NotFound

_FOLDER = "runs/evaluate"  # below home: the default of jobs.evaluate


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationInList:
    """An evaluation.

    Attributes:
        id: Name of its folder.
        skills: By opponent 1 − CRPS / CRPS of the opponent, over all symbols and horizons.
        problem: Why its scores can't be read; empty if they can.
    """

    id: str
    made_at: datetime
    model: str = ""
    symbols: tuple[str, ...] = ()
    timeframe: str = ""
    period: str = ""
    skills: tuple[tuple[str, float], ...] = ()
    warnings: tuple[str, ...] = ()
    has_report: bool = False
    problem: str = ""


def list_evaluations(home: str, *, limit: int) -> tuple[EvaluationInList, ...]:
    """Return the evaluations below a home, the newest first."""
    files = [(path.stat().st_mtime_ns, path) for path in (Path(home) / _FOLDER).glob("*/scores.json")]
    return tuple(
        replace(_read(path, changed), has_report=(path.parent / "report.html").is_file())  # which is written after the scores
        for changed, path in sorted(files, reverse=True)[:limit]
    )


def evaluation_folder(home: str, name: str) -> Path:
    """Return the folder of an evaluation.

    Raises:
        NotFound: If there is none of that name.
    """
    folder = Path(home) / _FOLDER / name
    if Path(name).name != name or not (folder / "scores.json").is_file():
        raise NotFound("run", name, "an evaluation on this machine")
    return folder


@lru_cache(maxsize=200)
def _read(path: Path, changed_ns: int) -> EvaluationInList:
    """Return what a file of scores says; `changed_ns` is when it was written."""
    name, made_at = path.parent.name, datetime.fromtimestamp(changed_ns / 1e9, UTC)
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        overall: Mapping[str, Any] = found["averages"]["all"]
        start, stop = (datetime.fromisoformat(found[each]) for each in ("start", "stop"))
        return EvaluationInList(
            id=name,
            made_at=made_at,
            model=str(found["model"]),
            symbols=tuple(found["symbols"]),
            timeframe=str(found["timeframe"]),
            period=f"{start:%Y-%m-%d} to {stop:%Y-%m-%d}",
            skills=tuple((opponent, float(each["skill"])) for opponent, each in overall.items()),
            warnings=tuple(found["warnings"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return EvaluationInList(id=name, made_at=made_at, problem=f"scores.json: {type(error).__name__}: {error}")
