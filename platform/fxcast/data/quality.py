"""Say what an import is worth: what was refused and repaired, what is missing, what looks wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from fxcast.data.checks import (
    Coverage,
    Frozen,
    Gap,
    Jump,
    Spike,
    VolumeOutlier,
    find_frozen,
    find_jumps,
    find_spikes,
    find_volume_outliers,
    measure_coverage,
)
from fxcast.data.importing.result import ImportResult, RefusedRow, RepairedRow
from fxcast.data.week import WeekCheck, check_weeks
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import to_datetime
from fxcast.domain.market import DETAILS, MarketCandles, PriceSide
from fxcast.domain.timeframe import Timeframe

_Record = Spike | Jump | Frozen | VolumeOutlier | Gap | WeekCheck | RepairedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """What was read, and what it is worth.

    Attributes:
        source: The file, or the folder or pattern of several.
        files: How each file was read: name, format, clock, rows.
        side, details: What the prices are prices of, and what else is known of at least one candle.
        overlapping: Rows whose candle another file had already.
        pairs: How many bids have an ask, which make one candle together or are refused as one row; 0 where rows are candles.
        first, last: Open times of the first and the last accepted candle, None if none was accepted.
        spikes, jumps, frozen, volume_outliers, closed_market: What looks wrong and was kept; closed_market holds open times.
        warnings: What a reader must not miss, in sentences.
    """

    source: str
    files: tuple[Mapping[str, str], ...]
    symbol: str
    timeframe: Timeframe
    side: PriceSide
    details: tuple[str, ...]
    rows_read: int
    accepted: int
    overlapping: int
    pairs: int
    refused: tuple[RefusedRow, ...]
    repaired: tuple[RepairedRow, ...]
    first: datetime | None
    last: datetime | None
    coverage: Coverage
    week: WeekCheck
    spikes: tuple[Spike, ...]
    jumps: tuple[Jump, ...]
    frozen: tuple[Frozen, ...]
    volume_outliers: tuple[VolumeOutlier, ...]
    closed_market: tuple[datetime, ...]
    notes: tuple[str, ...]

    @property
    def completeness_pct(self) -> float | None:
        """Share of the open market's candles that are there; None if none is expected."""
        expected, missing = self.coverage.expected, self.coverage.missing
        return 100.0 * (1 - missing / expected) if expected else None

    @property
    def refused_by_reason(self) -> Mapping[str, int]:
        """How many rows were refused by reason, the most frequent first."""
        return dict(Counter(row.reason.value for row in self.refused).most_common())

    @property
    def warnings(self) -> tuple[str, ...]:
        noted = tuple(note.removeprefix("warning: ") for note in self.notes if note.startswith("warning: "))
        return noted if self.week.is_possible else (self.week.describe(), *noted)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; times are ISO 8601 in UTC."""
        coverage = self.coverage
        return {
            "source": self.source,
            "files": [dict(each) for each in self.files],
            "symbol": self.symbol,
            "timeframe": self.timeframe.name,
            "side": self.side.value,
            "details": list(self.details),
            "rows_read": self.rows_read,
            "accepted": self.accepted,
            "overlapping": self.overlapping,
            "pairs": self.pairs,
            "refused": len(self.refused),
            "refused_by_reason": dict(self.refused_by_reason),
            "repaired": [_plain(row) for row in self.repaired],
            "first": None if self.first is None else self.first.isoformat(),
            "last": None if self.last is None else self.last.isoformat(),
            "expected": coverage.expected,
            "missing": coverage.missing,
            "completeness_pct": self.completeness_pct,
            "completeness_pct_by_session": dict(coverage.by_session),
            "gaps": [_plain(gap) for gap in coverage.gaps],
            "brief_gaps": coverage.brief,
            "daily_holes": [str(hole) for hole in coverage.holes],
            "empty_days": [day.isoformat() for day in coverage.empty_days],
            "by_day": {day.isoformat(): list(counts) for day, counts in coverage.by_day.items()},
            "week": _plain(self.week) | {"says": self.week.describe(), "is_possible": self.week.is_possible},
            "spikes": [_plain(spike) for spike in self.spikes],
            "jumps": [_plain(jump) for jump in self.jumps],
            "frozen": [_plain(run) for run in self.frozen],
            "volume_outliers": [_plain(outlier) for outlier in self.volume_outliers],
            "closed_market": [moment.isoformat() for moment in self.closed_market],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def quality_report(data: MarketCandles, results: Sequence[ImportResult], *, source: str, overlapping: int = 0) -> QualityReport:
    """Judge the candles that were read, all files of a source together.

    Args:
        data: Their union.
        results: What each file gave.
        source: What was asked to be read.
        overlapping: How many candles came from more than one file.
    """
    series = data.candles
    times = series.open_times
    known = np.any(~np.isnan(data.details), axis=0)
    return QualityReport(
        source=source,
        files=tuple(
            {"name": each.source, "format": each.format, "zone": each.zone, "rows": f"{each.rows_read}"} for each in results
        ),
        symbol=series.symbol,
        timeframe=series.timeframe,
        side=data.side,
        details=tuple(name for name, is_known in zip(DETAILS, known.tolist(), strict=True) if is_known),
        rows_read=sum(each.rows_read for each in results),
        accepted=len(series),
        overlapping=overlapping,
        pairs=max((each.pairs for each in results), default=0),
        refused=tuple(row for each in results for row in each.refused),
        repaired=tuple(row for each in results for row in each.repaired),
        first=to_datetime(times[0]) if len(series) else None,
        last=to_datetime(times[-1]) if len(series) else None,
        coverage=measure_coverage(times, series.timeframe),
        week=check_weeks(times, series.timeframe.step),
        spikes=find_spikes(series),
        jumps=find_jumps(series),
        frozen=find_frozen(series),
        volume_outliers=find_volume_outliers(series),
        closed_market=tuple(to_datetime(moment) for moment in times[~open_mask(times)]),
        notes=tuple(dict.fromkeys(note for each in results for note in each.notes)),
    )


def _plain(value: _Record) -> dict[str, Any]:
    def convert(item: object) -> object:
        if isinstance(item, datetime | date):
            return item.isoformat()
        return [convert(each) for each in item] if isinstance(item, list | tuple) else item

    return {name: convert(item) for name, item in asdict(value).items()}
