"""Find out by its first lines how a file of candles is written."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import numpy as np

from fxcast.data.importing.files import SourceFile
from fxcast.data.importing.layout import PRICES, ROLES, FileFormat, Layout
from fxcast.data.importing.stamps import StampKind
from fxcast.domain.market import ASK, BID, PriceSide
from fxcast.errors import BadCandles, BadSetting

_NAMES = {
    "time": (
        "time",
        "date",
        "datetime",
        "timestamp",
        "gmt time",
        "utc time",
        "local time",
        "time (utc)",
        "time (eet)",
        "open time",
    ),
    "clock": ("clock",),
    "tick_volume": ("tick_volume", "tickvol", "tick volume", "ticks", "tickvolume"),
    "real_volume": ("real_volume", "real volume", "realvolume"),
    "volume": ("volume", "vol"),
    "spread": ("spread",),
    "spread_points": ("spread_points",),
}
_DATE = re.compile(r"\d{4}[-./]?\d{1,2}[-./]?\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
# Digits alone are a date where they can be one: as milliseconds since midnight, such a number would be no whole second.
_BARE_DATE = re.compile(
    r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}|(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
)
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2})?([.,]\d+)?|\d{6}")
_MOMENT = re.compile(r"(?P<date>\d{4}[-./]?\d{1,2}[-./]?\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4})[\sT]+\d{1,2}:?\d{2}.*")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_AMBIGUOUS_DAY = re.compile(r"(\d{1,2})([-./])(\d{1,2})[-./](\d{4})")


def detect_layout(
    source: SourceFile,
    start: Sequence[str],
    *,
    format: FileFormat | None = None,  # noqa: A002  # the word that users know it by
    columns: Mapping[str, str] | None = None,
    day_first: bool | None = None,
    side: PriceSide | None = None,
) -> Layout:
    """Find out how a text file is written.

    Args:
        source: Its name says the format and the day, where rows don't.
        start: Its first lines.
        format, day_first, side: What the user says, which outweighs what is found; None to find out.
        columns: The file's names of some roles (`ROLES`), for files with a header; for others, their positions, from 1.

    Raises:
        BadCandles: If no layout of candles fits; names the line.
        BadSetting: If a key of `columns` is no role, it mixes names and positions, or day and month can't be told apart.
    """
    for name in columns or {}:
        if name not in ROLES:
            raise BadSetting(f"columns: unknown key {name!r}; allowed: {', '.join(ROLES)}")
    by_position = _are_positions(columns or {})
    numbers = [position for position, line in enumerate(start) if line.strip()]
    delimiter = _delimiter([start[position] for position in numbers])
    rows = [split_fields(start[position], delimiter) or [] for position in numbers]
    top = _header_position(rows)
    header = None if top is None else [name.strip() for name in rows[top]]
    first = numbers[top or 0]
    body = rows if top is None else rows[top + 1 :]
    typical = _typical_count(body, len(rows[top or 0]))
    sample = [row for row in body if len(row) == typical and (header is None or _is_row(row))][:2_000]
    name = f"{source.path.name} {source.entry}".upper()
    notes: list[str] = []
    if top:
        notes.append(f"the header is line {first + 1}: what stands above it was skipped")
    if header is not None and (columns or _fits(header, typical, sample)):
        found = _by_header(source, header, columns or {}, sample, notes)
    elif columns and header is None and by_position:
        found = _by_position(source, first + 1, columns, typical, notes)
    elif columns:
        allowed = f"a header, which `columns` refers to, or positions from 1 to {typical} in `columns`: time=1, open=2"
        raise BadCandles(f"{source.name}: line {first + 1}", "a row of values", allowed)
    else:
        found = _by_shape(source, first + 1, sample, typical)
        if header is not None:
            _require_usual_order(source, header)
            notes.append(f"the header names {len(header)} columns, the rows have {typical}: read by what the columns hold")
    # Columns that the user has placed say nothing of who wrote the file.
    chosen = format or _format(name, header, {} if header is None and columns else found, sample)
    if chosen is FileFormat.LEAN and "bid_open" not in found:
        raise BadCandles(source.name, f"{typical} columns", "11 columns: time, bid OHLC and size, ask OHLC and size")
    stamp = _stamp_kind(source, sample, found)
    return Layout(
        format=chosen,
        delimiter=delimiter,
        header_lines=first + (0 if header is None else 1),
        field_count=len(header) if header is not None and not sample else typical,
        columns=found,
        stamp=stamp,
        side=side or _side(chosen, found),
        zone=_zone(chosen, "" if header is None else header[found["time"]]),
        day_first=_day_first(sample, found, day_first) if stamp in {StampKind.TEXT, StampKind.DATE} else False,
        midnight=_midnight(source) if stamp is StampKind.DAY_MS else None,
        decimal_comma=_has_decimal_comma(sample, found, delimiter),
        notes=tuple(notes),
    )


def split_fields(text: str, delimiter: str) -> list[str] | None:
    """Split a line, quoted fields included; None if it can't be."""
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter))
    except csv.Error:  # a field beyond csv's limit of 128 KiB
        return None


