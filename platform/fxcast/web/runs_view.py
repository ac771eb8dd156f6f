"""How far runs are and what came of them, in words: the rows of page Runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fxcast.adapters.storage.runs import SearchInList, WalkForwardInList

_FOLDS_IN_ORDER = ("done", "backtesting", "forecasting", "training", "failed", "pending")
_STATES_IN_ORDER = ("complete", "pruned", "running", "failed")
_MINUTE, _HOUR = 60, 3600


def duration(seconds: float) -> str:
    """Return a duration in words, to two units."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR:,} h {whole % _HOUR // _MINUTE} min"


def counts_said(counts: Mapping[str, int], order: tuple[str, ...]) -> str:
    """Return counts in words: "7 complete, 2 pruned"; those of other names stand last."""
    names = [*order, *sorted(counts.keys() - set(order))]
    return ", ".join(f"{counts[name]:,} {name}" for name in names if counts.get(name))


def trials_said(search: SearchInList) -> str:
    """Return how far a search is."""
    ended = sum(count for state, count in search.states.items() if state != "running")
    said = f"{ended:,} of {search.wanted:,} trials"
    detail = counts_said(search.states, _STATES_IN_ORDER)
    return f"{said} ({detail})" if detail else said


def trials_left_s(search: SearchInList) -> float | None:
    """Return how many seconds a search still takes at the pace so far, without its guard; None if that can't be told."""
    ended = sum(count for state, count in search.states.items() if state != "running")
    if search.finished_at is not None or not ended or not search.seconds:
        return None
    return max(search.wanted - ended, 0) * search.seconds / ended


def folds_said(run: WalkForwardInList) -> str:
    """Return how far a walk-forward is."""
    return counts_said(run.folds, _FOLDS_IN_ORDER) or "no fold yet"


def folds_left_s(run: WalkForwardInList, now: datetime) -> float | None:
    """Return how many seconds a walk-forward still takes at the pace so far; None if that can't be told.

    The time in which a killed run lay still counts as spent, so of a run that was resumed this is too much.
    """
    done = run.folds.get("done", 0)
    if run.finished_at is not None or not done:
        return None
    return (sum(run.folds.values()) - done) * (now - run.begun_at).total_seconds() / done


def share(value: float | None) -> str | None:
    """Return a share of 1 in per cent, with its sign."""
    return None if value is None else f"{value:+.2%}".replace("%", " %")


def ratio(value: float | None) -> str | None:
    """Return a ratio to two places."""
    return None if value is None else f"{value:+.2f}"
