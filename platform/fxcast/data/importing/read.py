"""Read candles from a file of any known format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

import numpy as np
import pyarrow as pa

from fxcast.data.importing.clean import clean, not_after
from fxcast.data.importing.clocks import NEW_YORK_CLOSE, SourceClock
from fxcast.data.importing.detect import detect_layout, split_fields
from fxcast.data.importing.files import SourceFile, open_lines, read_start
from fxcast.data.importing.layout import FileFormat, Layout
from fxcast.data.importing.order import joined, put_in_order
from fxcast.data.importing.result import ImportResult, RefusedRow, Repair
from fxcast.data.importing.rows import RowReader, Rows
from fxcast.data.importing.stamps import StampKind, StampReader
from fxcast.data.week import fitting_clocks
from fxcast.domain.candle import CandleSeries, TimeArray, to_datetime64
from fxcast.domain.currencies import is_plausible_price, points_per_unit, symbols_named_in, typical_price
from fxcast.domain.market import MarketCandles, PriceSide
from fxcast.domain.timeframe import Timeframe, timeframes
from fxcast.errors import BadCandles, BadSetting

_CHUNK_LINES = 100_000  # bounds the memory that text takes; one-minute candles of ten years are 3.7 million lines
_ENOUGH_ROWS = 20  # to tell a timeframe by
_LARGE = 1_000.0  # whole numbers this large may be points
_SQRT_10 = 10**0.5
_SIDE = re.compile(r"(?<![A-Z])(BID|ASK|MID)(?![A-Z])")  # a word of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the user says of a file; None where it is to be found out.

    Attributes:
        symbol, timeframe, format, day_first: As they are named.
        zone: A `SourceClock`'s name, for times that carry no offset.
        columns: The file's names of roles such as `time`, `open` or `bid_close`; their positions from 1 where it has no header.
        side: What the prices are prices of.
        price_scale: What prices are to be divided by.
        repairs: What may be put right.
        now: Candles that close after it are refused; None to take them.
    """

    symbol: str | None = None
    timeframe: Timeframe | None = None
    format: FileFormat | None = None
    zone: str | None = None
    day_first: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    side: PriceSide | None = None
    price_scale: int | None = None
    repairs: frozenset[Repair] = frozenset()
    now: datetime | None = None


def read_candles(source: SourceFile, options: ImportOptions) -> ImportResult:
    """Read the candles of one file.

    Of rows whose times clash, the fewest are refused: one stray date far ahead costs one row, not all that follow. Where the
    choice is open, as between duplicates, the earlier line stays.

    Raises:
        BadCandles: If the file can't be read, or holds no candles in any known layout, or prices in an unknown unit or in two.
        BadSetting: If something is missing that the file does not say (symbol, zone), is unknown, or contradicts the file.
    """
    if options.zone is not None:
        SourceClock(options.zone)  # an unknown one is refused before anything is read
    start = read_start(source)
    layout = detect_layout(
        source, start, format=options.format, columns=options.columns, day_first=options.day_first, side=options.side
    )
    notes = list(layout.notes)
    symbol = _symbol(source, options, notes)
    side = _side(source, options, layout, notes)
    probe, problems = _probe(layout, start, symbol)
    timeframe = _timeframe(source, options, probe.times, problems)
    if layout.stamp is StampKind.DATE and timeframe.name != "1d":
        raise BadSetting(f"timeframe: found {timeframe}; {source.name} has dates without a time; allowed: 1d")
    have_offsets = _has_offsets(layout, probe)
    zone = _zone(source, options, layout, have_offsets, symbol, timeframe, notes)
    reader = RowReader(
        layout=layout,
        stamps=StampReader(
            kind=layout.stamp,
            clock=SourceClock(zone),
            day_first=layout.day_first,
            midnight=layout.midnight,
            needs_offset=have_offsets and options.zone is None,
        ),
        symbol=symbol,
        timeframe=timeframe,
        source=source.name,
        price_scale=_price_scale(source, options, symbol, probe.values, notes),
        repairs=options.repairs,
    )
    parts: list[Rows] = []
    rows_read = 0
    with open_lines(source) as lines:
        for _ in islice(lines, layout.header_lines):
            pass
        first_line = layout.header_lines + 1
        while chunk := list(islice(lines, _CHUNK_LINES)):
            refused_before = len(reader.refused)
            part = reader.read(chunk, first_line)
            rows_read += len(part.lines) + len(reader.refused) - refused_before
            first_line += len(chunk)
            parts.append(part)
    sort = Repair.ORDER in options.repairs
    rows = joined(parts)
    if options.now is not None:
        rows = not_after(rows, to_datetime64(options.now), timeframe.step, source=source.name, refused=reader.refused)
    rows = put_in_order(rows, source=source.name, sort=sort, refused=reader.refused, repaired=reader.repaired)
    rows = clean(rows, source=source.name, repairs=options.repairs, refused=reader.refused, repaired=reader.repaired)
    candles = CandleSeries(symbol=symbol, timeframe=timeframe, open_times=rows.times, values=rows.values)
    return ImportResult(
        source=source.name,
        format=layout.describe(),
        zone=reader.stamps.clock.name,
        data=MarketCandles(candles=candles, side=side, details=rows.details),
        lines=rows.lines,
        refused=tuple(sorted(reader.refused, key=lambda row: row.line)),
        repaired=tuple(sorted(reader.repaired, key=lambda row: row.line)),
        rows_read=rows_read,
        notes=tuple(notes),
    )


