"""Bring a vendor's past candles into the candle store: python -m jobs.download."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.feeds.download import Chunk, FetchedPeriods, Period, chunks, download, joined, settled_until
from fxcast.adapters.feeds.vendors import VendorSettings, open_vendor
from fxcast.config import JobSettings
from fxcast.data.store import CandleStore, absolute_location
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting
from fxcast.terminal import new_console, progress_bar
from jobs.entry import run

_SHOWN = 5  # conflicting candles of a symbol


class DownloadJob(JobSettings):
    """Bring a vendor's past candles into the candle store; a second run fetches only what is missing.

    Credentials come from the environment: FXCAST_OANDA_TOKEN and FXCAST_OANDA_ACCOUNT, or FXCAST_TIINGO_TOKEN.
    """

    provider: Literal["oanda", "tiingo"] = "oanda"
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1, description="base then quote currency each")
    timeframe: str = Field(default="1m", description="length of a candle: 1m, 5m, 15m, 1h, 4h or 1d")
    start: AwareDatetime = Field(description="the first candle opens at or after it")
    stop: AwareDatetime | None = Field(
        default=None,
        description="candles that open at or after it are left; by default all that closed ten minutes ago are fetched",
    )
    store: str = Field(default="runs/store", description="root of the candle store: a folder or a URI such as s3://bucket/candles")
    records: Path = Field(default=Path("runs/download"), description="folder of the records of what was fetched completely")
    chunk_candles: int = Field(default=4000, ge=1, description="candles that are asked for at once")
    tries: int = Field(default=8, ge=1, description="of a chunk, while the vendor does not answer; then the job ends")
    vendor: VendorSettings = Field(default=VendorSettings(), description="where the vendors are and how long they may take")


@dataclass(slots=True)
class Downloaded:
    """What became of the candles of a symbol."""

    added: int = 0
    already_there: int = 0
    conflicting: list[datetime] = field(default_factory=list[datetime])
    missing: list[Period] = field(default_factory=list[Period])  # nothing came, though the market was open


def bring(settings: DownloadJob, stop: datetime) -> dict[str, Downloaded]:
    """Fetch and store what is missing, with a progress bar; return what became of it by symbol.

    Args:
        stop: Candles that open at or after it are left.

    Raises:
        BadCredentials: If the vendor's are missing or not accepted; names the variable.
        BadSetting: If the period is empty, or the vendor or the store's URI doesn't know a setting.
        BadSetup: If a record is damaged or belongs to another store.
        Unavailable: If the vendor did not answer as often as it was tried.
    """
    clock, timeframe, store = SystemClock(), Timeframe(settings.timeframe), CandleStore(settings.store)
    vendor = open_vendor(settings.provider, settings.vendor)
    if settings.start >= stop:
        raise BadSetting(f"start: found {settings.start.isoformat()}; allowed: a time before {stop.isoformat()}")
    wanted: list[tuple[Chunk, FetchedPeriods]] = []
    symbols = tuple(dict.fromkeys(settings.symbols))
    for symbol in symbols:
        fetched = FetchedPeriods(settings.records / settings.provider / f"{symbol}_{timeframe}.json", _place(settings.store))
        if not store.has(symbol, timeframe):
            fetched.forget()
        wanted += [(chunk, fetched) for chunk in chunks(fetched, symbol, timeframe, settings.start, stop, settings.chunk_candles)]
    found = {symbol: Downloaded() for symbol in symbols}

    async def fetch() -> None:
        with progress_bar() as progress:
            task = progress.add_task(f"{settings.provider}: chunks", total=len(wanted))
            async for brought in download(vendor, store, wanted, timeframe, now=clock.now, tries=settings.tries):
                chunk, result = brought.chunk, brought.result
                of_symbol = found[chunk.symbol]
                of_symbol.missing += [(chunk.start, chunk.stop)] if brought.is_missing else []
                of_symbol.added += result.added
                of_symbol.already_there += result.already_there + result.completed
                of_symbol.conflicting += result.conflicting
                progress.update(task, advance=1, description=f"{chunk.symbol} {chunk.start:%Y-%m-%d}")

    asyncio.run(fetch())
    return found


def _place(store: str) -> str:
    """Return where a store is, without what a URI may say of access."""
    location = absolute_location(store)
    if "://" not in location:
        return location
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; 0 if all is in the store that the vendor has, 2 if the input was refused, 1 if the vendor did not answer."""
    return run(lambda: _report(DownloadJob.parse(arguments)))


def _report(settings: DownloadJob) -> int:
    console = new_console()
    settled = settled_until(Timeframe(settings.timeframe), SystemClock().now())
    stop = settled if settings.stop is None else min(settings.stop, settled)
    downloaded = bring(settings, stop)
    rest = "" if stop == settings.stop else "; what is younger has not settled yet"
    console.print(f"fetched: candles that open before {_utc(stop)}{rest}", markup=False)
    for symbol, found in downloaded.items():
        counts = f"{found.added:,} candles added, {found.already_there:,} already there"
        console.print(f"{settings.store}: {symbol} {settings.timeframe}: {counts}", markup=False)
        if found.conflicting:
            first = ", ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in found.conflicting[:_SHOWN])
            console.print(f"{len(found.conflicting):,} differ from stored candles, which stay; at {first}", markup=False)
        for start, until in joined(found.missing):
            said = f"{symbol}: nothing came of {_utc(start)} to {_utc(until)}, though the market was open; the next run asks again"
            console.print(said, markup=False)
    return 0


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


if __name__ == "__main__":
    raise SystemExit(main())
