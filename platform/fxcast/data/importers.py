"""Read candles from CSV; a bad row is refused with its line and reason, and nothing is repaired."""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fxcast.domain.candle import COLUMNS, MAX_PRICE, MIN_PRICE, CandleSeries, FloatArray, TimeArray, candle_problem, sound_rows
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

_TIME_NAMES = ("time", "date", "datetime", "timestamp")
_CHUNK_LINES = 100_000  # bounds the memory that text takes; one-minute candles of ten years are 3.7 million lines
_SNIFFED_BYTES = 65_536

_CLOCK = r"[T ]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
_OFFSET = r"\s*(?P<offset>[Zz]|[+-]\d{2}:?\d{2})?"
_YEAR_FIRST = rf"^(?P<year>\d{{4}})[-./](?P<month>\d{{1,2}})[-./](?P<day>\d{{1,2}}){_CLOCK}{_OFFSET}$"
_DAY_FIRST = rf"^(?P<day>\d{{1,2}})[-./](?P<month>\d{{1,2}})[-./](?P<year>\d{{4}}){_CLOCK}{_OFFSET}$"
_MONTH_FIRST = rf"^(?P<month>\d{{1,2}})[-./](?P<day>\d{{1,2}})[-./](?P<year>\d{{4}}){_CLOCK}{_OFFSET}$"


