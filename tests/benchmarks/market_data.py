"""Time import, store, resampling and ticks, each beside the same done with pandas. `make bench`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fxcast.cluster.local import REPOSITORY
from fxcast.data.resample import resample
from fxcast.data.store import CandleStore
from fxcast.data.ticks import CandleBuilder
from fxcast.domain.calendar import open_mask
from fxcast.domain.candle import COLUMNS, CandleSeries, TimeArray
from fxcast.domain.market import without_details
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from tests.benchmarks.result import Against, Figure

_COMMAND = "make bench"
_FOLDER = REPOSITORY / "runs" / "bench"
_IMPORTED, _STORED, _TICKS = 372_000, 1_000_000, 1_000_000
_REPEATS = 5

# In a process of its own, so that its peak memory is the import's alone.
_IMPORT = """
import resource, sys, time
from jobs.ingest import IngestJob, ingest
started = time.perf_counter()
outcome = ingest(IngestJob(source=sys.argv[1], store=sys.argv[2], report=sys.argv[3]))
taken = time.perf_counter() - started
assert outcome.stored is not None and outcome.stored.added == outcome.quality.rows_read, outcome.stored
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
_IMPORT_WITH_PANDAS = """
import resource, sys, time
import pandas as pd
started = time.perf_counter()
frame = pd.read_csv(sys.argv[1], sep=";", header=None, names=["time", "open", "high", "low", "close", "volume"])
frame["time"] = pd.to_datetime(frame["time"], format="%Y%m%d %H%M%S").dt.tz_localize("-05:00").dt.tz_convert("UTC")
frame.to_parquet(sys.argv[2] + ".parquet")
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def open_minutes(count: int) -> TimeArray:
    """Return the first minutes of the open market from 2012 on."""
    start = np.datetime64("2012-01-02T00:00", "s")
    minutes = start + np.arange(2 * count) * np.timedelta64(60, "s")
    return minutes[open_mask(minutes)][:count]


def random_series(count: int) -> CandleSeries:
    """Return a seeded random walk of one-minute candles."""
    rng = np.random.default_rng(0)
    closes = np.round(1.3 * np.exp(np.cumsum(rng.normal(0.0, 5e-5, count))), 5)
    opens = np.concatenate([closes[:1], closes[:-1]])
    values = np.column_stack(
        [opens, np.maximum(opens, closes), np.minimum(opens, closes), closes, rng.integers(1, 300, count).astype(np.float64)]
    )
    return CandleSeries(symbol="EURUSD", timeframe=Timeframe("1m"), open_times=open_minutes(count), values=values)


def write_histdata(path: Path, count: int) -> None:
    """Write candles as HistData's ASCII files have them: New York winter time, semicolons, no volume."""
    series = random_series(count)
    stamps = pd.Series(series.open_times - np.timedelta64(5, "h")).dt.strftime("%Y%m%d %H%M%S")
    frame = pd.DataFrame(series.values[:, :4]).assign(volume=0)
    frame.insert(0, "time", stamps)
    frame.to_csv(path, sep=";", header=False, index=False, float_format="%.6f")


def median_s(work: Callable[[], object]) -> float:
    """Return the median time of some work, after one run that is not counted."""
    work()
    taken: list[float] = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def measure_import(folder: Path) -> None:
    """Import a year of minutes, check and store it; pandas reads and writes the same file and checks nothing."""
    source = folder / "DAT_ASCII_EURUSD_M1_2012.csv"
    write_histdata(source, _IMPORTED)

    def run(code: str, name: str) -> tuple[float, float]:
        arguments = [str(source), str(folder / name), str(folder / f"{name}-report")]
        answer = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        taken_s, peak_mb = answer.stdout.split()
        return float(taken_s), float(peak_mb)

    taken_s, peak_mb = run(_IMPORT, "store")
    pandas_s, pandas_mb = run(_IMPORT_WITH_PANDAS, "pandas")
    name = "pandas, unchecked"
    _publish(f"import_{_IMPORTED}_rows", taken_s, "s", Against(name=name, value=pandas_s))
    _publish("import_peak_memory", peak_mb, "MB", Against(name=name, value=pandas_mb))


def measure_store(folder: Path) -> None:
    """Read a million candles from the store; pandas reads the same columns from one Parquet file."""
    series = random_series(_STORED)
    root = folder / "million"
    CandleStore(root).append(series)
    frame = pd.DataFrame(series.values, columns=pd.Index(COLUMNS)).assign(open_time=series.open_times)
    single = folder / "million.parquet"
    frame.to_parquet(single)
    taken_s = median_s(lambda: CandleStore(root).read("EURUSD", Timeframe("1m")))
    pandas_s = median_s(partial(pd.read_parquet, single))
    _publish("read_1m_candles", taken_s, "s", Against(name="pandas, one file, unchecked", value=pandas_s))


def measure_resampling() -> None:
    """Make hours of a million minutes, by hand and with pandas."""
    series = random_series(_STORED)
    frame = pd.DataFrame(series.values, columns=pd.Index(COLUMNS), index=pd.DatetimeIndex(series.open_times))
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    taken_s = median_s(lambda: resample(without_details(series), Timeframe("1h")))

    def with_pandas() -> object:
        return frame.resample("1h").agg(rules).dropna()

    pandas_s = median_s(with_pandas)
    _publish("resample_1m_to_1h", taken_s, "s", Against(name="pandas resample", value=pandas_s))


def measure_ticks() -> None:
    """Turn a million quotes into candles one by one, as they would come; pandas takes them all at once."""
    rng = np.random.default_rng(0)
    start = datetime(2024, 1, 2, tzinfo=UTC)
    mids = 1.1 + np.cumsum(rng.normal(0.0, 1e-6, _TICKS))
    ticks = [
        Tick("EURUSD", start + timedelta(milliseconds=50 * position), mid - 0.00005, mid + 0.00005)
        for position, mid in enumerate(mids.tolist())
    ]

    def build() -> None:
        builder = CandleBuilder("EURUSD", Timeframe("1m"))
        candles = 0
        for tick in ticks:
            builder.add(tick)
            closed = builder.close_before(tick.time)
            if closed is not None:
                candles += len(closed)
        assert candles == _TICKS * 50 // 60_000, candles

    frame = pd.DataFrame({"mid": mids}, index=pd.DatetimeIndex([tick.time for tick in ticks]))
    taken_s = median_s(build)

    def with_pandas() -> object:
        return frame["mid"].resample("1min").ohlc()

    pandas_s = median_s(with_pandas)
    in_one_go = Against(name="pandas, mid only, all at once", value=_TICKS / pandas_s)
    _publish("ticks_per_second", _TICKS / taken_s, "/s", in_one_go)


def _publish(name: str, value: float, unit: str, against: Against) -> None:
    Figure(name=name, value=value, unit=unit, against=against, command=_COMMAND).publish(_FOLDER)


def main() -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        measure_import(Path(folder))
        measure_store(Path(folder))
    measure_resampling()
    measure_ticks()


if __name__ == "__main__":
    main()