def _delimiter(lines: Sequence[str]) -> str:
    sample = [line for line in lines[:200] if line.strip()]
    for delimiter in ("\t", ";", ","):  # in that order: numbers may hold commas
        counts = Counter(line.count(delimiter) for line in sample)
        if counts.most_common(1)[0][0] >= 4 or (len(sample) <= 3 and max(counts) >= 4):
            return delimiter
    return ","


def _typical_count(body: Sequence[Sequence[str]], otherwise: int) -> int:
    counts = Counter(len(row) for row in body)
    return counts.most_common(1)[0][0] if counts else otherwise


def _is_row(fields: Sequence[str]) -> bool:
    """Tell a row of values from a header: it begins with a time, and most of what follows are numbers."""
    texts = [field.strip() for field in fields]
    if not texts or not (_MOMENT.fullmatch(texts[0]) or _DATE.fullmatch(texts[0]) or texts[0].isdigit()):
        numbers = sum(_NUMBER.fullmatch(text) is not None for text in texts)
        return numbers >= 4
    return True


def _header_position(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the row that names the columns, None if the first one holds values; a title or comments may stand above it."""
    above = next((position for position, row in enumerate(rows) if _is_row(row)), 1)
    if above == 0:
        return None
    typical = _typical_count(rows[above:], len(rows[0]))
    return next((position for position, row in enumerate(rows[:above]) if len(row) == typical), 0)


def _fits(header: Sequence[str], typical: int, sample: Sequence[Sequence[str]]) -> bool:
    """Tell whether a header can be that of the rows: it names all columns but empty last ones, which trailing delimiters make."""
    return len(header) == typical or all(not field.strip() for row in sample for field in row[len(header) :] or ("more",))


def _require_usual_order(source: SourceFile, header: Sequence[str]) -> None:
    named = [name for name in (each.strip("<> ").lower() for each in header) if name in PRICES]
    if named != [name for name in PRICES if name in named]:
        found = f"{', '.join(header)}, over rows with more columns or fewer"
        raise BadCandles(f"{source.name}: header", found, "a name for each column, where open, high, low, close are not in order")


def _by_header(
    source: SourceFile, header: list[str], columns: Mapping[str, str], sample: Sequence[Sequence[str]], notes: list[str]
) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    if _is_metatraders(names):
        names = [name.strip("<>") for name in names]
        roles = {"date": "time", "time": "clock", "tickvol": "tick_volume", "vol": "real_volume", "spread": "spread_points"}
        return {roles.get(name, name): position for position, name in enumerate(names)}
    found: dict[str, int] = {}
    quotes = all(name in names or name in columns for name in (*BID, *ASK))
    required = ("time",) if quotes else ("time", *PRICES)
    for role in ROLES:
        wanted = _NAMES.get(role, (role, role.replace("_", " "), role.replace("_", "")))
        if role in columns:
            wanted = (columns[role].strip().lower(),)
        here = [position for position, column in enumerate(names) if column in wanted and position not in found.values()]
        if role == "time" and role not in columns and len(here) == 2 and names[here[0]] == "date" and names[here[1]] == "time":
            found["time"], found["clock"] = here
            continue
        if len(here) > 1:
            twice = ", ".join(header[position] for position in here)
            raise BadCandles(f"{source.name}: header", f"{twice} for {role}", "one column; name it with `columns`")
        if here:
            found[role] = here[0]
        elif role in required or role in columns:
            allowed = f"a column {' or '.join(repr(each) for each in dict.fromkeys(wanted))}"
            hint = "" if role in columns else f", or its name in `columns`: {role}=NAME"
            raise BadCandles(f"{source.name}: header", ", ".join(header)[:300], allowed + hint)
    return _with_relabelled_volume(names, _without_half_a_quote(found, notes), sample, notes)


def _without_half_a_quote(found: dict[str, int], notes: list[str]) -> dict[str, int]:
    if all(name in found for name in (*BID, *ASK)) or not any(name in found for name in (*BID, *ASK)):
        return found
    notes.append("bid and ask are not given with open, high, low and close each: left out")
    return {role: position for role, position in found.items() if role not in {*BID, *ASK}}


def _are_positions(columns: Mapping[str, str]) -> bool:
    numbers = [value.strip().isdecimal() for value in columns.values()]
    if any(numbers) and not all(numbers):
        found = ", ".join(f"{role}={value}" for role, value in columns.items())
        raise BadSetting(f"columns: found {found}; allowed: names of a header, or positions from 1, not both")
    return all(numbers)


def _by_position(source: SourceFile, line: int, columns: Mapping[str, str], count: int, notes: list[str]) -> dict[str, int]:
    found = {role: int(value) - 1 for role, value in columns.items()}
    said = ", ".join(f"{role}={value}" for role, value in columns.items())
    required = ("time",) if all(name in found for name in (*BID, *ASK)) else ("time", *PRICES)
    missing = [role for role in required if role not in found]
    if missing:
        raise BadSetting(
            f"columns: found {said}; missing: {', '.join(missing)}; allowed: a position for each, as in time=1, open=2"
        )
    if len(set(found.values())) < len(found) or not all(0 <= position < count for position in found.values()):
        raise BadSetting(
            f"columns: found {said}; allowed: different positions from 1 to {count}, as {source.name} has on line {line}"
        )
    return _without_half_a_quote(found, notes)


def _is_metatraders(names: Sequence[str]) -> bool:
    """Tell the header of MetaTrader 5, which leaves the time out of daily candles."""
    prices = ("<open>", "<high>", "<low>", "<close>")
    return tuple(names[:5]) == ("<date>", *prices) or tuple(names[:6]) == ("<date>", "<time>", *prices)


def _with_relabelled_volume(
    names: Sequence[str], found: dict[str, int], sample: Sequence[Sequence[str]], notes: list[str]
) -> dict[str, int]:
    """Take a column headed "Adj Close" that counts something for the tick volume, as some exports of MetaTrader candles have it."""
    if "adj close" not in names or "tick_volume" in found or not sample:
        return found
    position = names.index("adj close")
    texts = [row[position].strip() for row in sample]
    if all(text.isdigit() for text in texts):
        notes.append('the column headed "Adj Close" holds whole numbers: read as the tick volume')
        found["tick_volume"] = position
        if "volume" in found:
            same = all(row[found["volume"]].strip() == text for row, text in zip(sample, texts, strict=True))
            position = found.pop("volume")
            if same:
                notes.append('the column headed "Volume" repeats it')
            else:
                found["real_volume"] = position
    return found


def _by_shape(source: SourceFile, line: int, sample: Sequence[Sequence[str]], count: int) -> dict[str, int]:
    """Place the columns of rows without a header that can be trusted."""
    expected = "a header, or rows of date and time, open, high, low, close and volumes; or positions in `columns`: time=1, open=2"
    if not sample:
        raise BadCandles(f"{source.name}: line {line}", f"{count} fields that are no candle", expected)
    row = [field.strip() for field in sample[0]]
    if count == 11 and (row[0].isdigit() or _MOMENT.fullmatch(row[0])):
        # LEAN: time, bid OHLC, bid size, ask OHLC, ask size; sizes are what was quoted, not what was traded.
        return {"time": 0, **{name: 1 + at for at, name in enumerate(BID)}, **{name: 6 + at for at, name in enumerate(ASK)}}
    if _MOMENT.fullmatch(row[0]) or (row[0].isdigit() and len(row[0]) in {10, 13}):
        found = {"time": 0}
    elif _DATE.fullmatch(row[0]) and count > 1 and _CLOCK.fullmatch(row[1]):
        found = {"time": 0, "clock": 1}
    else:
        raise BadCandles(f"{source.name}: line {line}", ", ".join(row), expected)
    at = len(found)
    rest = count - at
    if rest < 4 or rest > 7:
        raise BadCandles(f"{source.name}: line {line}", f"{rest} columns after the time", expected)
    found |= {name: at + offset for offset, name in enumerate(PRICES)}
    extra = ("tick_volume",) if rest == 5 else ("tick_volume", "real_volume", "spread_points")[: rest - 4]
    return found | {name: at + 4 + offset for offset, name in enumerate(extra)}


def _format(name: str, header: Sequence[str] | None, found: Mapping[str, int], sample: Sequence[Sequence[str]]) -> FileFormat:
    names = [each.lower() for each in header or []]
    if re.search(r"DAT_(ASCII|MT|NT|XLSX|MS)_", name):
        return FileFormat.HISTDATA
    relabelled = "adj close" in names and found.get("tick_volume") == names.index("adj close")
    if _is_metatraders(names) or relabelled:
        return FileFormat.METATRADER
    if any(each.startswith(("gmt time", "local time", "time (")) for each in names):
        return FileFormat.DUKASCOPY
    if header is None and "bid_open" in found:
        return FileFormat.LEAN
    if header is None and "clock" in found:
        return FileFormat.METATRADER
    if header is None and sample and re.fullmatch(r"\d{8} \d{6}", sample[0][0].strip()):
        return FileFormat.HISTDATA
    if header is not None and len(names) != len(found) and "clock" in found and "tick_volume" in found:
        return FileFormat.METATRADER
    return FileFormat.PLAIN


def _side(chosen: FileFormat, found: Mapping[str, int]) -> PriceSide:
    if "bid_open" in found and "ask_open" in found:
        return PriceSide.MID
    return PriceSide.BID if chosen in {FileFormat.METATRADER, FileFormat.HISTDATA} else PriceSide.UNSTATED


def _zone(chosen: FileFormat, time_name: str) -> str | None:
    match chosen:
        case FileFormat.HISTDATA:
            return "-05:00"  # their pages say: Eastern Standard Time, without daylight saving
        case FileFormat.LEAN:
            return "UTC"
        case FileFormat.DUKASCOPY:
            title = time_name.lower()
            return "UTC" if title.startswith("gmt") or "utc" in title else "Europe/Helsinki" if "eet" in title else None
        case _:
            return None


def _stamp_kind(source: SourceFile, sample: Sequence[Sequence[str]], found: Mapping[str, int]) -> StampKind:
    texts = [row[found["time"]].strip() for row in sample if len(row) > found["time"]]
    if texts and "clock" not in found and all(_BARE_DATE.fullmatch(text) for text in texts):
        return StampKind.DATE
    if not texts or "clock" in found or not all(text.isdigit() for text in texts):
        return StampKind.TEXT
    lengths = Counter(len(text) for text in texts).most_common(1)[0][0]
    if lengths in {10, 13}:
        return StampKind.EPOCH_S if lengths == 10 else StampKind.EPOCH_MS
    if lengths > 8:
        allowed = "a date and a time of day, seconds or milliseconds since 1970, or milliseconds since midnight"
        raise BadCandles(f"{source.name}: times", f"{texts[0]}, a number of {lengths} digits", allowed)
    return StampKind.DAY_MS


def _midnight(source: SourceFile) -> date:
    for name in (source.entry, source.path.name):
        match = re.search(r"(?<!\d)(\d{8})(?!\d)", name)
        if match is not None:
            return datetime.strptime(match[1], "%Y%m%d").date()  # noqa: DTZ007  # a date has no zone
    raise BadCandles(source.name, "times since midnight and no date in the name", "a name with the day, as in 20140501_quote.zip")


def _day_first(sample: Sequence[Sequence[str]], found: Mapping[str, int], said: bool | None) -> bool:
    """Tell 03.04.2017 (3 April) from 03/04/2017 (March 4th) by which reading the rows follow each other in."""
    if said is not None:
        return said
    dates = [match for row in sample if (match := _AMBIGUOUS_DAY.match(row[found["time"]].strip()))]
    if not dates:
        return False
    readings = {day_first: _days(dates, day_first) for day_first in (True, False)}
    spans = {day_first: np.inf if days is None else float(np.ptp(days)) for day_first, days in readings.items()}
    if spans[True] != spans[False]:
        return spans[True] < spans[False]
    if dates[0][2] == ".":
        return True  # nobody writes month.day.year with dots
    raise BadSetting(f"day_first: missing; {dates[0][0]} may be day or month first, and the first rows don't tell")


def _days(dates: Sequence[re.Match[str]], day_first: bool) -> np.ndarray | None:
    days: list[int] = []
    for match in dates:
        day, month = (int(match[1]), int(match[3])) if day_first else (int(match[3]), int(match[1]))
        try:
            days.append(date(int(match[4]), month, day).toordinal())
        except ValueError:
            return None
    return np.array(days)


def _has_decimal_comma(sample: Sequence[Sequence[str]], found: Mapping[str, int], delimiter: str) -> bool:
    position = found.get("close", found.get("bid_close", 0))
    prices = [row[position] for row in sample[:100]]
    return delimiter != "," and any("," in price for price in prices) and not any("." in price for price in prices)
