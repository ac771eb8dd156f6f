"""Stored forecasts: what comes back, what counts as another window, and files that are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fxcast.cluster.forecast_cache import ForecastCache, ForecastKey, StoredForecasts, window_hashes
from fxcast.domain.forecaster import WindowBatch
from fxcast.errors import BadSetting, BadSetup
from tests.factories import make_series

KEY = ForecastKey(model_hash="a" * 64, timeframe="1h", horizons_minutes=(240, 960), num_samples=3)


def forecasts(n: int, *, first: int = 0) -> StoredForecasts:
    draws = np.random.default_rng(first)
    return StoredForecasts(
        made_at=1_490_000_400 + 3600 * np.arange(first, first + n, dtype=np.int64),
        window_hash=draws.integers(0, 2**64, n, dtype=np.uint64),
        price=draws.uniform(1.0, 1.2, n),
        moves=draws.normal(0.0, 1e-3, (n, 3, 2)).astype(np.float32),
    )


def test_what_was_written_is_read_bit_by_bit(tmp_path: Path) -> None:
    cache, first, second = ForecastCache(tmp_path), forecasts(5), forecasts(4, first=5)
    cache.write(KEY, "EURUSD", "2017-03", first)
    cache.write(KEY, "EURUSD", "2017-03", second)
    found = cache.read(KEY, "EURUSD", {"2017-03"})
    order = np.argsort(found.made_at)
    for name in ("made_at", "window_hash", "price", "moves"):
        written = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_array_equal(getattr(found, name)[order], written)
    assert found.moves.dtype == np.float32


def test_a_file_is_a_table_that_others_can_read(tmp_path: Path) -> None:
    ForecastCache(tmp_path).write(KEY, "EURUSD", "2017-03", forecasts(2))
    (path,) = tmp_path.rglob("*.parquet")
    rows = pq.ParquetFile(path).read().to_pylist()
    assert [(row["symbol"], row["horizon_minutes"]) for row in rows] == [("EURUSD", 240), ("EURUSD", 960)] * 2
    assert rows[0]["made_at"].isoformat() == "2017-03-20T09:00:00+00:00"
    assert rows[1]["log_moves"] == forecasts(2).moves[0, :, 1].tolist()
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_nothing_but_whole_files_is_left_behind(tmp_path: Path) -> None:
    ForecastCache(tmp_path).write(KEY, "EURUSD", "2017-03", forecasts(2))
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".parquet"]


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model_hash="b" * 64),
        replace(KEY, timeframe="1m"),
        replace(KEY, horizons_minutes=(240, 3840)),
        replace(KEY, num_samples=4),
        replace(KEY, seed_scheme="other"),
    ],
)
def test_another_model_timeframe_or_number_of_samples_has_other_forecasts(tmp_path: Path, other: ForecastKey) -> None:
    cache = ForecastCache(tmp_path)
    cache.write(KEY, "EURUSD", "2017-03", forecasts(2))
    for key, symbol, month in ((other, "EURUSD", "2017-03"), (KEY, "USDJPY", "2017-03"), (KEY, "EURUSD", "2017-04")):
        assert len(cache.read(key, symbol, {month}).made_at) == 0


def test_a_window_hash_tells_symbols_times_and_candles_apart() -> None:
    series = make_series(bars=103)
    ends = np.array([99, 100, 102])
    hashes = window_hashes(WindowBatch.ending_at(series, ends))
    assert len(set(hashes.tolist())) == 3
    other = make_series(bars=103, symbol="GBPUSD")
    assert not set(window_hashes(WindowBatch.ending_at(other, ends)).tolist()) & set(hashes.tolist())


def test_a_broken_file_is_named_and_may_be_deleted(tmp_path: Path) -> None:
    cache = ForecastCache(tmp_path)
    cache.write(KEY, "EURUSD", "2017-03", forecasts(2))
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadSetup, match=r"2017-03.*delete it"):
        cache.read(KEY, "EURUSD", {"2017-03"})


def test_an_unknown_kind_of_storage_is_refused() -> None:
    with pytest.raises(BadSetting, match="ftp"):
        ForecastCache("ftp://host/forecasts")
