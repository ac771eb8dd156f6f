"""Read files of candles into the candle store: python -m jobs.ingest."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field
from rich.console import Console

from fxcast.adapters.clock import SystemClock
from fxcast.config import JobSettings
from fxcast.data.clock_detection import ClockDetection, detect_clock
from fxcast.data.importing.combine import pair_sides, unite
from fxcast.data.importing.files import SourceFile, find_sources
from fxcast.data.importing.layout import FileFormat
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.importing.result import RefusedRow, Repair
from fxcast.data.packaged import SAMPLE_OPTIONS, packaged_sample
from fxcast.data.quality import QualityReport, quality_report
from fxcast.data.quality_table import render
from fxcast.data.store import AppendResult, CandleStore
from fxcast.domain.market import PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting, BadSetup
from fxcast.evaluation.coverage import draw_coverage
from fxcast.terminal import new_console
from fxcast.trading.ports import Clock
from jobs.entry import REFUSED, run

_ROWS_SHOWN = 20


class IngestJob(JobSettings):
    """Read files of candles into the candle store; bad rows are refused with line and reason, and nothing is repaired unasked."""

    source: str | None = Field(
        default=None,
        description="a file, a folder or a pattern: MetaTrader, HistData, Dukascopy, LEAN, plain CSV or Parquet, zip or gzip; "
        "without it, the packaged hourly EUR/USD sample",
    )
    ask_source: str | None = Field(default=None, description="the asks, where `source` holds bids only; the candles become mids")
    symbol: str | None = Field(default=None, description="base then quote currency; found in the file's name if that has one")
    timeframe: str | None = Field(default=None, description="length of a candle: 1m, 5m, 15m, 1h, 4h or 1d; found by the rows")
    format: Literal["metatrader", "histdata", "dukascopy", "lean", "plain"] | None = Field(
        default=None,
        description="found by the file's first lines and its name; says whose clock and side a file has, not where its "
        "columns are (see columns)",
    )
    zone: str | None = Field(
        default=None,
        description="clock of times without an offset: UTC, +02:00, Europe/Berlin, new-york-close (New York + 7 h), or one "
        "that was changed, as in 'Europe/Berlin until 2014-11-23, Europe/Helsinki'; needed where the format does not say",
    )
    detect_timezone: str | None = Field(
        default=None, description="find the clock by comparison with a stored series of a known one, as in EURUSD:1h"
    )
    day_first: bool | None = Field(default=None, description="03/04/2017 is 3 April; found by the rows where they tell")
    columns: dict[str, str] = Field(
        default={},
        description="the file's names for time, open, high, low, close, volume, tick_volume, bid_open …: open=Bid; of a file "
        "without a header, their positions from 1, as in time=1, open=2",
    )
    side: Literal["bid", "ask", "mid", "unstated"] | None = Field(
        default=None, description="what the prices are prices of; found by the format, or a word bid, ask or mid in the file's name"
    )
    price_scale: int | None = Field(
        default=None, gt=0, description="what prices are divided by, 1 to take them as they are; whole points are recognised"
    )
    repair: list[Literal["order", "range", "spikes", "closed-market", "crossed", "all"]] = Field(
        default=[],
        description="order: move rows to their place in time; range: widen high and low to open and close where they miss by "
        "rounding; spikes, closed-market: take such candles out; crossed: keep the mid where the ask lies below the bid; "
        "each repair is named in the report",
    )
    store: str = Field(default="runs/store", description="root of the candle store: a folder or a URI such as s3://bucket/candles")
    report: Path | None = Field(
        default=None,
        description="folder for report.json, coverage.png and quarantine.csv; by default runs/ingest/SYMBOL-TIMEFRAME",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOutcome:
    """What was read and what the store made of it; `stored` is None if no candle was valid."""

    quality: QualityReport
    stored: AppendResult | None
    report: Path
    detection: ClockDetection | None


def ingest(settings: IngestJob, clock: Clock | None = None) -> IngestOutcome:
    """Read, judge and store candles; write the report, also of candles that the store then refuses.

    Args:
        clock: Says which candles lie in the future; the system's by default.

    Raises:
        BadCandles: If a file, the symbol or the timeframe is no good, or the store holds prices of another side.
        BadSetting: If a setting is unknown, missing, or contradicts a file.
        BadSetup: If the packaged sample is wanted and not installed, or the report can't be written.
        StoreUnavailable: If the store does not answer.
    """
    store = CandleStore(settings.store)
    options = replace(_options(settings), now=(clock or SystemClock()).now())
    detection = None
    if settings.detect_timezone is not None:
        detection = _detect(settings, options, store)
        if detection.best is None:
            raise BadSetting(f"zone: {_unclear(detection)}")
        if options.zone is None:
            options = replace(options, zone=detection.best)
    source, tables = _tables(settings)
    results = [read_candles(table, options) for table in tables]
    named = {table.name: table for table in tables}
    if settings.ask_source is not None:
        asks = find_sources(settings.ask_source)
        if len(tables) != 1 or len(asks) != 1:
            raise BadSetting(f"ask_source: found {len(asks)} files of asks and {len(tables)} of bids; allowed: one of each")
        ask = read_candles(asks[0], options)
        results = [*pair_sides(results[0], ask, named | {asks[0].name: asks[0]}, keep_crossed=Repair.CROSSED in options.repairs)]
        united = unite(results[:1], named)
        results = [*united.results, results[1]]
    else:
        united = unite(results, named)
        results = list(united.results)
    if detection is not None:
        results = [replace(each, notes=(*each.notes, *_detection_notes(detection, each.zone))) for each in results]
    quality = quality_report(united.data, results, source=source, overlapping=united.overlapping)
    folder = settings.report or Path("runs") / "ingest" / f"{quality.symbol}-{quality.timeframe}"
    write_report(folder, quality)
    stored = store.append(united.data) if len(united.data) else None
    return IngestOutcome(quality=quality, stored=stored, report=folder, detection=detection)


def write_report(folder: Path, quality: QualityReport) -> None:
    """Write report.json, coverage.png and quarantine.csv (the refused rows as they stand in their files), each whole or not at all.

    Raises:
        BadSetup: If the folder can't be written to.
    """
    record = json.dumps(quality.to_dict(), indent=2) + "\n"
    complete = "" if quality.completeness_pct is None else f", {quality.completeness_pct:.2f} % complete"
    title = f"{quality.symbol} {quality.timeframe}{complete}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / "report.json", lambda path: path.write_text(record, encoding="utf-8"))
        _write_whole(folder / "coverage.png", lambda path: draw_coverage(path, quality.coverage.by_day, title=title))
        _write_whole(folder / "quarantine.csv", lambda path: write_quarantine(path, quality.refused))
    except OSError as error:
        raise BadSetup(f"the report can't be written to {folder}: {error.strerror or error}") from None


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write under another name first, so that no half file is taken for a report."""
    half = path.with_name(f"half-{path.name}")
    try:
        write(half)
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def write_quarantine(path: Path, refused: Iterable[RefusedRow]) -> None:
    """Write refused rows with file, line, reason and text; they can be mended there and read again."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "line", "reason", "detail", "text"])
        writer.writerows([row.source, row.line, row.reason.value, row.detail, row.text] for row in refused)


def _options(settings: IngestJob) -> ImportOptions:
    if settings.source is None:
        asked = {"symbol": settings.symbol, "timeframe": settings.timeframe}
        wrong = [f"{name} {value}" for name, value in asked.items() if value not in {None, "EURUSD", "1h"}]
        if wrong:
            raise BadSetting(f"source: missing; the packaged sample is EURUSD 1h, not {' '.join(wrong)}")
        return SAMPLE_OPTIONS
    repairs = frozenset(Repair) if "all" in settings.repair else frozenset(Repair(name) for name in settings.repair)
    return ImportOptions(
        symbol=settings.symbol,
        timeframe=None if settings.timeframe is None else Timeframe(settings.timeframe),
        format=None if settings.format is None else FileFormat(settings.format),
        zone=settings.zone,
        day_first=settings.day_first,
        columns=settings.columns,
        side=None if settings.side is None else PriceSide(settings.side),
        price_scale=settings.price_scale,
        repairs=repairs,
    )


def _tables(settings: IngestJob) -> tuple[str, list[SourceFile]]:
    source = settings.source or str(packaged_sample())
    return source, find_sources(source)


def _detect(settings: IngestJob, options: ImportOptions, store: CandleStore) -> ClockDetection:
    symbol, _, timeframe = (settings.detect_timezone or "").partition(":")
    if not timeframe:
        raise BadSetting(f"detect_timezone: found {settings.detect_timezone!r}; allowed: a stored series, as in EURUSD:1h")
    reference = store.read(symbol, Timeframe(timeframe))
    _, tables = _tables(settings)
    as_written = [read_candles(table, replace(options, zone="UTC", now=None)) for table in tables]
    series = unite(as_written, {}).data.candles
    if not len(series):
        raise BadCandles(
            settings.source or "source", "no valid candle", "candles of an hour or less, which lie on the grid by any clock"
        )
    return detect_clock(series.open_times, series.closes, series.timeframe.step, reference)


def _unclear(detection: ClockDetection) -> str:
    if detection.tied:
        tied = " and ".join(detection.tied)
        return (
            f"{tied} fit {detection.reference} alike, and the weeks of the file too, but give its rows different times: "
            "give one as --zone in place of --detect-timezone, or compare with candles of other months"
        )
    fits = ", ".join(f"{fit.clock} {fit.correlation:.2f}" for fit in detection.fits[:3])
    periods = "; ".join(f"{each.first} to {each.last} UTC{each.offset_h:+d}" for each in detection.periods[:12])
    return f"no clock is clear against {detection.reference}: correlations {fits}; best offsets by month: {periods}"


def _detection_notes(detection: ClockDetection, zone: str) -> tuple[str, ...]:
    best = detection.fits[0]
    other = detection.fits[1]
    found = (
        f"clock by comparison with {detection.reference}: {best.clock} (correlation of returns {best.correlation:.2f}; "
        f"next {other.clock} {other.correlation:.2f})"
    )
    return (found,) if zone == best.clock else (f"warning: {found}, not {zone} as given",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; 0 if candles were valid, 2 if none was or the input was refused."""
    return run(lambda: _report(IngestJob.parse(arguments)))


