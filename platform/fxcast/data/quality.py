"""Say what an import is worth: what was refused, what is missing, what is stamped in a closed market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from fxcast.data.importers import ImportResult, RefusedRow
from fxcast.domain.calendar import is_open
from fxcast.domain.candle import TimeArray, to_datetime
from fxcast.domain.timeframe import Timeframe


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Candles that the open market should have given and the series lacks; a weekend inside a gap counts nothing."""

    start: datetime
    missing_bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """What was read, and what it is worth.

    Attributes:
        first, last: Open times of the first and the last accepted candle, None if none was accepted.
        expected: How many candles open between first and last while the market is open.
        completeness_pct: Share of those that are there; None if none is expected.
        gaps: Runs of missing candles, oldest first.
        closed_market: Open times of accepted candles while the market is closed: a warning, they are kept.
    """

    source: str
    symbol: str
    timeframe: Timeframe
    rows_read: int
    accepted: int
    refused: tuple[RefusedRow, ...]
    first: datetime | None
    last: datetime | None
    expected: int
    completeness_pct: float | None
    gaps: tuple[Gap, ...]
    closed_market: tuple[datetime, ...]

    @property
    def refused_lines(self) -> Mapping[str, tuple[int, ...]]:
        """Lines of the refused rows by reason, the most frequent reason first."""
        lines: dict[str, tuple[int, ...]] = {}
        for row in self.refused:
            lines[row.reason.value] = (*lines.get(row.reason.value, ()), row.line)
        return dict(sorted(lines.items(), key=lambda item: -len(item[1])))

    @property
    def missing(self) -> int:
        """How many candles the gaps hold together."""
        return sum(gap.missing_bars for gap in self.gaps)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; times are ISO 8601 in UTC."""
        return {
            "source": self.source,
            "symbol": self.symbol,
            "timeframe": self.timeframe.name,
            "rows_read": self.rows_read,
            "accepted": self.accepted,
            "refused": len(self.refused),
            "refused_lines": {reason: list(lines) for reason, lines in self.refused_lines.items()},
            "refused_rows": [
                {"line": row.line, "reason": row.reason.value, "detail": row.detail, "text": row.text} for row in self.refused
            ],
            "first": None if self.first is None else self.first.isoformat(),
            "last": None if self.last is None else self.last.isoformat(),
            "expected": self.expected,
            "missing": self.missing,
            "completeness_pct": self.completeness_pct,
            "gaps": [{"start": gap.start.isoformat(), "missing_bars": gap.missing_bars} for gap in self.gaps],
            "closed_market": [moment.isoformat() for moment in self.closed_market],
        }


def quality_report(result: ImportResult) -> QualityReport:
    """Compare what was accepted with the FX calendar; a candle belongs to the open market if the market is open at its open."""
    series = result.series
    times = series.open_times
    step = np.timedelta64(series.timeframe.minutes * 60, "s")
    grid = np.arange(times[0], times[-1] + step, step) if len(series) else times
    expected = grid[_open_at(grid)]
    missing_at = np.flatnonzero(~np.isin(expected, times))
    runs = np.split(missing_at, np.flatnonzero(np.diff(missing_at) > 1) + 1) if len(missing_at) else []
    return QualityReport(
        source=result.source,
        symbol=series.symbol,
        timeframe=series.timeframe,
        rows_read=result.rows_read,
        accepted=len(series),
        refused=result.refused,
        first=to_datetime(times[0]) if len(series) else None,
        last=to_datetime(times[-1]) if len(series) else None,
        expected=len(expected),
        completeness_pct=100.0 * (1 - len(missing_at) / len(expected)) if len(expected) else None,
        gaps=tuple(Gap(start=to_datetime(expected[int(run[0])]), missing_bars=len(run)) for run in runs),
        closed_market=tuple(to_datetime(moment) for moment in times[~_open_at(times)]),
    )


def _open_at(times: TimeArray) -> NDArray[np.bool_]:
    # The market opens and closes on full hours of UTC, so one look at the calendar serves the sixty minutes of an hour.
    hours, hour_of = np.unique(times.astype("datetime64[h]"), return_inverse=True)
    return np.array([is_open(to_datetime(hour)) for hour in hours], dtype=bool)[hour_of]


def render(report: QualityReport) -> Table:
    """Lay the report out for a terminal."""
    table = Table("", "", title=escape(f"{report.symbol} {report.timeframe} from {report.source}"), show_header=False)
    table.add_row("rows read", f"{report.rows_read:,}")
    table.add_row("accepted", f"{report.accepted:,}")
    table.add_row("refused", f"{len(report.refused):,}")
    for reason, lines in report.refused_lines.items():
        table.add_row(f"  {reason}", f"{len(lines):,}")
    if report.first is not None and report.last is not None:
        table.add_row("first to last", f"{report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} UTC")
    if report.completeness_pct is not None:
        table.add_row("complete", f"{report.completeness_pct:.2f} % of {report.expected:,} candles while the market is open")
    table.add_row("gaps", f"{len(report.gaps):,}, {report.missing:,} candles missing")
    if report.closed_market:
        table.add_row("warning", f"{len(report.closed_market):,} candles stamped in the closed market")
    return table
