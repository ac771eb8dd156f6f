"""A finished search on the terminal: verdict, conditions, hold-out, the winner's values, the best trials."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxcast.tuning import report_rows
from fxcast.tuning.findings import TuningFindings
from fxcast.tuning.space import SearchSpace

_MOST_TRIALS = 5


def summary(findings: TuningFindings, space: SearchSpace) -> Group:
    """Return what a user sees when a search has ended, the verdict first."""
    parts: list[RenderableType] = [Text(findings.verdict, style="bold green" if findings.promotes else "bold yellow")]
    parts += [
        Text.assemble(("✓ ", "green") if condition.holds else ("✗ ", "red"), (condition.name, "bold"), f": {condition.told}")
        for condition in findings.conditions
    ]
    parts += [Text(warning, style="red") for warning in findings.warnings]
    if findings.hold_out:
        parts += [Text(), Text("Hold-out, which no trial has seen", style="bold"), hold_out(findings)]
    parts += [Text(), Text("Values; bold where they differ from the default", style="bold"), values(findings, space)]
    if report_rows.complete(findings.trials):
        parts += [Text(), Text(f"Best of {report_rows.states(findings.trials)}", style="bold"), best_trials(findings)]
    return Group(*parts)


def hold_out(findings: TuningFindings) -> Table:
    """Return the runs on the hold-out, and below them the winner less the others."""
    drawn = _table(report_rows.hold_out_head(findings))
    for row in report_rows.hold_out_rows(findings):
        drawn.add_row(*map(Text, row))
    compared = [run.key for run in findings.hold_out if run.differences]
    for name, *cells in report_rows.difference_rows(findings):
        by_run = dict(zip(compared, cells, strict=True))
        marked = [by_run.get(run.key, ("", False)) for run in findings.hold_out]
        drawn.add_row(Text(f"winner less it: {name[0]}"), *_marked(marked))
    return drawn


def values(findings: TuningFindings, space: SearchSpace) -> Table:
    """Return the winner's values beside the defaults."""
    shown = 3  # path, default, winner: with others and ranges it would be too wide
    drawn = _table(report_rows.values_head(findings)[:shown])
    for row in report_rows.values_rows(findings, space):
        drawn.add_row(*_marked(row[:shown]))
    return drawn


def best_trials(findings: TuningFindings) -> Table:
    """Return the best five trials of the search."""
    drawn = _table(report_rows.TRIAL_HEAD)
    for row in report_rows.trial_rows(findings.trials, _MOST_TRIALS):
        drawn.add_row(*map(Text, row))
    return drawn


def _table(head: Sequence[str]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(head):
        drawn.add_column(Text(name), justify="right" if place else "left", no_wrap=not place)
    return drawn


def _marked(cells: Sequence[tuple[str, bool]]) -> list[Text]:
    return [Text(cell, style="bold" if marked else "") for cell, marked in cells]  # Text: brackets are no markup