def _probe(layout: Layout, start: Sequence[str], symbol: str) -> tuple[Rows, list[RefusedRow]]:
    """Read the first rows as if the clock were UTC and every minute could open a candle; also what is wrong with others."""
    stamps = StampReader(kind=layout.stamp, clock=SourceClock("UTC"), day_first=layout.day_first, midnight=layout.midnight)
    reader = RowReader(layout=layout, stamps=stamps, symbol=symbol, timeframe=Timeframe("1m"), source="")
    return reader.read(start[layout.header_lines :], layout.header_lines + 1), reader.refused


def _symbol(source: SourceFile, options: ImportOptions, notes: list[str]) -> str:
    named = symbols_named_in(source.entry) or symbols_named_in(source.path.name) or symbols_named_in(source.path.parent.name)
    if options.symbol is not None:
        if len(named) == 1 and named[0] != options.symbol:
            notes.append(f"warning: the file's name says {named[0]}, and its candles are taken for {options.symbol}")
        return options.symbol
    if len(named) != 1:
        found = f"the name of {source.name} says {' and '.join(named) or 'none'}"
        raise BadSetting(f"symbol: missing; {found}; give it, as in EURUSD")
    return named[0]


def _side(source: SourceFile, options: ImportOptions, layout: Layout, notes: list[str]) -> PriceSide:
    """Return what the prices are prices of, by the file's name where nothing else says it."""
    if options.side is not None or layout.side is not PriceSide.UNSTATED:
        return layout.side
    for name in (source.entry, source.path.name):
        named = set(_SIDE.findall(name.upper()))
        if len(named) == 1:
            side = PriceSide(named.pop().lower())
            notes.append(f"{name} says {side}: its prices are read as {side} prices")
            return side
    return PriceSide.UNSTATED


def _timeframe(source: SourceFile, options: ImportOptions, times: TimeArray, problems: Sequence[RefusedRow]) -> Timeframe:
    steps = np.diff(np.unique(times)).astype(np.int64) // 60 if len(times) else np.empty(0, dtype=np.int64)
    lengths, counts = np.unique(steps, return_counts=True)
    usual = int(lengths[counts.argmax()]) if len(lengths) else 0
    given = options.timeframe
    if given is not None:
        if len(steps) >= _ENOUGH_ROWS and usual != given.minutes and counts.max() > 0.5 * len(steps):
            raise BadSetting(f"timeframe: found {given}; the rows of {source.name} are {usual} minutes apart")
        return given
    for timeframe in timeframes():
        if timeframe.minutes == usual:
            return timeframe
    if problems and not len(times):
        first = problems[0]
        found = f"none that is sound; line {first.line}: {first.reason.value}: {first.detail}"
        raise BadCandles(f"{source.name}: rows", found, "rows of candles")
    known = ", ".join(str(timeframe) for timeframe in timeframes())
    found = f"the rows of {source.name} are mostly {usual} minutes apart" if usual else f"{source.name} has too few times to tell"
    raise BadSetting(f"timeframe: missing; {found}; allowed: {known}")


