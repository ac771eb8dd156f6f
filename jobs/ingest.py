"""Read candles from CSV into the candle store: python -m jobs.ingest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from rich.console import Console

from fxcast.config import JobSettings
from fxcast.data.importers import read_candles_csv
from fxcast.data.packaged import packaged_sample
from fxcast.data.quality import QualityReport, quality_report, render
from fxcast.data.store import AppendResult, CandleStore
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.terminal import new_console
from jobs.entry import REFUSED, run

_ROWS_SHOWN = 20
_SAMPLE_IS = ("EURUSD", "1h")


class IngestJob(JobSettings):
    """Read candles from a CSV file into the candle store; bad rows are refused with line and reason."""

    csv: Path | None = Field(default=None, description="CSV file with a header; without it, the packaged hourly EUR/USD sample")
    symbol: str = Field(default="EURUSD", description="whose candles the file holds: base then quote currency")
    timeframe: str = Field(default="1h", description="length of a candle: 1m, 5m, 15m, 1h or 4h")
    day_first: bool = Field(default=False, description="read 03.04.2017 as 3 April; ISO dates need no such setting")
    zone: str = Field(default="UTC", description="IANA time zone of times without an offset")
    columns: dict[str, str] = Field(default={}, description="the file's names for time, open, high, low, close, volume: open=Bid")
    store: str = Field(default="runs/store", description="root of the candle store: a folder or a URI such as s3://bucket/candles")
    report: Path | None = Field(default=None, description="write the quality report, all refused rows included, to this JSON file")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOutcome:
    """What was read and what the store made of it; `stored` is None if no candle was valid."""

    quality: QualityReport
    stored: AppendResult | None


def ingest(settings: IngestJob) -> IngestOutcome:
    """Read, judge and store candles; write the JSON report if one is asked for.

    Raises:
        BadCandles: If the file, the symbol or the timeframe is no good.
        BadSetting: If the zone, a column or the store's URI is unknown, or the packaged sample is asked to be another series.
        BadSetup: If the packaged sample is wanted and not installed.
    """
    path, day_first, zone = settings.csv, settings.day_first, settings.zone
    if path is None:
        if (settings.symbol, settings.timeframe) != _SAMPLE_IS:
            raise BadSetting(f"csv: missing; the packaged sample is EURUSD 1h, not {settings.symbol} {settings.timeframe}")
        path, day_first, zone = packaged_sample(), True, "UTC"
    store = CandleStore(settings.store)
    result = read_candles_csv(
        path,
        symbol=settings.symbol,
        timeframe=Timeframe(settings.timeframe),
        day_first=day_first,
        zone=zone,
        columns=settings.columns,
    )
    quality = quality_report(result)
    if settings.report is not None:
        settings.report.parent.mkdir(parents=True, exist_ok=True)
        settings.report.write_text(json.dumps(quality.to_dict(), indent=2) + "\n", encoding="utf-8")
    stored = store.append(result.series) if len(result.series) else None
    return IngestOutcome(quality=quality, stored=stored)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; 0 if candles were valid, 2 if none was or the input was refused."""
    return run(lambda: _report(IngestJob.parse(arguments)))


def _report(settings: IngestJob) -> int:
    outcome = ingest(settings)
    console = new_console()
    console.print(render(outcome.quality))
    refused = outcome.quality.refused
    for row in refused[:_ROWS_SHOWN]:
        console.print(f"line {row.line}: {row.reason.value}: {row.detail}", markup=False)
    if len(refused) > _ROWS_SHOWN:
        where = f"all are in {settings.report}" if settings.report else "--report FILE lists all"
        console.print(f"and {len(refused) - _ROWS_SHOWN:,} more; {where}", markup=False)
    if outcome.stored is None:
        Console(stderr=True, soft_wrap=True).print(f"error: no valid candle in {outcome.quality.source}", markup=False)
        return REFUSED
    stored = outcome.stored
    console.print(f"{settings.store}: {stored.added:,} candles added, {stored.already_there:,} already there", markup=False)
    if stored.conflicting:
        first = ", ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in stored.conflicting[:_ROWS_SHOWN])
        console.print(f"{len(stored.conflicting):,} differ from stored candles, which stay; at {first}", markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
