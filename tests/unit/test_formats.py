"""Each format is found by itself, from its own rows and names: clock, columns, side, details and unit."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fxcast.data.importing.files import find_sources
from fxcast.data.importing.layout import FileFormat
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.importing.result import ImportResult, Reason
from fxcast.domain.market import ASK, BID, PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting

START = datetime(2024, 1, 3, 10)  # noqa: DTZ001  # as written in a file, in whatever clock
ROWS = 30

Read = Callable[..., ImportResult]


def stamps(pattern: str, *, minutes: int = 1, rows: int = ROWS, start: datetime = START) -> list[str]:
    return [f"{start + timedelta(minutes=minutes * row):{pattern}}" for row in range(rows)]


def lines(pattern: str, delimiter: str, rest: str, **when: Any) -> list[str]:
    """Write rows of one candle again and again; `rest` has blanks where the delimiter goes, `pattern` as it is."""
    return [f"{stamp}{delimiter}{rest.replace(' ', delimiter)}" for stamp in stamps(pattern, **when)]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(name: str, rows: Sequence[str], *, encoding: str = "utf-8", **options: Any) -> ImportResult:
        path = tmp_path / name
        path.write_text("\n".join(rows) + "\n", encoding=encoding)
        return read_one(path, **options)

    return read_text


def read_one(path: Path, **options: Any) -> ImportResult:
    [source] = find_sources(path)
    return read_candles(source, ImportOptions(**options))


def first(result: ImportResult) -> tuple[str, list[float]]:
    return str(result.series.open_times[0]), result.series.values[0].tolist()


def detail(result: ImportResult, name: str) -> float:
    return float(result.data.detail(name)[0])


MT5_HEADER = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_metatrader_5_export_has_ticks_volume_and_spread_in_points(read: Read, encoding: str) -> None:
    rows = lines("%Y.%m.%d\t%H:%M:%S", "\t", "1.1 1.2 1.0 1.15 77 3000 12")
    rows[1] = rows[1].removesuffix("12") + "0"
    result = read("EURUSD_M1.csv", [MT5_HEADER, *rows], encoding=encoding, zone="new-york-close")
    assert first(result) == ("2024-01-03T08:00:00", [1.1, 1.2, 1.0, 1.15, 77])
    assert (result.data.side, len(result.series), result.refused) == (PriceSide.BID, ROWS, ())
    assert [detail(result, name) for name in ("tick_volume", "real_volume")] == [77, 3000]
    assert detail(result, "spread") == pytest.approx(0.00012)
    assert np.isnan(result.data.detail("spread")[1])  # 0: not recorded
    assert result.format.startswith("metatrader, tabs: time, clock, open")


@pytest.mark.parametrize("pattern", ["%Y.%m.%d", "%Y%m%d", "%d.%m.%Y"])
def test_daily_candles_of_metatrader_5_have_dates_alone(read: Read, pattern: str) -> None:
    header, rows = MT5_HEADER.replace("<TIME>\t", ""), lines(pattern, "\t", "1.1 1.2 1.0 1.15 77 3000 12", minutes=1440)
    result = read("EURUSD_Daily.csv", [header, *rows], zone="new-york-close")
    assert (first(result)[0], result.series.timeframe.name, result.refused) == ("2024-01-02T22:00:00", "1d", ())
    assert result.format.startswith("metatrader, tabs: time, open")


def test_dates_alone_need_a_zone_and_are_days(read: Read) -> None:
    rows = ["Date,Open,High,Low,Close", *lines("%Y-%m-%d", ",", "1.1 1.2 1.0 1.15", minutes=1440, rows=10)]
    with pytest.raises(
        BadSetting, match=r"zone: missing; .* has dates without a time, .*new-york-close where days end at 17:00 New York"
    ):
        read("EURUSD.csv", rows)
    with pytest.raises(BadSetting, match=r"timeframe: found 1h; .* has dates without a time; allowed: 1d"):
        read("EURUSD.csv", rows, timeframe=Timeframe("1h"), zone="new-york-close")
    assert read("EURUSD.csv", rows, zone="UTC").refused[0].reason is Reason.OFF_GRID


def test_metatrader_counts_a_thousand_points_against_the_yen(read: Read) -> None:
    rows = lines("%Y.%m.%d\t%H:%M:%S", "\t", "110.1 110.2 110.0 110.15 77 0 12")
    assert detail(read("USDJPY_M1.csv", [MT5_HEADER, *rows], zone="UTC"), "spread") == pytest.approx(0.012)


def test_metatrader_4_has_no_header_and_splits_date_and_time(read: Read) -> None:
    result = read("EURUSD1.csv", lines("%Y.%m.%d,%H:%M", ",", "1.1 1.2 1.0 1.15 77"), zone="+02:00")
    assert first(result) == ("2024-01-03T08:00:00", [1.1, 1.2, 1.0, 1.15, 77])
    assert (result.data.side, detail(result, "tick_volume")) == (PriceSide.BID, 77)
    assert result.format.startswith("metatrader, commas")


def test_a_header_of_seven_names_over_eight_columns_is_not_believed(read: Read) -> None:
    rows = lines("%Y.%m.%d,%H:%M", ",", "1.1 1.2 1.0 1.15 77 0")
    result = read("EURUSD.csv", ["Date,Open,High,Low,Close,Adj Close,Volume", *rows], zone="UTC")
    assert first(result) == ("2024-01-03T10:00:00", [1.1, 1.2, 1.0, 1.15, 77])
    assert [detail(result, name) for name in ("tick_volume", "real_volume")] == [77, 0]
    assert "the header names 7 columns, the rows have 8: read by what the columns hold" in result.notes


def test_a_header_that_names_too_little_and_in_another_order_is_refused(read: Read) -> None:
    rows = lines("%Y-%m-%d %H:%M", ",", "1.1 1.2 1.0 1.15 77 0")
    with pytest.raises(BadCandles, match=r"header: found time, close, high.*a name for each column"):
        read("EURUSD.csv", ["time,close,high,low,open,volume", *rows])


@pytest.mark.parametrize(
    ("volume", "real"),
    [("77", None), ("500", 500.0), (None, None)],
    ids=["Volume repeats it", "Volume is another", "no Volume"],
)
def test_whole_numbers_headed_adj_close_are_the_tick_volume(read: Read, volume: str | None, real: float | None) -> None:
    header, rest = "Date,Open,High,Low,Close,Adj Close", "1.1 1.2 1.0 1.15 77"
    if volume is not None:
        header, rest = f"{header},Volume", f"{rest} {volume}"
    result = read("EURUSD.csv", [header, *lines("%Y-%m-%d %H:%M", ",", rest)], zone="UTC")
    assert (first(result)[1][4], detail(result, "tick_volume")) == (77, 77)
    assert detail(result, "real_volume") == pytest.approx(np.nan if real is None else real, nan_ok=True)
    assert any("Adj Close" in note for note in result.notes)


def test_an_adjusted_close_that_is_a_price_is_left_alone(read: Read) -> None:
    header, rows = "Date,Open,High,Low,Close,Adj Close,Volume", lines("%Y-%m-%d %H:%M", ",", "1.1 1.2 1.0 1.15 1.15 500")
    result = read("EURUSD.csv", [header, *rows], zone="UTC")
    assert (first(result)[1][4], detail(result, "tick_volume")) == (500, pytest.approx(np.nan, nan_ok=True))
    assert (result.format.split(",")[0], result.data.side) == ("plain", PriceSide.UNSTATED)


HISTDATA = lines("%Y%m%d %H%M%S", ";", "1.1 1.2 1.0 1.15 0", start=datetime(2024, 7, 3, 10))  # noqa: DTZ001  # as written


def test_histdata_keeps_new_york_winter_time_all_year(read: Read) -> None:
    result = read("EURUSD_2024.csv", HISTDATA)
    assert first(result) == ("2024-07-03T15:00:00", [1.1, 1.2, 1.0, 1.15, 0])
    assert (result.zone, result.data.side) == ("-05:00", PriceSide.BID)


def test_of_a_histdata_archive_the_status_report_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "HISTDATA_COM_ASCII_EURUSD_M1202407.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("DAT_ASCII_EURUSD_M1_202407.txt", "Gap of 97s found between 20240701 and 20240702.")
        archive.writestr("DAT_ASCII_EURUSD_M1_202407.csv", "\n".join(HISTDATA))
    result = read_one(path)
    assert (result.series.symbol, result.series.timeframe.name, len(result.series)) == ("EURUSD", "1m", ROWS)
    assert result.source.endswith("M1202407.zip#DAT_ASCII_EURUSD_M1_202407.csv")


def test_histdata_in_metatraders_layout_is_known_by_its_name(read: Read) -> None:
    rows = lines("%Y.%m.%d,%H:%M", ",", "1.1 1.2 1.0 1.15 0")
    result = read("DAT_MT_EURUSD_M1_2024.csv", rows)
    assert (first(result)[0], result.zone) == ("2024-01-03T15:00:00", "-05:00")


def test_dukascopy_writes_the_day_first_and_fills_the_weekend(read: Read) -> None:
    header = "Gmt time,Open,High,Low,Close,Volume"
    friday = datetime(2024, 3, 8, 21, 30)  # noqa: DTZ001  # half an hour before the close
    rows = lines("%d.%m.%Y %H:%M:%S.000", ",", "1.1 1.2 1.0 1.15 98.5", start=friday)
    rows += lines("%d.%m.%Y %H:%M:%S.000", ",", "1.15 1.15 1.15 1.15 0", start=friday + timedelta(minutes=ROWS), rows=5)
    result = read("EURUSD_Candlestick_1_M_BID_08.03.2024-09.03.2024.csv", [header, *rows])
    assert first(result) == ("2024-03-08T21:30:00", [1.1, 1.2, 1.0, 1.15, 98.5])
    assert (result.zone, result.format.split(",")[0], len(result.series)) == ("UTC", "dukascopy", ROWS)
    assert {row.reason for row in result.refused} == {Reason.FILLER}
    assert [row.line for row in result.refused] == [32, 33, 34, 35, 36]


def test_dukascopys_local_time_carries_its_offset(read: Read) -> None:
    rows = lines("%d.%m.%Y %H:%M:%S.000 GMT+0200", ",", "1.1 1.2 1.0 1.15 98.5")
    result = read("EURUSD.csv", ["Local time,Open,High,Low,Close,Volume", *rows])
    assert first(result)[0] == "2024-01-03T08:00:00"


LEAN_REST = "1.1 1.2 1.0 1.15 0 1.1002 1.2002 1.0002 1.1504 0"


def test_lean_quotes_count_milliseconds_of_the_day_in_the_name(tmp_path: Path) -> None:
    path = tmp_path / "20140501_quote.zip"
    rows = [f"{(600 + row) * 60_000},{LEAN_REST.replace(' ', ',')}" for row in range(ROWS)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("20140501_eurusd_minute_quote.csv", "\n".join(rows))
    result = read_one(path)
    assert (result.series.symbol, result.series.timeframe.name, result.zone) == ("EURUSD", "1m", "UTC")
    assert str(result.series.open_times[0]) == "2014-05-01T10:00:00"
    assert result.data.side is PriceSide.MID
    assert result.series.values[0].tolist() == pytest.approx([1.1001, 1.2001, 1.0001, 1.1502, 0])
    assert [detail(result, name) for name in BID] == [1.1, 1.2, 1.0, 1.15]
    assert [detail(result, name) for name in ASK] == [1.1002, 1.2002, 1.0002, 1.1504]
    assert detail(result, "spread") == pytest.approx(0.0004)


def test_hourly_lean_quotes_write_the_date(read: Read) -> None:
    result = read("eurusd.csv", lines("%Y%m%d %H:%M", ",", LEAN_REST, minutes=60))
    assert (result.format.split(",")[0], result.series.timeframe.name) == ("lean", "1h")
    assert first(result)[0] == "2024-01-03T10:00:00"


def test_times_since_midnight_need_a_day_in_the_name(read: Read) -> None:
    with pytest.raises(BadCandles, match=r"times since midnight and no date in the name.*20140501_quote\.zip"):
        read("eurusd_quote.csv", [f"{row * 60_000},{LEAN_REST.replace(' ', ',')}" for row in range(ROWS)])


def test_a_format_that_the_rows_are_not_in_is_refused(read: Read) -> None:
    with pytest.raises(BadCandles, match="11 columns"):
        read("EURUSD.csv", lines("%Y-%m-%d %H:%M", ",", "1.1 1.2 1.0 1.15 5"), format=FileFormat.LEAN)


def test_plain_columns_are_named_by_a_mapping(read: Read) -> None:
    rows = lines("%Y-%m-%d %H:%M", ",", "1.15 1.1 1.2 1.0")
    columns = {"time": "Datum", "open": "Eröffnung", "high": "Hoch", "low": "Tief", "close": "Schluss"}
    result = read("EURUSD.csv", ["Datum,Schluss,Eröffnung,Hoch,Tief", *rows], columns=columns)
    assert first(result) == ("2024-01-03T10:00:00", [1.1, 1.2, 1.0, 1.15, 0])


@pytest.mark.parametrize(
    ("zone", "utc"), [(None, "2024-01-03T10:00:00"), ("UTC", "2024-01-03T10:00:00"), ("Asia/Tokyo", "2024-01-03T01:00:00")]
)
def test_parquet_keeps_aware_times_and_takes_naive_ones_for_utc(tmp_path: Path, zone: str | None, utc: str) -> None:
    moments = np.datetime64(utc, "us") + np.arange(ROWS) * np.timedelta64(1, "m")
    columns = {
        name: np.full(ROWS, price) for name, price in zip(("open", "high", "low", "close"), (1.1, 1.2, 1.0, 1.15), strict=True)
    }
    path = tmp_path / "EURUSD.parquet"
    pq.write_table(pa.table({"time": pa.array(moments, type=pa.timestamp("us", tz=zone)), **columns}), path)
    result = read_one(path)
    assert first(result) == (utc, [1.1, 1.2, 1.0, 1.15, 0])
    assert any("read as UTC" in note for note in result.notes) is (zone is None)


def test_gzip_is_opened_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "EURUSD.data"
    path.write_bytes(gzip.compress("\n".join(lines("%Y-%m-%d %H:%M", ",", "1.1 1.2 1.0 1.15 5")).encode()))
    assert len(read_one(path).series) == ROWS


def test_a_folder_and_a_pattern_name_their_files_in_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden", "c.txt"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    assert [each.path.name for each in find_sources(tmp_path)] == ["a.csv", "b.csv", "c.txt"]
    assert [each.path.name for each in find_sources(f"{tmp_path}/*.csv")] == ["a.csv", "b.csv"]
    with pytest.raises(BadCandles, match="no file of candles"):
        find_sources(f"{tmp_path}/*.zip")


@pytest.mark.parametrize("unit", [1, 1000])
def test_seconds_and_milliseconds_since_1970_are_utc(read: Read, unit: int) -> None:
    rows = [f"{(1_704_276_000 + 60 * row) * unit},1.1,1.2,1.0,1.15,5" for row in range(ROWS)]
    result = read("EURUSD.csv", ["time,open,high,low,close,volume", *rows])
    assert (first(result)[0], result.zone) == ("2024-01-03T10:00:00", "UTC")


def test_seconds_of_a_server_that_counts_in_its_own_clock_follow_the_zone_given(read: Read) -> None:
    rows = [f"{1_704_276_000 + 60 * row},1.1,1.2,1.0,1.15,5" for row in range(ROWS)]
    result = read("EURUSD.csv", ["time,open,high,low,close,volume", *rows], zone="new-york-close")
    assert first(result)[0] == "2024-01-03T08:00:00"
    assert any("not for UTC but for new-york-close" in note for note in result.notes)


def test_decimal_commas_stand_between_semicolons(read: Read) -> None:
    rows = lines("%d.%m.%Y %H:%M", ";", "1,1 1,2 1 1,15 5")
    result = read("EURUSD.csv", ["time;open;high;low;close;volume", *rows])
    assert first(result) == ("2024-01-03T10:00:00", [1.1, 1.2, 1.0, 1.15, 5])


@pytest.mark.parametrize(
    ("symbol", "prices"), [("EURUSD", "110000 120000 100000 115000"), ("USDJPY", "110000 120000 100000 115000")]
)
def test_whole_points_are_recognised(read: Read, symbol: str, prices: str) -> None:
    result = read(f"{symbol}.csv", ["time,open,high,low,close", *lines("%Y-%m-%d %H:%M", ",", prices)])
    points = 1_000 if symbol == "USDJPY" else 100_000
    assert first(result)[1][:4] == [110000 / points, 120000 / points, 100000 / points, 115000 / points]
    assert f"prices are whole points: divided by {points:,}" in result.notes


@pytest.mark.parametrize(
    "prices", ["11000 12000 10000 11500", "11000000 12000000 10000000 11500000", "110.1 120 100 115", "11.0 12.0 10.0 11.5"]
)
def test_an_unknown_unit_is_refused_with_the_median_and_what_is_expected(read: Read, prices: str) -> None:
    rows = ["time,open,high,low,close", *lines("%Y-%m-%d %H:%M", ",", prices)]
    with pytest.raises(
        BadCandles, match=r"prices: found a median of 1\S+; allowed: prices of EURUSD, about 1\.11; or say price_scale"
    ):
        read("EURUSD.csv", rows)


def test_pips_are_taken_with_the_scale_given(read: Read) -> None:
    rows = ["time,open,high,low,close", *lines("%Y-%m-%d %H:%M", ",", "11000 12000 10000 11500")]
    result = read("EURUSD.csv", rows, price_scale=10_000)
    assert first(result)[1][:4] == [1.1, 1.2, 1.0, 1.15]
    assert not any(note.startswith("warning") for note in result.notes)
    tenfold = lines("%Y-%m-%d %H:%M", ",", "11.0 12.0 10.0 11.5 5")
    assert first(read("EURUSD.csv", tenfold, price_scale=1))[1][:4] == [11.0, 12.0, 10.0, 11.5]
    told = read("EURUSD.csv", rows, price_scale=10_000_000)
    assert "warning: divided by 10,000,000 as given, prices have a median of 0.001125" in told.notes


PLAIN = lines("%Y-%m-%d %H:%M", ",", "1.1 1.2 1.0 1.15 5")


def test_a_symbol_is_found_in_the_name_and_a_contradiction_is_told(read: Read) -> None:
    assert read("eur_usd-2024.csv", PLAIN).series.symbol == "EURUSD"
    told = read("EURUSD.csv", PLAIN, symbol="EURGBP")
    assert told.series.symbol == "EURGBP"
    assert "warning: the file's name says EURUSD, and its candles are taken for EURGBP" in told.notes
    with pytest.raises(BadSetting, match=r"symbol: missing; the name of .*candles\.csv says none"):
        read("candles.csv", PLAIN)
    with pytest.raises(BadSetting, match="says EURUSD and EURGBP"):
        read("EURUSD_EURGBP.csv", PLAIN)


@pytest.mark.parametrize(("minutes", "name"), [(1, "1m"), (5, "5m"), (15, "15m"), (60, "1h")])
def test_a_timeframe_is_found_in_the_rows(read: Read, minutes: int, name: str) -> None:
    rows = lines("%Y-%m-%d %H:%M", ",", "1.1 1.2 1.0 1.15 5", minutes=minutes)
    assert read("EURUSD.csv", rows).series.timeframe.name == name


@pytest.mark.parametrize(("minutes", "given"), [(60, "1m"), (1, "1h")])
def test_a_timeframe_that_contradicts_the_rows_is_refused(read: Read, minutes: int, given: str) -> None:
    rows = lines("%Y-%m-%d %H:%M", ",", "1.1 1.2 1.0 1.15 5", minutes=minutes)
    with pytest.raises(BadSetting, match=f"timeframe: found {given}; the rows of .* are {minutes} minutes apart"):
        read("EURUSD.csv", rows, timeframe=Timeframe(given))


def test_a_metatrader_file_without_a_zone_is_refused_with_the_clocks_that_its_weeks_fit(read: Read) -> None:
    hours = [START + timedelta(hours=row) for row in range(24 * 90)]
    week = [hour for hour in hours if hour.weekday() < 5]  # midnight to midnight: New York + 7 h
    rows = [f"{hour:%Y.%m.%d,%H:%M},1.1,1.2,1.0,1.15,5" for hour in week]
    with pytest.raises(BadSetting, match=r"zone: missing.*its weeks fit new-york-close.*--detect-timezone"):
        read("EURUSD60.csv", rows)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("EURUSD_bid_jan.csv", PriceSide.BID),
        ("EURUSD-ASK.csv", PriceSide.ASK),
        ("EURUSD mid 2024.csv", PriceSide.MID),
        ("EURUSD_midnight.csv", PriceSide.UNSTATED),
        ("EURUSD_forbid_task.csv", PriceSide.UNSTATED),
        ("EURUSD_bid_ask.csv", PriceSide.UNSTATED),
    ],
)
def test_a_side_that_only_the_name_says_is_taken_and_told(read: Read, name: str, side: PriceSide) -> None:
    result = read(name, PLAIN)
    assert result.data.side is side
    assert (f"{name} says {side}: its prices are read as {side} prices" in result.notes) is (side is not PriceSide.UNSTATED)
    assert read(name, PLAIN, side=PriceSide.BID).data.side is PriceSide.BID
    assert read(f"DAT_ASCII_{name}", PLAIN).data.side is PriceSide.BID  # the format says it


def test_a_side_is_found_in_the_name_of_an_archives_entry(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "EURUSD_bid.zip", "w") as archive:
        archive.writestr("EURUSD_ask.csv", "\n".join(PLAIN))
    assert read_one(tmp_path / "EURUSD_bid.zip").data.side is PriceSide.ASK
