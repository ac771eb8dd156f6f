"""CSV import: bad rows are refused with line and reason, the rest is ingested as it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxcast.data.importing.files import SourceFile
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.importing.result import ImportResult, Reason
from fxcast.data.packaged import packaged_sample, read_packaged_sample
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting, BadSetup
from jobs.forecast import main as forecast_from

ReadRows = Callable[..., ImportResult]

HEADER = "Time,Open,High,Low,Close,Volume"
SOUND = "1.10,1.12,1.09,1.11,500"


def read_file(path: Path, *, timeframe: str = "1h", **options: Any) -> ImportResult:
    return read_candles(SourceFile(path=path), ImportOptions(symbol="EURUSD", timeframe=Timeframe(timeframe), **options))


@pytest.fixture
def read(tmp_path: Path) -> ReadRows:
    def read_rows(*rows: str, header: str = HEADER, timeframe: str = "1h", **options: Any) -> ImportResult:
        path = tmp_path / "candles.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return read_file(path, timeframe=timeframe, **options)

    return read_rows


def hour(hour_of_day: int, rest: str = SOUND) -> str:
    return f"2017-03-06 {hour_of_day:02}:00:00,{rest}"


def times(result: ImportResult) -> list[str]:
    return [str(moment) for moment in result.series.open_times]


def refusals(result: ImportResult) -> list[tuple[int, Reason]]:
    return [(row.line, row.reason) for row in result.refused]


def test_sound_rows_arrive_unchanged(read: ReadRows) -> None:
    result = read("2017-03-06 08:00:00,1.05236,1.05253,1.05221,1.05227,143539993.3", hour(9))
    assert times(result) == ["2017-03-06T08:00:00", "2017-03-06T09:00:00"]
    assert result.series.values[0].tolist() == [1.05236, 1.05253, 1.05221, 1.05227, 143539993.3]
    assert (result.rows_read, result.refused) == (2, ())


@pytest.mark.parametrize(
    ("bad_row", "reason", "detail"),
    [
        ("2017-03-06 09:00:00,oops,1.12,1.09,1.11,500", Reason.UNREADABLE_NUMBER, "open 'oops'"),
        ("2017-03-06 09:00:00,1.10,1.12,1.09,,500", Reason.UNREADABLE_NUMBER, "close ''"),
        ("2017-03-06 09:00:00,1.10,1.12,1.09,1.11,1_000", Reason.UNREADABLE_NUMBER, "volume '1_000'"),
        ("2017-03-06 09:00:00,1.10,NaN,1.09,1.11,500", Reason.NOT_FINITE, "high nan"),
        ("2017-03-06 09:00:00,1.10,inf,1.09,1.11,500", Reason.NOT_FINITE, "high inf"),
        ("2017-03-06 09:00:00,1.10,1.12,0,1.11,500", Reason.PRICE_NOT_POSITIVE, "low 0"),
        ("2017-03-06 09:00:00,-1.10,1.12,1.09,1.11,500", Reason.PRICE_NOT_POSITIVE, "open -1.1"),
        ("2017-03-06 09:00:00,1.10,1e300,1.09,1.11,500", Reason.IMPLAUSIBLE_PRICE, "high 1e+300"),
        ("2017-03-06 09:00:00,1.10,1.12,1e-300,1.11,500", Reason.IMPLAUSIBLE_PRICE, "low 1e-300"),
        ("2017-03-06 09:00:00,1.10,1.09,1.12,1.11,500", Reason.HIGH_BELOW_LOW, "high 1.09 below low 1.12"),
        ("2017-03-06 09:00:00,1.13,1.12,1.09,1.11,500", Reason.OUTSIDE_RANGE, "high 1.12 below open 1.13 or close 1.11"),
        ("2017-03-06 09:00:00,1.10,1.12,1.09,1.08,500", Reason.OUTSIDE_RANGE, "low 1.09 above open 1.1 or close 1.08"),
        ("2017-03-06 09:00:00,1.10,1.12,1.09,1.11,-1", Reason.NEGATIVE_VOLUME, "volume -1"),
        ("2017-03-06 09:00:00,1.10,1.12,1.09,1.11", Reason.FIELD_COUNT, "5 fields, not 6"),
        ("2017-03-06 09:00:00,1.10,1.12,1.09,1.11,500,7", Reason.FIELD_COUNT, "7 fields, not 6"),
        ("2017-13-06 09:00:00," + SOUND, Reason.UNREADABLE_TIME, "'2017-13-06 09:00:00'"),
        ("2017-02-30 09:00:00," + SOUND, Reason.UNREADABLE_TIME, "'2017-02-30 09:00:00'"),
        ("2017-03-06," + SOUND, Reason.UNREADABLE_TIME, "'2017-03-06'"),
        ("2017-03-06 09:30:00," + SOUND, Reason.OFF_GRID, "'2017-03-06 09:30:00'"),
        ("2017-03-06 09:00:00.001," + SOUND, Reason.OFF_GRID, "'2017-03-06 09:00:00.001'"),
    ],
)
def test_a_bad_row_is_refused_with_line_and_reason_and_the_rest_is_ingested(
    read: ReadRows,
    bad_row: str,
    reason: Reason,
    detail: str,
) -> None:
    result = read(hour(8), bad_row, hour(10))
    [row] = result.refused
    assert (row.line, row.reason, row.detail, row.text) == (3, reason, detail, bad_row)
    assert times(result) == ["2017-03-06T08:00:00", "2017-03-06T10:00:00"]
    assert result.rows_read == 3


def test_of_identical_candles_the_first_stays(read: ReadRows) -> None:
    result = read(hour(8), hour(9), hour(9), hour(10))
    assert refusals(result) == [(4, Reason.IDENTICAL_DUPLICATE)]
    assert "line 3" in result.refused[0].detail


def test_of_conflicting_candles_the_first_stays_as_it_is(read: ReadRows) -> None:
    result = read(hour(8), hour(9, "1.10,1.12,1.09,1.105,1"), hour(9), hour(10))
    assert refusals(result) == [(4, Reason.CONFLICTING_DUPLICATE)]
    assert result.series.closes[1] == 1.105


def test_a_refused_row_does_not_take_the_place_of_a_sound_one(read: ReadRows) -> None:
    result = read(hour(8), hour(9, "1.10,1.12,1.09,1.11,-5"), hour(9))
    assert refusals(result) == [(3, Reason.NEGATIVE_VOLUME)]
    assert times(result) == ["2017-03-06T08:00:00", "2017-03-06T09:00:00"]


def test_a_row_that_goes_back_in_time_is_refused(read: ReadRows) -> None:
    result = read(hour(8), hour(10), hour(9), hour(11))
    assert refusals(result) == [(4, Reason.OUT_OF_ORDER)]
    assert "line 3" in result.refused[0].detail
    assert times(result) == ["2017-03-06T08:00:00", "2017-03-06T10:00:00", "2017-03-06T11:00:00"]


def test_one_date_far_ahead_costs_one_row(read: ReadRows) -> None:
    result = read(hour(8), f"2071-03-06 09:00:00,{SOUND}", hour(10), hour(11))
    assert refusals(result) == [(3, Reason.OUT_OF_ORDER)]
    assert len(result.series) == 3


def test_blank_lines_are_no_rows_but_count_as_lines(read: ReadRows) -> None:
    result = read(hour(8), "", "nonsense", "   ", hour(9))
    assert refusals(result) == [(4, Reason.FIELD_COUNT)]
    assert result.rows_read == 3


def test_line_numbers_hold_across_chunks(read: ReadRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fxcast.data.importing.read._CHUNK_LINES", 2)
    result = read(hour(8), hour(9), hour(9), "bad", hour(10), hour(9), "bad")
    assert refusals(result) == [
        (4, Reason.IDENTICAL_DUPLICATE),
        (5, Reason.FIELD_COUNT),
        (7, Reason.IDENTICAL_DUPLICATE),
        (8, Reason.FIELD_COUNT),
    ]


def test_day_first_decides_between_third_of_april_and_fourth_of_march(read: ReadRows) -> None:
    row = f"03.04.2017 22:00:00.000,{SOUND}"
    assert times(read(row, day_first=True)) == ["2017-04-03T22:00:00"]
    assert times(read(row, day_first=False)) == ["2017-03-04T22:00:00"]
    assert times(read(f"2017-04-03 22:00,{SOUND}", day_first=True)) == ["2017-04-03T22:00:00"]


def test_the_rows_tell_whether_the_day_comes_first(read: ReadRows) -> None:
    days_first = [f"{day:02}/04/2017 12:00,{SOUND}" for day in range(3, 8)]
    months_first = [f"04/{day:02}/2017 12:00,{SOUND}" for day in range(3, 8)]
    assert times(read(*days_first)) == times(read(*months_first)) == [f"2017-04-{day:02}T12:00:00" for day in range(3, 8)]
    assert times(read(f"03.04.2017 22:00,{SOUND}")) == ["2017-04-03T22:00:00"]  # nobody writes month.day.year with dots


def test_a_date_that_may_be_either_is_refused_rather_than_guessed(read: ReadRows) -> None:
    with pytest.raises(BadSetting, match="day_first: missing; 03/04/2017 may be day or month first"):
        read(f"03/04/2017 22:00,{SOUND}")


@pytest.mark.parametrize("written", ["2017-03-06T10:00:00Z", "2017-03-06T12:00+02:00", "2017-03-06 04:30:00.000-0530"])
def test_an_offset_in_the_time_outweighs_the_zone(read: ReadRows, written: str) -> None:
    assert times(read(f"{written},{SOUND}", zone="Asia/Tokyo")) == ["2017-03-06T10:00:00"]


def test_local_times_become_utc_and_those_that_are_missing_or_double_are_refused(read: ReadRows) -> None:
    result = read(
        f"2017-03-26 01:00,{SOUND}",
        f"2017-03-26 02:00,{SOUND}",
        f"2017-03-26 03:00,{SOUND}",
        f"2017-10-29 02:00,{SOUND}",
        f"2017-10-29 03:00,{SOUND}",
        zone="Europe/Berlin",
    )
    assert times(result) == ["2017-03-26T00:00:00", "2017-03-26T01:00:00", "2017-10-29T02:00:00"]
    assert refusals(result) == [(3, Reason.NO_SUCH_LOCAL_TIME), (5, Reason.AMBIGUOUS_LOCAL_TIME)]


def test_columns_are_found_in_any_case_and_order_or_by_mapping(read: ReadRows) -> None:
    row = '"500","1.11",1.09,1.12,1.10,x,2017-03-06 08:00'
    result = read(row, header="VOLUME,close,LOW,High,Bid open,Note,gmt TIME", columns={"open": "Bid Open", "time": "GMT time"})
    assert result.series.values[0].tolist() == [1.10, 1.12, 1.09, 1.11, 500]


@pytest.mark.parametrize(
    ("header", "row", "named"),
    [
        ("Time,Open,High,Low,Volume", "2017-03-06 08:00,1.1,1.2,1.0,5", "'close'"),
        ("Stamp,Open,High,Low,Close,Volume", hour(8), "'time' or 'date'"),
        ("Time,Date,Open,High,Low,Close,Volume", "2017-03-06 08:00,2017-03-06 08:00," + SOUND, "Time, Date for time"),
    ],
)
def test_a_missing_or_double_column_is_named(read: ReadRows, header: str, row: str, named: str) -> None:
    with pytest.raises(BadCandles, match=named):
        read(row, header=header)


def test_a_file_without_volume_has_none(read: ReadRows) -> None:
    result = read("2017-03-06 08:00,1.10,1.12,1.09,1.11", header="Time,Open,High,Low,Close")
    assert result.series.values[0].tolist() == [1.10, 1.12, 1.09, 1.11, 0.0]
    assert np.isnan(result.data.details).all()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"PAR1\x00\x00\x15", "not text"),
        (b"\xe9\xe8,a\n1,2\n", "not text"),
    ],
)
def test_what_is_no_csv_text_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "candles.csv"
    path.write_bytes(content)
    with pytest.raises(BadCandles, match=named):
        read_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCandles, match=r"nowhere\.csv: found No such file"):
        read_file(tmp_path / "nowhere.csv")


def test_a_byte_that_is_no_utf8_costs_its_own_row_only(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    path.write_bytes(f"{HEADER}\r\n{hour(8)}\r\n{hour(9)}".encode() + b"\xb5\r\n" + f"{hour(10)}\r\n".encode())
    result = read_file(path)
    assert refusals(result) == [(3, Reason.UNREADABLE_NUMBER)]
    assert len(result.series) == 2


def test_utf16_is_read_as_metatrader_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    path.write_text(f"{HEADER}\n{hour(8)}\n", encoding="utf-16")
    assert len(read_file(path).series) == 1


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    path.write_text(f"{HEADER}\n{hour(8)}\n", encoding="utf-8-sig")
    assert len(read_file(path).series) == 1


def test_no_valid_row_gives_an_empty_series(read: ReadRows) -> None:
    assert len(read("bad", "worse").series) == 0
    assert read().rows_read == 0


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", ""])
def test_an_unknown_zone_is_refused(read: ReadRows, zone: str) -> None:
    with pytest.raises(BadSetting, match="IANA"):
        read(hour(8), zone=zone)


def test_an_unknown_key_in_the_column_mapping_is_refused(read: ReadRows) -> None:
    with pytest.raises(BadSetting, match="'opne'"):
        read(hour(8), columns={"opne": "Open"})


def test_the_packaged_sample_holds_the_year_2017_without_a_refused_row() -> None:
    pytest.importorskip("gym_anytrading", reason="the sample extra is not installed")
    result = read_packaged_sample()
    assert (result.rows_read, len(result.series), result.refused) == (6225, 6225, ())
    assert result.series.open_times[[0, -1]].tolist() == np.array(["2017-01-01T22", "2017-12-29T21"], "M8[s]").tolist()


def _find_nothing(_name: str) -> None: ...


def test_a_missing_sample_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", _find_nothing)
    with pytest.raises(BadSetup, match=r"pip install 'fxcast\[sample\]'"):
        packaged_sample()


def test_a_forecast_is_not_made_of_candles_from_the_future(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "EURUSD.csv"
    path.write_text("\n".join([HEADER, hour(8), f"2099-03-06 09:00,{SOUND}"]), encoding="utf-8")
    assert forecast_from(["--csv", str(path), "--timeframe", "1h", "--at", "2099-03-07T00:00:00Z"]) == 2
    assert "refused line 3: time in the future" in capsys.readouterr().err