def _report(settings: IngestJob) -> int:
    outcome = ingest(settings)
    console = new_console()
    console.print(render(outcome.quality))
    _show_refused(console, outcome)
    console.print(f"report, picture of coverage and refused rows: {outcome.report}", markup=False)
    if outcome.stored is None:
        Console(stderr=True, soft_wrap=True).print(f"error: no valid candle in {outcome.quality.source}", markup=False)
        return REFUSED
    stored = outcome.stored
    more = f", {stored.completed:,} completed" if stored.completed else ""
    console.print(f"{settings.store}: {stored.added:,} candles added, {stored.already_there:,} already there{more}", markup=False)
    if stored.conflicting:
        first = ", ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in stored.conflicting[:_ROWS_SHOWN])
        console.print(f"{len(stored.conflicting):,} differ from stored candles, which stay; at {first}", markup=False)
    return 0


def _show_refused(console: Console, outcome: IngestOutcome) -> None:
    refused, several = outcome.quality.refused, len(outcome.quality.files) > 1
    for row in refused[:_ROWS_SHOWN]:
        where = f"{row.source} " if several else ""
        console.print(f"{where}line {row.line}: {row.reason.value}: {row.detail}", markup=False)
    if len(refused) > _ROWS_SHOWN:
        console.print(f"and {len(refused) - _ROWS_SHOWN:,} more in {outcome.report / 'quarantine.csv'}", markup=False)
    for row in outcome.quality.repaired[:_ROWS_SHOWN]:
        console.print(f"repaired ({row.repair.value}) line {row.line}: {row.detail}", markup=False)
    if len(outcome.quality.repaired) > _ROWS_SHOWN:
        console.print(
            f"and {len(outcome.quality.repaired) - _ROWS_SHOWN:,} more repairs in {outcome.report / 'report.json'}", markup=False
        )


if __name__ == "__main__":
    raise SystemExit(main())
