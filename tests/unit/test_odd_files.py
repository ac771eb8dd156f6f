"""Files as they should not be: what is read is right, and what is not read is named with what was found."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fxcast.data.importing.files import find_sources, open_lines
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.importing.result import ImportResult, Reason, Repair
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

HEADER = "time,open,high,low,close,volume"
START = datetime(2024, 1, 3, 10)  # noqa: DTZ001  # as written in a file
ROWS = 30

Read = Callable[..., ImportResult]


def rows(
    stamp: str = "%Y-%m-%d %H:%M", rest: str = "1.1,1.2,1.0,1.15,5", *, count: int = ROWS, hours: int = 0, seconds: int = 0
) -> list[str]:
    first = START + timedelta(hours=hours, seconds=seconds)
    return [f"{first + timedelta(minutes=row):{stamp}},{rest}" for row in range(count)]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(lines: Sequence[str] | bytes, *, end: str = "\n", **options: Any) -> ImportResult:
        path = tmp_path / "EURUSD.csv"
        path.write_bytes(lines if isinstance(lines, bytes) else (end.join(lines) + end).encode())
        [source] = find_sources(path)
        return read_candles(source, ImportOptions(**options))

    return read_text


def reasons(result: ImportResult) -> set[Reason]:
    return {row.reason for row in result.refused}


# Rows that are not what they seem


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_any_system_ends_them(read: Read, end: str) -> None:
    assert len(read([HEADER, *rows()], end=end).series) == ROWS


@pytest.mark.parametrize("header", [HEADER, f"{HEADER},"])
def test_delimiters_at_the_end_make_no_column(read: Read, header: str) -> None:
    permuted = header.replace("open,high,low,close", "close,high,low,open")
    result = read([permuted, *(f"{row}," for row in rows())])
    assert result.series.values[0].tolist() == [1.15, 1.2, 1.0, 1.1, 5]
    assert np.isnan(result.data.details).all()


@pytest.mark.parametrize("above", [["EURUSD M1"], ["# exported", "# on a Monday", ""], ["sep=,"]])
def test_the_header_may_stand_below_a_title_or_comments(read: Read, above: list[str]) -> None:
    result = read([*above, "time,close,high,low,open,volume", *rows()])
    assert result.series.values[0].tolist() == [1.15, 1.2, 1.0, 1.1, 5]
    assert (result.refused, result.rows_read) == ((), ROWS)
    assert any(f"the header is line {len(above) + 1}" in note for note in result.notes)


def test_a_bad_first_row_is_no_header(read: Read) -> None:
    result = read([HEADER, "oops,1.1,x,y,z,5", *rows()])
    assert [(row.line, row.reason) for row in result.refused] == [(2, Reason.UNREADABLE_TIME)]


def test_an_empty_volume_column_is_an_unknown_volume(read: Read) -> None:
    result = read([HEADER, *rows(rest="1.1,1.2,1.0,1.15,")])
    assert result.series.values[:, 4].tolist() == [0] * ROWS
    assert reasons(read([HEADER, *rows(), *rows(rest="1.1,1.2,1.0,1.15,", hours=1)])) == {Reason.UNREADABLE_NUMBER}


def test_empty_details_are_unknown(read: Read) -> None:
    result = read([f"{HEADER},tick_volume,spread", *(f"{row},," for row in rows())])
    assert np.isnan(result.data.details).all()


@pytest.mark.parametrize(
    ("spread", "reason"), [("abc", Reason.UNREADABLE_NUMBER), ("inf", Reason.NOT_FINITE), ("-0.0001", Reason.CROSSED_QUOTE)]
)
def test_a_spread_that_can_be_none_is_refused(read: Read, spread: str, reason: Reason) -> None:
    result = read([f"{HEADER},spread", *(f"{row},0.0001" for row in rows()), *(f"{row},{spread}" for row in rows(hours=1))])
    assert (reasons(result), len(result.series)) == ({reason}, ROWS)


@pytest.mark.parametrize("quotes", ["bid_open,ask_open", "bid_open,bid_high,bid_low,bid_close"])
def test_half_a_quote_is_left_out_and_told(read: Read, quotes: str) -> None:
    values = ",1.1" * (quotes.count(",") + 1)
    result = read([f"{HEADER},{quotes}", *(row + values for row in rows())])
    assert (len(result.series), np.isnan(result.data.details).all()) == (ROWS, True)
    assert any("bid and ask are not given" in note for note in result.notes)


def test_a_row_without_any_price_has_unreadable_numbers(read: Read) -> None:
    result = read([HEADER, *rows(), "2024-01-03 12:00,,,,,"])
    assert [(row.reason, row.detail) for row in result.refused] == [(Reason.UNREADABLE_NUMBER, "open ''")]


def test_an_unbalanced_quote_costs_one_row(read: Read) -> None:
    lines = [HEADER, *rows()]
    lines[10] = f'"{lines[10]}'
    assert [row.line for row in read(lines).refused] == [11]


def test_many_duplicates_are_refused_one_by_one(read: Read) -> None:
    result = read([HEADER, *rows(count=1) * 2_000], timeframe=Timeframe("1m"))
    assert (len(result.series), len(result.refused), reasons(result)) == (1, 1_999, {Reason.IDENTICAL_DUPLICATE})


# Times


def test_among_times_with_an_offset_one_without_is_refused(read: Read) -> None:
    result = read([HEADER, *rows("%Y-%m-%d %H:%M:%SZ", count=200), *rows(hours=5)])
    assert (reasons(result), len(result.series)) == ({Reason.NO_OFFSET}, 200)
    told = read([HEADER, *rows("%Y-%m-%d %H:%M:%SZ", count=200), *rows(hours=7)], zone="+02:00")
    assert (told.refused, str(told.series.open_times[200])) == ((), "2024-01-03T15:00:00")


def test_offsets_may_change_within_a_file(read: Read) -> None:
    result = read([HEADER, *rows("%Y-%m-%d %H:%M:%S+02:00"), *rows("%Y-%m-%d %H:%M:%S-05:00")])
    assert [str(result.series.open_times[at]) for at in (0, ROWS)] == ["2024-01-03T08:00:00", "2024-01-03T15:00:00"]
    assert not any("read as UTC" in note for note in result.notes)


def test_an_offset_behind_a_time_of_its_own_column_needs_no_zone(read: Read) -> None:
    lines = [f"{row},7" for row in rows("%Y.%m.%d,%H:%M:%S-05:00")]
    result = read(["<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>,<VOL>", *lines])
    assert str(result.series.open_times[0]) == "2024-01-03T15:00:00"


@pytest.mark.parametrize("stray", ["0001-01-01 00:00", "1970-01-01 00:00", "9999-12-31 23:59"])
@pytest.mark.parametrize("zone", ["UTC", "+05:00", "America/New_York"])
def test_a_year_of_no_market_is_an_unreadable_time(read: Read, stray: str, zone: str) -> None:
    result = read([HEADER, f"{stray},1.1,1.2,1.0,1.15,5", *rows()], zone=zone)
    assert (reasons(result), len(result.series)) == ({Reason.UNREADABLE_TIME}, ROWS)


@pytest.mark.parametrize("number", ["0", "99999999999999999999", "9999999999"])
def test_a_number_of_seconds_of_no_market_is_an_unreadable_time(read: Read, number: str) -> None:
    lines = [f"{1_704_276_000 + 60 * row},1.1,1.2,1.0,1.15,5" for row in range(ROWS)]
    assert reasons(read([HEADER, f"{number},1.1,1.2,1.0,1.15,5", *lines])) == {Reason.UNREADABLE_TIME}


@pytest.mark.parametrize("digits", ["20240103100000", "202401031000", "1704276000000000", "1704276000000000000"])
def test_a_number_of_unknown_meaning_is_refused(read: Read, digits: str) -> None:
    with pytest.raises(BadCandles, match=rf"times: found {digits}, a number of {len(digits)} digits; allowed: a date and a time"):
        read([HEADER, *(f"{digits},1.1,1.2,1.0,1.15,5" for _ in range(ROWS))])


# Files of which no row can be used


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (rows(seconds=1, stamp="%Y-%m-%d %H:%M:%S"), "time off the timeframe's grid: '2024-01-03 10:00:01'"),
        (rows("%Y-%m-%d %H:%M+2"), "unreadable time: '2024-01-03 10:00+2'"),
        (rows("%Y-%m-%d 900"), "unreadable time: '2024-01-03 900'"),
        (rows("%m/%d/%Y %I:%M %p", hours=240), "unreadable time: '01/13/2024 10:00 AM'"),
        (rows(rest="nan,nan,nan,nan,5"), "number not finite: open nan"),
        (rows(rest="0,0,0,0,0"), "price not positive: open 0"),
        (rows(rest='"1,100.1","1,200.1","1,000.1","1,150.1",5'), "unreadable number: open '1,100.1'"),
        (rows(rest='1.1,1.2,1.0,1.15,"1,000"'), "unreadable number: volume '1,000'"),
    ],
)
def test_where_no_row_is_sound_the_first_one_is_named(read: Read, lines: list[str], found: str) -> None:
    with pytest.raises(BadCandles) as caught:
        read([HEADER, *lines])
    assert f"rows: found none that is sound; line 2: {found}; allowed: rows of candles" in str(caught.value)


@pytest.mark.parametrize("lines", [[HEADER], [HEADER, *rows(count=1)], [HEADER, *rows(count=1) * 500]])
def test_a_timeframe_is_not_guessed_from_one_time_or_none(read: Read, lines: list[str]) -> None:
    with pytest.raises(BadSetting, match=r"timeframe: missing; .*EURUSD\.csv has too few times to tell"):
        read(lines)
    assert len(read(lines, timeframe=Timeframe("1m")).series) == min(len(lines) - 1, 1)


def test_ragged_rows_are_refused_one_by_one(read: Read) -> None:
    lines = [line if at % 3 else f"{line},more" for at, line in enumerate(rows())]
    result = read([HEADER, *lines])
    assert (len(result.series), len(result.refused), reasons(result)) == (ROWS * 2 // 3, ROWS // 3, {Reason.FIELD_COUNT})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("\ufeff".encode(), "an empty file"),
        ("\n\n".encode("utf-16"), "an empty file"),
        ("\u00a0\n".encode(), "an empty file"),
        ("\n".join([HEADER, *rows()]).encode("utf-16-le"), "not text"),
        ("Datum;Eröffnung\n".encode("latin-1"), "not text"),
        (b"\x1f\x8bjunk and more junk", "allowed: a readable file"),
        (b"PK\x03\x04junk", "a damaged or encrypted file"),
        (b"PAR1junk", "a damaged or encrypted file"),
        (b"<html><body>404, not found</body></html>", "header: found <html>"),
        (b'{"candles": [1, 2, 3]}', "header: found {"),
        (b"x" * 100_000, "header: found xxx"),
        (b",,,,,,\n,,,,,,\n", "header: found "),
        ("Datum;Eröffnung;Hoch;Tief;Schluss\n".encode(), "or its name in `columns`: time=NAME"),
        ("\n".join(rows()).replace(",", " ").encode(), "columns after the time"),
    ],
)
def test_what_is_no_table_of_candles_is_named(read: Read, content: bytes, found: str) -> None:
    with pytest.raises(BadCandles) as caught:
        read(content)
    assert found in str(caught.value)
    assert len(str(caught.value)) < 1_000


# Archives and Parquet


def test_an_archive_without_a_table_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "EURUSD.zip", "w") as archive:
        archive.writestr("readme.md", "nothing here")
    with pytest.raises(BadCandles, match="no file of candles"):
        find_sources(tmp_path / "EURUSD.zip")


def test_a_cut_gzip_is_named_when_its_end_is_reached(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([HEADER, *rows(count=20_000)]).encode())
    path = tmp_path / "EURUSD.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    [source] = find_sources(path)
    with pytest.raises(BadCandles, match="a damaged or encrypted file"):
        read_candles(source, ImportOptions())


def test_an_error_of_what_reads_the_lines_does_not_pass_for_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n", encoding="utf-8")
    [source] = find_sources(tmp_path / "a.csv")
    with pytest.raises(RuntimeError, match="a bug"), open_lines(source):
        raise RuntimeError("a bug")


def test_a_parquet_column_that_text_can_not_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD.parquet"
    pq.write_table(pa.table({"time": [1, 2], "open": [[1.1], [1.2]]}), path)
    [source] = find_sources(path)
    with pytest.raises(BadCandles, match="damaged or encrypted"):
        read_candles(source, ImportOptions())


# Columns in any order, without a header

SHUFFLED = [f"{price},x,{stamp}" for stamp, price in (row.split(",", 1) for row in rows(rest="5,1.15,1.0,1.2,1.1"))]
PLACES = {"volume": "1", "close": "2", "low": "3", "high": "4", "open": "5", "time": "7"}


def test_columns_without_a_header_are_read_by_their_positions(read: Read) -> None:
    result = read(SHUFFLED, columns=PLACES)
    assert result.series.values[0].tolist() == [1.1, 1.2, 1.0, 1.15, 5]
    assert (len(result.series), str(result.series.open_times[0])) == (ROWS, "2024-01-03T10:00:00")
    assert result.format.startswith("plain")


def test_date_and_clock_may_be_placed_apart(read: Read) -> None:
    apart = rows("%H:%M;%Y-%m-%d", ";1.1;1.2;1.0;1.15".replace(";", ",")[1:])
    columns = {"clock": "1", "time": "2", "open": "3", "high": "4", "low": "5", "close": "6"}
    result = read([row.replace(";", ",") for row in apart], columns=columns)
    assert (str(result.series.open_times[0]), len(result.series)) == ("2024-01-03T10:00:00", ROWS)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        (PLACES | {"open": "Bid"}, "names of a header, or positions from 1, not both"),
        (PLACES | {"open": "4"}, "different positions from 1 to 7"),
        (PLACES | {"open": "8"}, "different positions from 1 to 7"),
        (PLACES | {"open": "0"}, "different positions from 1 to 7"),
        ({"time": "7", "open": "5"}, "missing: high, low, close; allowed: a position for each, as in time=1, open=2"),
    ],
)
def test_positions_that_can_not_be_meant_are_refused(read: Read, columns: dict[str, str], named: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read(SHUFFLED, columns=columns)
    assert named in str(caught.value)


def test_names_for_a_file_without_a_header_are_refused_with_the_positions_it_has(read: Read) -> None:
    with pytest.raises(BadCandles, match=r"a header, which `columns` refers to, or positions from 1 to 7 in `columns`: time=1"):
        read(SHUFFLED, columns={"time": "Datum"})


# Prices of two units


def priced(*factors: float) -> list[str]:
    """Write a candle a minute, its prices multiplied."""
    return [
        f"{START + timedelta(minutes=at):%Y-%m-%d %H:%M},{1.1 * factor:g},{1.2 * factor:g},{1.0 * factor:g},{1.15 * factor:g},5"
        for at, factor in enumerate(factors)
    ]


@pytest.mark.parametrize("slips", [[0], [299], [150], [150, 151], [0, 1], [298, 299], [5, 100, 200]])
@pytest.mark.parametrize("factor", [10, 0.1, 100])
def test_a_few_decimal_slips_cost_their_own_rows(read: Read, slips: list[int], factor: float) -> None:
    result = read([HEADER, *priced(*(factor if at in slips else 1 for at in range(300)))])
    assert [(row.line, row.reason) for row in result.refused] == [(at + 2, Reason.FAR_OFF) for at in slips]
    assert len(result.series) == 300 - len(slips)


def test_a_slip_within_the_first_candle_is_found(read: Read) -> None:
    lines = priced(*[1] * 300)
    lines[0] = lines[0].replace(",1.2,", ",12,")
    assert [row.line for row in read([HEADER, *lines]).refused] == [2]


@pytest.mark.parametrize(
    ("changes", "line", "found"),
    [
        ([(200, 1), (100, 100_000)], 202, "prices 100,000 times as high as before"),
        ([(200, 1), (100, 0.1)], 202, "prices 0.1 times as high as before"),
        ([(100, 0.1), (200, 1)], 102, "prices 10 times as high as before"),
        ([(1, 10), (150, 1), (4, 10), (300, 1)], 153, "prices 10 times as high as before"),
        ([(1, 1), (1, 10)], 3, "prices 10 times as high as before"),
        ([(5, 1), (1, 10)] * 30, 7, "prices 10 times as high as before"),
    ],
)
def test_a_unit_that_changes_within_a_file_is_refused_with_line_and_factor(
    read: Read, changes: list[tuple[int, float]], line: int, found: str
) -> None:
    factors = [factor for count, factor in changes for _ in range(count)]
    with pytest.raises(BadCandles) as caught:
        read([HEADER, *priced(*factors)], price_scale=1)
    assert f"EURUSD.csv: line {line}: found {found}" in str(caught.value)
    assert "one unit throughout" in str(caught.value)


def test_a_fall_that_is_no_power_of_ten_stays(read: Read) -> None:
    result = read([HEADER, *priced(*[1] * 100, *[0.25] * 100)])
    assert (result.refused, len(result.series)) == ((), 200)


# Candles from the future


@pytest.mark.parametrize("sort", [frozenset[Repair](), frozenset({Repair.ORDER})])
def test_candles_that_close_after_now_are_refused(read: Read, sort: frozenset[Repair]) -> None:
    now = datetime(2024, 1, 3, 10, 29, 30, tzinfo=UTC)
    result = read([HEADER, *rows(), "2099-01-05 10:00,1.1,1.2,1.0,1.15,5"], now=now, repairs=sort)
    assert [(row.line, row.reason) for row in result.refused] == [(ROWS + 1, Reason.FUTURE), (ROWS + 2, Reason.FUTURE)]
    assert result.refused[0].detail == "closes at 2024-01-03T10:30:00Z, and it is 2024-01-03T10:29:30Z"
    assert len(read([HEADER, *rows()], now=datetime(2024, 1, 3, 10, 30, tzinfo=UTC)).series) == ROWS


def test_a_zone_that_puts_the_last_candles_after_now_refuses_them(read: Read) -> None:
    now = datetime(2024, 1, 3, 10, 30, tzinfo=UTC)
    assert read([HEADER, *rows()], now=now, zone="Europe/Helsinki").refused == ()
    assert reasons(read([HEADER, *rows()], now=now, zone="America/New_York")) == {Reason.FUTURE}
