"""The candle store keeps what it was given, once, whatever the order."""

from __future__ import annotations

import errno
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting, StoreUnavailable

HOUR = Timeframe("1h")
FIRST = np.datetime64("2017-01-30T00:00:00", "s")  # so that hours up to 1,000 fall into three months

positions_of_hours = st.lists(st.integers(0, 1000), max_size=25, unique=True).map(sorted)


def candles(hours: list[int], scale: float = 1.0, symbol: str = "EURUSD") -> CandleSeries:
    """Candles whose prices follow from their time, so that equal times mean equal candles, at any scale but another."""
    closes = scale * (1.1 + np.sin(np.array(hours, dtype=np.float64)) / 50)
    return CandleSeries(
        symbol=symbol,
        timeframe=HOUR,
        open_times=FIRST + np.array(hours, dtype=np.int64) * np.timedelta64(3600, "s"),
        values=np.column_stack([closes, closes * 1.01, closes * 0.99, closes, closes * 1e6]),
    )


def same(one: CandleSeries, other: CandleSeries) -> bool:
    return np.array_equal(one.open_times, other.open_times) and np.array_equal(one.values, other.values)


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}


@settings(max_examples=25, deadline=None)
@given(hours=positions_of_hours.filter(bool))
def test_reading_gives_back_exactly_what_was_appended(hours: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        result = CandleStore(root).append(candles(hours))
        assert (result.added, result.already_there, result.conflicting) == (len(hours), 0, ())
        read = CandleStore(root).read("EURUSD", HOUR)
        assert same(read, candles(hours))
        assert read.open_times.dtype == np.dtype("datetime64[s]")


@settings(max_examples=25, deadline=None)
@given(hours=positions_of_hours.filter(bool))
def test_appending_again_changes_no_file(hours: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = CandleStore(root)
        store.append(candles(hours))
        before = files(Path(root))
        again = store.append(candles(hours))
        assert (again.added, again.already_there, again.conflicting) == (0, len(hours), ())
        assert files(Path(root)) == before


@settings(max_examples=25, deadline=None)
@given(first=positions_of_hours.filter(bool), second=positions_of_hours.filter(bool))
def test_the_order_of_appends_is_irrelevant(first: list[int], second: list[int]) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        for root, parts in ((one, (first, second)), (other, (second, first))):
            for part in parts:
                CandleStore(root).append(candles(part))
        union = candles(sorted({*first, *second}))
        assert same(CandleStore(one).read("EURUSD", HOUR), union)
        assert same(CandleStore(other).read("EURUSD", HOUR), union)


@settings(max_examples=25, deadline=None)
@given(stored=positions_of_hours.filter(bool), given_now=positions_of_hours.filter(bool))
def test_a_conflicting_candle_is_reported_and_the_stored_one_stays(stored: list[int], given_now: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = CandleStore(root)
        store.append(candles(stored))
        other = candles(given_now, scale=1.5)
        result = store.append(other)
        clashing = sorted({*stored} & {*given_now})
        assert result.conflicting == tuple(to_datetime(moment) for moment in candles(clashing).open_times)
        assert (result.added, result.already_there) == (len(given_now) - len(clashing), 0)
        read = store.read("EURUSD", HOUR)
        kept = np.isin(read.open_times, candles(stored).open_times)
        assert same(
            candles(stored),
            CandleSeries(symbol="EURUSD", timeframe=HOUR, open_times=read.open_times[kept], values=read.values[kept]),
        )


@settings(max_examples=40, deadline=None)
@given(hours=positions_of_hours.filter(bool), bounds=st.tuples(st.integers(-1800, 3_601_800), st.integers(-1800, 3_601_800)))
def test_a_range_holds_the_candles_that_open_from_start_up_to_stop(hours: list[int], bounds: tuple[int, int]) -> None:
    start, stop = (datetime(2017, 1, 30, tzinfo=UTC) + timedelta(seconds=each) for each in bounds)
    with tempfile.TemporaryDirectory() as root:
        CandleStore(root).append(candles(hours))
        read = CandleStore(root).read("EURUSD", HOUR, start, stop)
        wanted = [hour for hour in hours if bounds[0] <= hour * 3600 < bounds[1]]
        assert same(read, candles(wanted))


def test_bounds_inside_a_second_count(tmp_path: Path) -> None:
    CandleStore(tmp_path).append(candles([0, 1]))
    just_after = datetime(2017, 1, 30, tzinfo=UTC) + timedelta(microseconds=1)
    assert same(CandleStore(tmp_path).read("EURUSD", HOUR, start=just_after), candles([1]))
    assert same(CandleStore(tmp_path).read("EURUSD", HOUR, stop=just_after), candles([0]))


def test_files_lie_by_symbol_timeframe_and_month(tmp_path: Path) -> None:
    CandleStore(tmp_path).append(candles([0, 48, 720]))
    found = sorted(str(path.relative_to(tmp_path)).split(".")[0] for path in tmp_path.rglob("*.parquet"))
    assert found == ["EURUSD/1h/2017-01", "EURUSD/1h/2017-02", "EURUSD/1h/2017-03"]


def test_readers_ignore_the_temporary_file_of_a_writer_that_died(tmp_path: Path) -> None:
    CandleStore(tmp_path).append(candles([0]))
    (tmp_path / "EURUSD" / "1h" / ".2017-01.parquet.0123.tmp").write_bytes(b"half a file")
    (tmp_path / "GBPUSD" / "1h").mkdir(parents=True)
    (tmp_path / "GBPUSD" / "1h" / ".2017-01.parquet.0123.tmp").write_bytes(b"half a file")
    assert CandleStore(tmp_path).symbols() == ("EURUSD",)
    assert same(CandleStore(tmp_path).read("EURUSD", HOUR), candles([0]))


def test_a_write_that_fails_leaves_the_month_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CandleStore(tmp_path).append(candles([0]))
    before = files(tmp_path)

    def full_disk(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fxcast.data.parts.os.fsync", full_disk)
    with pytest.raises(StoreUnavailable, match="No space left"):
        CandleStore(tmp_path).append(candles([1]))
    assert files(tmp_path) == before


def test_a_missing_series_is_refused_with_what_exists(tmp_path: Path) -> None:
    with pytest.raises(BadCandles, match="none"):
        CandleStore(tmp_path / "nowhere").read("EURUSD", HOUR)
    CandleStore(tmp_path).append(candles([0]))
    CandleStore(tmp_path).append(candles([0], symbol="GBPUSD"))
    with pytest.raises(BadCandles, match="found EURUSD 5m; allowed: EURUSD 1h, GBPUSD 1h"):
        CandleStore(tmp_path).read("EURUSD", Timeframe("5m"))


def test_a_corrupt_month_is_named(tmp_path: Path) -> None:
    CandleStore(tmp_path).append(candles([0]))
    next(tmp_path.rglob("*.parquet")).write_bytes(b"not parquet")
    with pytest.raises(BadCandles, match=r"EURUSD/1h/2017-01\."):
        CandleStore(tmp_path).read("EURUSD", HOUR)


def test_a_uri_and_a_path_name_the_same_store(tmp_path: Path) -> None:
    CandleStore(f"file://{tmp_path}/").append(candles([0, 1]))
    assert same(CandleStore(str(tmp_path)).read("EURUSD", HOUR), candles([0, 1]))
    with pytest.raises(BadSetting, match="nosuch"):
        CandleStore("nosuch://bucket")