def _zone(
    source: SourceFile,
    options: ImportOptions,
    layout: Layout,
    have_offsets: bool,
    symbol: str,
    timeframe: Timeframe,
    notes: list[str],
) -> str:
    if layout.stamp in {StampKind.EPOCH_S, StampKind.EPOCH_MS}:
        if options.zone is None or options.zone == "UTC":
            return "UTC"
        notes.append(f"times are {layout.stamp.value}, and taken not for UTC but for {options.zone}, as given")
    if options.zone is not None:
        return options.zone
    if layout.stamp is StampKind.DATE:
        raise BadSetting(
            f"zone: missing; {source.name} has dates without a time, which begin at midnight of a clock that it does not name: "
            f"{NEW_YORK_CLOSE} where days end at 17:00 New York"
        )
    if layout.zone is not None:
        return layout.zone
    if layout.format in {FileFormat.METATRADER, FileFormat.DUKASCOPY} and not have_offsets:
        fitting = fitting_clocks(_as_written(source, layout, symbol), timeframe.step)
        hint = f"its weeks fit {', '.join(fitting)}" if fitting else f"most brokers' servers run on {NEW_YORK_CLOSE}"
        raise BadSetting(
            f"zone: missing; {source.name} is stamped by a server's clock and does not say which: {hint}; "
            "to find out, compare it with candles of a known clock: --detect-timezone SYMBOL:TIMEFRAME"
        )
    if not have_offsets:
        notes.append("the times carry no offset and no zone was given: read as UTC")
    return "UTC"


def _has_offsets(layout: Layout, probe: Rows) -> bool:
    """Tell whether the file's own times say how far they are from UTC."""
    rows = [split_fields(text, layout.delimiter) or [] for text in probe.texts[:100]]
    dates, clocks = (
        pa.array([row[layout.columns[role]] for row in rows], type=pa.string()) if role in layout.columns else None
        for role in ("time", "clock")
    )
    return StampReader(kind=layout.stamp, clock=SourceClock("UTC")).have_offsets(dates, clocks)


def _as_written(source: SourceFile, layout: Layout, symbol: str) -> TimeArray:
    """Return all times of a file as its own clock showed them."""
    stamps = StampReader(kind=layout.stamp, clock=SourceClock("UTC"), day_first=layout.day_first, midnight=layout.midnight)
    reader = RowReader(layout=layout, stamps=stamps, symbol=symbol, timeframe=Timeframe("1m"), source="")
    times: list[TimeArray] = []
    with open_lines(source) as lines:
        for _ in islice(lines, layout.header_lines):
            pass
        while chunk := list(islice(lines, _CHUNK_LINES)):
            times.append(reader.read(chunk, 1).times)
    return np.concatenate(times) if times else np.empty(0, dtype="datetime64[s]")


def _price_scale(source: SourceFile, options: ImportOptions, symbol: str, values: np.ndarray, notes: list[str]) -> int:
    prices = values[:, :4]
    if not len(prices):
        return options.price_scale or 1
    median = float(np.median(prices))
    if options.price_scale is not None:
        scaled = median / options.price_scale
        if is_plausible_price(symbol, scaled) is False:
            notes.append(f"warning: divided by {options.price_scale:,} as given, prices have a median of {scaled:g}")
        return options.price_scale
    plausible = is_plausible_price(symbol, median)
    whole = bool((np.abs(prices - np.round(prices)) < 1e-4).all())
    if plausible or (plausible is None and not (whole and median >= _LARGE)):
        return 1
    points = points_per_unit(symbol)
    typical = typical_price(symbol)
    # Nearer to the usual price than a tenth or ten times it: a price in pips is no price in points.
    if typical is not None and whole and typical / _SQRT_10 < median / points < typical * _SQRT_10:
        notes.append(f"prices are whole points: divided by {points:,}")
        return points
    allowed = (
        f"prices of {symbol}"
        + ("" if typical is None else f", about {typical:.3g}")
        + "; or say price_scale, what to divide by (1: nothing)"
    )
    raise BadCandles(f"{source.name}: prices", f"a median of {median:g}", allowed)
