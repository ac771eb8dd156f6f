"""Write stored candles to a file: python -m jobs.export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import AwareDatetime, Field

from fxcast.config import JobSettings
from fxcast.data.export import export_candles
from fxcast.data.resample import resample
from fxcast.data.store import CandleStore
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
    start: AwareDatetime | None = Field(default=None, description="candles that open at or after it")
    stop: AwareDatetime | None = Field(default=None, description="candles that open before it")
    store: str = Field(default="runs/store", description="root of the candle store: a folder or a URI such as s3://bucket/candles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _export(ExportJob.parse(arguments)))


def _export(settings: ExportJob) -> int:
    data = CandleStore(settings.store).read_market(settings.symbol, Timeframe(settings.timeframe), settings.start, settings.stop)
    if settings.resample_to is not None:
        data = resample(data, Timeframe(settings.resample_to)).complete
    export_candles(data, settings.path)
    new_console().print(
        f"{settings.path}: {len(data):,} candles of {data.symbol} {data.timeframe}, {data.side} prices", markup=False
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
