"""Lay a quality report out for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.markup import escape
from rich.table import Table

from fxcast.data.quality import QualityReport

_SHOWN = 5


def render(report: QualityReport) -> Table:
    """Return the report as a table of two columns."""
    table = Table("", "", title=escape(f"{report.symbol} {report.timeframe} from {report.source}"), show_header=False)

    def row(name: str, text: str) -> None:
        table.add_row(escape(name), escape(text))

    formats = sorted({each["format"] for each in report.files})
    zones = sorted({each["zone"] for each in report.files})
    row("read as", "; ".join(formats))
    row("clock", " | ".join(zones))
    for note in report.notes:
        if not note.startswith("warning: "):  # those come last, where they are seen
            row("note", note)
    row("prices", f"{report.side.value}" + (f"; also {_summary(report.details)}" if report.details else ""))
    row("rows read", f"{report.rows_read:,}" + (f" of {len(report.files)} files" if len(report.files) > 1 else ""))
    if report.pairs:
        row("pairs", f"{report.pairs:,} of a bid and an ask: two rows that make one candle, or are refused as one")
    row("accepted", f"{report.accepted:,}" + (f", {report.overlapping:,} in more than one file" if report.overlapping else ""))
    row("refused", f"{len(report.refused):,}")
    for reason, count in report.refused_by_reason.items():
        row(f"  {reason}", f"{count:,}")
    if report.repaired:
        row("repaired", f"{len(report.repaired):,}, each named in the report")
    if report.first is not None and report.last is not None:
        row("first to last", f"{report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} UTC")
    row("week", report.week.describe())
    _add_coverage(table, report)
    _add_findings(table, report)
    for warning in report.warnings:
        table.add_row("[bold]warning[/bold]", escape(warning))
    return table


def _add_coverage(table: Table, report: QualityReport) -> None:
    coverage = report.coverage
    if report.completeness_pct is None:
        return
    table.add_row("complete", f"{report.completeness_pct:.2f} % of {coverage.expected:,} candles while the market is open")
    sessions = ", ".join(f"{name} {share:.1f} %" for name, share in coverage.by_session.items())
    table.add_row("  by session", sessions)
    others = len(coverage.gaps) - coverage.brief
    table.add_row("gaps", f"{len(coverage.gaps):,}, {coverage.missing:,} candles missing; {others:,} longer than five minutes")
    for hole in coverage.holes:
        table.add_row("  every day", f"{hole}")
    longest = sorted(coverage.gaps, key=lambda gap: -gap.missing_bars)[:_SHOWN]
    if longest:
        table.add_row("  longest", ", ".join(f"{gap.start:%Y-%m-%d %H:%M} ({gap.missing_bars:,})" for gap in longest))
    if coverage.empty_days:
        table.add_row("  days without a candle", _first([f"{day}" for day in coverage.empty_days]))


def _add_findings(table: Table, report: QualityReport) -> None:
    if report.closed_market:
        table.add_row("in the closed market", f"{len(report.closed_market):,} kept; {_times(report.closed_market)}")
    if report.spikes:
        largest = sorted(report.spikes, key=lambda spike: -spike.z)
        shown = _first([f"{spike.time:%Y-%m-%d %H:%M} at {spike.price:g} (z {spike.z:.0f})" for spike in largest])
        table.add_row("spikes", f"{len(report.spikes):,} kept; {shown}")
    if report.jumps:
        largest = sorted(report.jumps, key=lambda jump: -max(jump.after / jump.before, jump.before / jump.after))
        shown = _first([f"{jump.time:%Y-%m-%d %H:%M} from {jump.before:g} to {jump.after:g}" for jump in largest])
        table.add_row("jumps", f"{len(report.jumps):,} kept; {shown}")
    if report.frozen:
        longest = sorted(report.frozen, key=lambda run: -run.bars)
        shown = _first([f"{run.start:%Y-%m-%d %H:%M} ({run.bars:,} candles at {run.price:g})" for run in longest])
        table.add_row("frozen prices", f"{len(report.frozen):,} runs kept; {shown}")
    if report.volume_outliers:
        largest = sorted(report.volume_outliers, key=lambda outlier: -abs(outlier.z))
        shown = _first([f"{each.time:%Y-%m-%d %H:%M}: {each.volume:g}" for each in largest])
        table.add_row("odd volumes", f"{len(report.volume_outliers):,} kept; {shown}")


def _summary(details: Sequence[str]) -> str:
    """Name bid and ask once, not column by column."""
    named = dict.fromkeys(name.split("_")[0] if name.startswith(("bid", "ask")) else name.replace("_", " ") for name in details)
    return ", ".join(named)


def _times(moments: Sequence[datetime]) -> str:
    return _first([f"{moment:%Y-%m-%d %H:%M}" for moment in moments])


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (" …" if len(texts) > _SHOWN else "")
