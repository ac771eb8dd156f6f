"""Write stored candles to a file: python -m jobs.export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import AwareDatetime, Field

from fxcast.config import JobSettings
from fxcast.data.export import export_candles
from fxcast.data.resample import resample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.market import PriceSide
from fxcast.domain.timeframe import Timeframe
from fxcast.terminal import new_console
from jobs.entry import run


class ExportJob(JobSettings):
    """Write stored candles to a CSV or Parquet file, in UTC, with all that is known of them."""

    path: Path = Field(description="the file to write: NAME.csv or NAME.parquet")
    symbol: str = Field(default="EURUSD", description="base then quote currency")
    timeframe: str = Field(default="1h", description="length of the stored candles")
    resample_to: str | None = Field(
        default=None, description="a longer timeframe to make of them; a partial last candle is left out"
    )
    start: AwareDatetime | None = Field(
        default=None, description="candles that open at or after it; with resample_to, from the longer candle that holds it"
    )
    stop: AwareDatetime | None = Field(default=None, description="candles that open before it")
    store: str = Field(default="runs/store", description="root of the candle store: a folder or a URI such as s3://bucket/candles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _export(ExportJob.parse(arguments)))


def _export(settings: ExportJob) -> int:
    longer = None if settings.resample_to is None else Timeframe(settings.resample_to)
    start = settings.start
    if longer is not None and start is not None:  # else the first candle would be a stump
        start = to_datetime(longer.opening(np.array([to_datetime64(start)]))[0])
    data = CandleStore(settings.store).read_market(settings.symbol, Timeframe(settings.timeframe), start, settings.stop)
    if longer is not None:
        data = resample(data, longer).complete
    export_candles(data, settings.path)
    console = new_console()
    console.print(f"{settings.path}: {len(data):,} candles of {data.symbol} {data.timeframe}, {data.side} prices", markup=False)
    if data.side is not PriceSide.UNSTATED:
        console.print(f"the file does not say the side: to read it back, give --side {data.side}", markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