class Reason(StrEnum):
    """Why a row was refused."""

    FIELD_COUNT = "wrong number of fields"
    UNREADABLE_TIME = "unreadable time"
    NO_SUCH_LOCAL_TIME = "local time that never was"
    AMBIGUOUS_LOCAL_TIME = "ambiguous local time"
    OFF_GRID = "time off the timeframe's grid"
    UNREADABLE_NUMBER = "unreadable number"
    NOT_FINITE = "number not finite"
    PRICE_NOT_POSITIVE = "price not positive"
    IMPLAUSIBLE_PRICE = "implausible price"
    NEGATIVE_VOLUME = "negative volume"
    HIGH_BELOW_LOW = "high below low"
    OUTSIDE_RANGE = "open or close outside high and low"
    IDENTICAL_DUPLICATE = "duplicate time, identical candle"
    CONFLICTING_DUPLICATE = "duplicate time, conflicting candle"
    OUT_OF_ORDER = "time out of order"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRow:
    """A row that was not ingested; `line` counts from 1, the header, and `text` is the line as it stands in the file."""

    line: int
    reason: Reason
    detail: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What a file held: the accepted candles, and every refused row in the order of the file."""

    source: str
    series: CandleSeries
    refused: tuple[RefusedRow, ...]
    rows_read: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where a file keeps what: positions of time, then `COLUMNS`, and how it writes times."""

    field_count: int
    time: int
    numbers: tuple[int, ...]
    day_first: bool
    zone: str
    step_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows that are sound by themselves, in the order of the file."""

    lines: NDArray[np.int64]
    times: TimeArray
    values: FloatArray
    texts: list[str]


def read_candles_csv(
    path: str | Path,
    *,
    symbol: str,
    timeframe: Timeframe,
    day_first: bool = False,
    zone: str = "UTC",
    columns: Mapping[str, str] | None = None,
) -> ImportResult:
    """Read candles from a CSV file with a header.

    Of rows whose times clash, the fewest are refused: one stray date far ahead costs one row, not all that follow. Where the
    choice is open, as between duplicates, the earlier line stays.

    Args:
        path: UTF-8 text, comma-separated, one row a line; blank lines are no rows.
        symbol: Whose candles these are, as in `EURUSD`.
        timeframe: Their length; open times must be whole multiples of it since midnight UTC.
        day_first: Read `03.04.2017` as 3 April rather than March 4th; `2017-04-03` is read alike in both cases.
        zone: IANA zone of the times that carry no offset.
        columns: What the file calls `time`, `open`, `high`, `low`, `close` or `volume`, where it uses other names.
            Case never matters; without this, `date`, `datetime` and `timestamp` also name the time.

    Raises:
        BadCandles: If the file can't be read, is empty or not text, or a column is missing or there twice.
        BadSetting: If the zone or a key of `columns` is unknown.
    """
    _check_zone(zone)
    nothing = np.empty((0, len(COLUMNS)))
    empty = CandleSeries(symbol=symbol, timeframe=timeframe, open_times=np.empty(0, dtype="datetime64[s]"), values=nothing)
    path = Path(path)
    refused: list[RefusedRow] = []
    parts: list[_Rows] = []
    rows_read = 0
    try:
        _check_text(path)
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = _fields(file.readline().rstrip("\n")) or []
            time, numbers = _find_columns(path, header, columns or {})
            layout = _Layout(
                field_count=len(header),
                time=time,
                numbers=numbers,
                day_first=day_first,
                zone=zone,
                step_s=timeframe.minutes * 60,
            )
            numbered = enumerate(file, start=2)
            while chunk := list(islice(numbered, _CHUNK_LINES)):
                rows = [(line, text) for line, raw in chunk if (text := raw.rstrip("\n")).strip()]
                rows_read += len(rows)
                if rows:
                    parts.append(_read_chunk(rows, layout, refused))
    except OSError as error:
        raise BadCandles(str(path), error.strerror or type(error).__name__, "a readable CSV file") from None
    series = _put_in_order(parts, empty, refused)
    refused.sort(key=lambda row: row.line)
    return ImportResult(source=str(path), series=series, refused=tuple(refused), rows_read=rows_read)


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # zoneinfo raises OSError for a folder of zones such as `America`
        raise BadSetting(f"zone: found {zone!r}; allowed: an IANA time zone, as in Europe/Berlin") from None


def _check_text(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    if not start.strip():
        raise BadCandles(str(path), "an empty file", "a header and rows")
    header = start.splitlines()[0]
    if b"\0" in start or "\ufffd" in header.decode(errors="replace"):
        raise BadCandles(str(path), "not text", "UTF-8 text")


def _fields(text: str) -> list[str] | None:
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text]))
    except csv.Error:  # a field beyond csv's limit of 128 KiB
        return None


def _find_columns(path: Path, header: list[str], columns: Mapping[str, str]) -> tuple[int, tuple[int, ...]]:
    for name in columns:
        if name not in ("time", *COLUMNS):
            raise BadSetting(f"columns: unknown key {name!r}; allowed: time, {', '.join(COLUMNS)}")
    found = [name.strip().lower() for name in header]
    positions: list[int] = []
    for name in ("time", *COLUMNS):
        wanted = _TIME_NAMES if name == "time" else (name,)
        if name in columns:
            wanted = (columns[name].strip().lower(),)
        here = [position for position, column in enumerate(found) if column in wanted]
        if not here:
            raise BadCandles(f"{path}: header", ", ".join(header), f"a column {' or '.join(repr(each) for each in wanted)}")
        if len(here) > 1:
            twice = ", ".join(header[position].strip() for position in here)
            raise BadCandles(f"{path}: header", f"{twice} for {name}", "one column; name it with `columns`")
        positions.append(here[0])
    return positions[0], tuple(positions[1:])


def _read_chunk(rows: list[tuple[int, str]], layout: _Layout, refused: list[RefusedRow]) -> _Rows:
    split: list[tuple[int, str, list[str]]] = []
    for line, text in rows:
        fields = _fields(text)
        if fields is not None and len(fields) == layout.field_count:
            split.append((line, text, fields))
        else:
            detail = f"{0 if fields is None else len(fields)} fields, the header has {layout.field_count}"
            refused.append(RefusedRow(line=line, reason=Reason.FIELD_COUNT, detail=detail, text=text))
    times, time_reasons = _read_times([fields[layout.time] for _, _, fields in split], layout)
    values = np.array(
        [[_number(fields[position]) for position in layout.numbers] for _, _, fields in split], dtype=np.float64
    ).reshape(-1, len(COLUMNS))  # (rows, 5)
    sound = np.array([reason is None for reason in time_reasons], dtype=bool)
    sound &= sound_rows(values)
    for position in np.flatnonzero(~sound):
        line, text, fields = split[position]
        reason = time_reasons[position]
        if reason is None:
            reason, detail = _why_unsound([fields[number] for number in layout.numbers], values[position])
        else:
            detail = repr(fields[layout.time])
        refused.append(RefusedRow(line=line, reason=reason, detail=detail, text=text))
    kept = [row for row, is_sound in zip(split, sound, strict=True) if is_sound]
    return _Rows(
        lines=np.array([line for line, _, _ in kept], dtype=np.int64),
        times=times[sound],
        values=values[sound],
        texts=[text for _, text, _ in kept],
    )


def _number(text: str) -> float:
    if "_" in text:  # Python's digit grouping, which no data vendor means
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


def _why_unsound(texts: list[str], values: FloatArray) -> tuple[Reason, str]:
    for name, text, value in zip(COLUMNS, texts, values, strict=True):
        if math.isnan(value) and text.strip().lower().lstrip("+-") != "nan":
            return Reason.UNREADABLE_NUMBER, f"{name} {text!r}"
    problem = candle_problem(*(float(value) for value in values))
    assert problem is not None, "candle_problem and sound_rows disagree"
    name, found, _ = problem
    value = float(values[COLUMNS.index(name)])
    detail = f"{name} {found}"
    if not math.isfinite(value):
        return Reason.NOT_FINITE, detail
    if name == "volume":
        return Reason.NEGATIVE_VOLUME, detail
    if value <= 0:
        return Reason.PRICE_NOT_POSITIVE, detail
    if not MIN_PRICE <= value <= MAX_PRICE:
        return Reason.IMPLAUSIBLE_PRICE, detail
    return (Reason.HIGH_BELOW_LOW if values[1] < values[2] else Reason.OUTSIDE_RANGE), detail


def _read_times(texts: list[str], layout: _Layout) -> tuple[TimeArray, list[Reason | None]]:
    """Return open times in UTC, (rows,) datetime64[s], and for each row why its time is refused, if it is."""
    written = pd.Series(texts, dtype="str").str.strip()
    parts = written.str.extract(_YEAR_FIRST)
    other = parts["year"].isna()
    if other.any():
        parts.loc[other] = written[other].str.extract(_DAY_FIRST if layout.day_first else _MONTH_FIRST)[parts.columns]
    canonical = (
        parts["year"] + "-" + parts["month"].str.zfill(2) + "-" + parts["day"].str.zfill(2)
        + " " + parts["hour"].str.zfill(2) + ":" + parts["minute"] + ":" + parts["second"].fillna("00")
    )  # fmt: skip
    naive = pd.to_datetime(canonical, format="%Y-%m-%d %H:%M:%S", errors="coerce").astype("datetime64[s]")
    offset = parts["offset"].replace({"Z": "+0000", "z": "+0000"}).str.replace(":", "")
    offset_s = offset.str[1:3].astype("float64") * 3600 + offset.str[3:5].astype("float64") * 60
    offset_s = offset_s.where(~offset.str.startswith("-", na=False), -offset_s)
    unambiguous = naive.dt.tz_localize(layout.zone, ambiguous="NaT", nonexistent="shift_forward")
    exact = unambiguous.where(unambiguous.dt.tz_localize(None) == naive)
    local = exact.dt.tz_convert("UTC").dt.tz_localize(None)
    moments = local.where(offset.isna(), naive - pd.to_timedelta(offset_s, unit="s"))
    times: TimeArray = moments.to_numpy().astype("datetime64[s]")

    fraction = parts["fraction"].fillna("").str.strip("0") != ""
    off_grid = fraction.to_numpy(dtype=bool) | (times.astype(np.int64) % layout.step_s != 0)
    reasons: list[Reason | None] = [None] * len(texts)
    for position in np.flatnonzero(np.isnat(times) | off_grid):
        if pd.isna(naive.iloc[position]):
            reasons[position] = Reason.UNREADABLE_TIME
        elif not np.isnat(times[position]):
            reasons[position] = Reason.OFF_GRID
        elif pd.isna(unambiguous.iloc[position]):
            reasons[position] = Reason.AMBIGUOUS_LOCAL_TIME
        else:
            reasons[position] = Reason.NO_SUCH_LOCAL_TIME
    return times, reasons


def _put_in_order(parts: list[_Rows], empty: CandleSeries, refused: list[RefusedRow]) -> CandleSeries:
    """Keep the longest run of rows whose times increase, and refuse the others as duplicates or out of order."""
    if not parts:
        return empty
    lines = np.concatenate([part.lines for part in parts])
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    texts = [text for part in parts for text in part.texts]
    seconds = times.astype(np.int64)
    kept = np.arange(len(seconds))
    if (np.diff(seconds) <= 0).any():
        kept = np.array(_longest_increase(seconds.tolist()), dtype=np.int64)
    for position in np.setdiff1d(np.arange(len(seconds)), kept):
        after = int(np.searchsorted(seconds[kept], seconds[position]))
        if after < len(kept) and times[kept[after]] == times[position]:
            identical = bool((values[kept[after]] == values[position]).all())
            reason = Reason.IDENTICAL_DUPLICATE if identical else Reason.CONFLICTING_DUPLICATE
            detail = f"{times[position]}Z is on line {lines[kept[after]]}"
        else:
            before = int(np.searchsorted(kept, position)) - 1
            clashes = before >= 0 and seconds[kept[before]] > seconds[position]
            other = kept[before if clashes else before + 1]
            reason, detail = Reason.OUT_OF_ORDER, f"{times[position]}Z, but {times[other]}Z is on line {lines[other]}"
        refused.append(RefusedRow(line=int(lines[position]), reason=reason, detail=detail, text=texts[position]))
    return CandleSeries(symbol=empty.symbol, timeframe=empty.timeframe, open_times=times[kept], values=values[kept])


def _longest_increase(numbers: Iterable[int]) -> list[int]:
    """Return the positions of a longest strictly increasing subsequence; of several, the one with the earliest positions.

    Source: patience sorting (Fredman 1975), run from the end so that ties fall to the earlier position.
    """
    negated = [-number for number in numbers]
    heads: list[int] = []  # by length − 1: the lowest negated number that starts a run of that length
    starts: list[int] = []  # and its position
    following = [-1] * len(negated)
    for position in range(len(negated) - 1, -1, -1):
        length = bisect_left(heads, negated[position])
        following[position] = starts[length - 1] if length else -1
        heads[length : length + 1] = [negated[position]]
        starts[length : length + 1] = [position]
    chosen: list[int] = []
    position = starts[-1] if starts else -1
    while position >= 0:
        chosen.append(position)
        position = following[position]
    return chosen
