"""Write candles to a file that the importer, and every other tool, reads back: CSV or Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv as pa_csv

from fxcast.domain.candle import COLUMNS
from fxcast.domain.market import DETAILS, MarketCandles
from fxcast.errors import BadSetting, BadSetup

_WRITERS = (".csv", ".parquet")


def export_candles(data: MarketCandles, path: Path) -> None:
    """Write candles with a header: `time` (ISO 8601, UTC), prices and volume, and the details that are known of any candle.

    Numbers are written so that reading gives back the same ones; what is unknown is left empty. The side of the prices is not
    written: say it when reading (`side`).

    Args:
        path: A name that ends in .csv or .parquet; missing folders are made.

    Raises:
        BadSetting: If it ends otherwise.
        BadSetup: If it can't be written there.
    """
    if path.suffix not in _WRITERS:
        raise BadSetting(f"path: found {path}; allowed: a name that ends in {' or '.join(_WRITERS)}")
    times = np.char.add(np.datetime_as_string(data.open_times, unit="s"), "Z") if len(data) else np.empty(0, dtype=str)
    columns = {"time": pa.array(times, type=pa.string())}
    columns |= {name: pa.array(values) for name, values in zip(COLUMNS, data.candles.values.T, strict=True)}
    for name in DETAILS:
        values = data.detail(name)
        if not np.isnan(values).all():
            columns[name] = pa.array(values, from_pandas=True)  # NaN is null
    table = pa.table(columns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            pa_csv.write_csv(table, path, pa_csv.WriteOptions(quoting_style="none"))
        else:
            pq.write_table(table, path)
    except OSError as error:
        raise BadSetup(f"{path}: can't be written: {error.strerror or error}") from None
