"""Read the times of rows as they are written, in whatever of the usual ways."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import pyarrow as pa

from fxcast.data.importing.arrow import TextColumn, compute
from fxcast.data.importing.clocks import SourceClock
from fxcast.data.importing.result import Reason
from fxcast.domain.candle import TimeArray

_SPLIT = r"^\s*(?P<date>[^\sT]+)[\sT]+(?P<clock>.*)$"
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})(?P<sep>[-./]?)(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})")
_YEAR_LAST = re.compile(r"(?P<first>\d{1,2})[-./](?P<second>\d{1,2})[-./](?P<year>\d{4})")
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2}(?=:)|\d{2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"(?:\s*(?:GMT|UTC)?(?P<offset>Z|GMT|UTC|[+-]\d{2}:?\d{2}|[+-]\d{2}))?",
    re.IGNORECASE,
)
_DAY_S = 86_400
_YEARS = range(1971, 2101)  # before, currencies did not float; a zero that was read as a time is 1970
_START_S, _END_S = (int(np.datetime64(f"{year}-01-01", "s").astype(np.int64)) for year in (_YEARS.start, _YEARS.stop))


class StampKind(StrEnum):
    """How a file tells the time."""

    TEXT = "date and time"
    DATE = "date alone"
    EPOCH_S = "seconds since 1970"
    EPOCH_MS = "milliseconds since 1970"
    DAY_MS = "milliseconds since midnight"


@dataclass(frozen=True, slots=True, kw_only=True)
class StampReader:
    """Reads stamps of one file.

    Attributes:
        kind: How they are written.
        day_first: Read `03.04.2017` as 3 April rather than March 4th.
        midnight: The day of stamps that count from midnight.
        needs_offset: Refuse a stamp that carries none, where nothing but the offsets says what clock a file has.
    """

    kind: StampKind
    clock: SourceClock
    day_first: bool = False
    midnight: date | None = None
    needs_offset: bool = False

    def read(self, dates: TextColumn, clocks: TextColumn | None) -> tuple[TimeArray, dict[int, Reason]]:
        """Return times in UTC, (n,) datetime64[s], NaT where refused, and the reason by position.

        Args:
            dates: The whole stamp, or its date if the time of day stands in a column of its own.
            clocks: That column.
        """
        if self.kind in {StampKind.TEXT, StampKind.DATE}:
            local, offset_s, odd = self._read_text(dates, clocks)
        else:
            local, offset_s, odd = self._read_numbers(dates)
        reasons = {int(position): Reason.UNREADABLE_TIME for position in np.flatnonzero(np.isnat(local))}
        absolute = ~np.isnan(offset_s)
        times, problems = self.clock.to_utc(local)
        if absolute.any():
            shifted = local[absolute] - offset_s[absolute].astype("timedelta64[s]")
            times = times.copy()
            times[absolute] = shifted
        reasons |= {position: reason for position, reason in problems if not absolute[position]}
        if self.needs_offset:
            without = ~absolute & ~np.isnat(local)
            reasons |= {int(position): Reason.NO_OFFSET for position in np.flatnonzero(without)}
        reasons |= {int(position): Reason.OFF_GRID for position in np.flatnonzero(odd & ~np.isnat(times))}
        return times, reasons

    def have_offsets(self, dates: TextColumn, clocks: TextColumn | None) -> bool:
        """Tell whether all stamps that can be read, one at least, say how far they are from UTC."""
        if self.kind is not StampKind.TEXT:
            return False
        local, offset_s, _ = self._read_text(dates, clocks)
        read = ~np.isnat(local)
        return bool(read.any()) and not np.isnan(offset_s[read]).any()

    def _read_text(self, dates: TextColumn, clocks: TextColumn | None) -> tuple[TimeArray, np.ndarray, np.ndarray]:
        """Return local times, offsets in seconds (NaN without one), and which lie off whole seconds; each (n,).

        Days and times of day repeat, so only the distinct ones are looked at.
        """
        if self.kind is StampKind.DATE:
            clocks = pa.array(["00:00"] * len(dates), type=pa.string())
        elif clocks is None:
            parts = compute.extract_regex(dates, pattern=_SPLIT)
            dates, clocks = compute.struct_field(parts, "date"), compute.struct_field(parts, "clock")
        days, day_of = _distinct(dates)
        times, time_of = _distinct(clocks)
        day_s = np.array([_no_time if (day := self._day(text)) is None else day * _DAY_S for text in days], dtype=np.int64)
        read = [_time_of_day(text) for text in times]
        clock_s = np.array([_no_time if each is None else each[0] for each in read], dtype=np.int64)
        offset_s = np.array([np.nan if each is None or each[1] is None else each[1] for each in read], dtype=np.float64)
        odd = np.array([each is not None and each[2] for each in read], dtype=bool)
        unread = (day_s[day_of] == _no_time) | (clock_s[time_of] == _no_time)
        seconds = np.where(unread, _no_time, day_s[day_of] + clock_s[time_of])
        return seconds.astype("datetime64[s]"), offset_s[time_of], odd[time_of]

    def _read_numbers(self, stamps: TextColumn) -> tuple[TimeArray, np.ndarray, np.ndarray]:
        texts = [text.strip() for text in stamps.to_pylist()]
        digits = [text.isascii() and text.isdigit() and len(text) <= 13 for text in texts]
        numbers = np.array([int(text) if is_number else -1 for text, is_number in zip(texts, digits, strict=True)], dtype=np.int64)
        thousandths = 1 if self.kind is StampKind.EPOCH_S else 1000
        unread = numbers < 0
        if self.kind is StampKind.DAY_MS:
            assert self.midnight is not None, "milliseconds since midnight need a day"
            unread |= numbers >= _DAY_S * 1000
            numbers = numbers + int(np.datetime64(self.midnight, "s").astype(np.int64)) * 1000
        unread |= (numbers // thousandths < _START_S) | (numbers // thousandths >= _END_S)
        seconds = np.where(unread, _no_time, numbers // thousandths)
        return seconds.astype("datetime64[s]"), np.full(len(numbers), np.nan), ~unread & (numbers % thousandths != 0)

    def _day(self, text: str) -> int | None:
        """Return a date as days since 1970."""
        match = _YEAR_FIRST.fullmatch(text)
        if match is not None:
            year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
        else:
            match = _YEAR_LAST.fullmatch(text)
            if match is None:
                return None
            year, month, day = int(match["year"]), int(match["first"]), int(match["second"])
            if self.day_first:
                month, day = day, month
        if year not in _YEARS:
            return None
        try:
            return date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
        except ValueError:
            return None


_no_time = int(np.datetime64("NaT", "s").astype(np.int64))


def _distinct(texts: TextColumn) -> tuple[list[str], np.ndarray]:
    encoded = compute.dictionary_encode(compute.fill_null(texts, ""))
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return [text.strip() for text in encoded.dictionary.to_pylist()], encoded.indices.to_numpy()


def _time_of_day(text: str) -> tuple[int, int | None, bool] | None:
    """Return seconds since midnight, the offset from UTC in seconds if one is written, and whether it lies off a whole second."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"] or 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    offset_s = None
    if match["offset"] is not None:
        written = match["offset"].replace(":", "")
        offset_s = 0
        if written[0] in "+-":
            offset_s = (int(written[1:3]) * 3600 + int(written[3:5] or 0) * 60) * (-1 if written[0] == "-" else 1)
    return hour * 3600 + minute * 60 + second, offset_s, (match["fraction"] or "").strip("0") != ""
