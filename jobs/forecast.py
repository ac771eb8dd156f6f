"""Forecast from the last 100 candles: python -m jobs.forecast."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, Field
from rich.table import Table

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.database import open_database, revision_of
from fxcast.adapters.storage.registry import active_model
from fxcast.config import JobSettings
from fxcast.data.importing.files import find_sources
from fxcast.data.importing.read import ImportOptions, read_candles
from fxcast.data.store import CandleStore
from fxcast.data.windows import last_close, stored_window, window_at
from fxcast.domain.candle import CandleSeries
from fxcast.domain.currencies import symbols_named_in
from fxcast.domain.forecast import MAX_SAMPLES, LDM4TSPrediction
from fxcast.domain.forecaster import predict
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting, BadSetup
from fxcast.models.load import load_forecaster
from fxcast.models.shipped import shipped_model
from fxcast.terminal import new_console
from jobs.entry import run

_SYMBOL, _TIMEFRAME = "EURUSD", "1h"


class ForecastJob(JobSettings):
    """Forecast from the last 100 candles known at a moment, of the store or of a CSV file."""

    model: Path | None = Field(
        default=None, description="model folder; without it, the registry's active model, or else the one that fxcast ships"
    )
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")
    csv: Path | None = Field(default=None, description="file of candles, as jobs.ingest reads them; without it, the store is read")
    day_first: bool | None = Field(default=None, description="03/04/2017 in the file is 3 April; found by the rows where they tell")
    zone: str | None = Field(default=None, description="clock of the file's times without an offset, as jobs.ingest takes it")
    columns: dict[str, str] = Field(
        default={},
        description="the file's names for time, open, high, low, close, volume: open=Bid; without a header, positions: time=1",
    )
    store: str = Field(default="runs/store", description="root of the candle store")
    symbol: str | None = Field(default=None, description="by default what the file's name says, or EURUSD")
    timeframe: str | None = Field(default=None, description="by default what the file's rows say, or 1h")
    at: AwareDatetime | None = Field(default=None, description="the moment; without it, the last candle's close")
    horizons: tuple[int, ...] | None = Field(default=None, description="minutes; all of the model's by default")
    num_samples: int = Field(default=50, ge=1, le=MAX_SAMPLES)
    seed: int = 0
    as_json: bool = Field(default=False, description="print JSON instead of a table")


def forecast(settings: ForecastJob) -> LDM4TSPrediction:
    """Load the model and forecast.

    Raises:
        BadModelFolder: If the model can't be loaded, or is of another timeframe.
        BadSetup: If no model is given, none is active, and none is shipped for the timeframe.
        BadCandles: If there are fewer than 100 candles.
        BadRequest: If the model does not know a horizon.
    """
    window = _window(settings)
    forecaster = load_forecaster(_model_folder(settings, window), timeframe=window.timeframe.name)
    return predict(
        forecaster,
        window,
        horizons_minutes=settings.horizons or forecaster.horizons_minutes,
        num_samples=settings.num_samples,
        seed=settings.seed,
    )


def _window(settings: ForecastJob) -> CandleSeries:
    if settings.csv is not None:
        return _window_of_file(settings, settings.csv)
    store, symbol, timeframe = CandleStore(settings.store), settings.symbol or _SYMBOL, Timeframe(settings.timeframe or _TIMEFRAME)
    return stored_window(store, symbol, timeframe, settings.at or last_close(store, symbol, timeframe))


def _window_of_file(settings: ForecastJob, file: Path) -> CandleSeries:
    symbol = settings.symbol
    if symbol is None and len(symbols_named_in(file.name)) != 1:
        symbol = _SYMBOL
        _say(f"the name of {file} says no pair: its candles are taken for {symbol}; --symbol says otherwise")
    options = ImportOptions(
        symbol=symbol,
        timeframe=None if settings.timeframe is None else Timeframe(settings.timeframe),
        day_first=settings.day_first,
        zone=settings.zone,
        columns=settings.columns,
        now=SystemClock().now(),
    )
    sources = find_sources(file)
    if len(sources) != 1:
        raise BadSetting(f"csv: found {len(sources)} files in {file}; allowed: one")
    read = read_candles(sources[0], options)
    for note in read.notes:
        _say(note)
    for row in read.refused:
        _say(f"refused line {row.line}: {row.reason.value}: {row.detail}")
    return window_at(read.series, settings.at or datetime.max.replace(tzinfo=UTC))


def _model_folder(settings: ForecastJob, window: CandleSeries) -> Path:
    if settings.model is not None:
        return settings.model
    symbol, timeframe = window.symbol, window.timeframe.name
    # Without a database there is no registry, and a file can be forecast all the same.
    if revision_of(settings.database_url) is not None:
        model = active_model(open_database(settings.database_url), symbol, timeframe)
        if model is not None:
            return model.folder
    shipped = shipped_model(timeframe)
    if shipped is None:
        raise BadSetup(
            f"no model is active for {symbol} {timeframe}, and none is shipped for {timeframe}; "
            "give --model, or train one with python -m jobs.train"
        )
    _say(f"no model is active for {symbol} {timeframe}: the one that fxcast ships forecasts, {shipped.name}")
    return shipped


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")  # stdout may be JSON


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(ForecastJob.parse(arguments)))


def _report(settings: ForecastJob) -> int:
    prediction = forecast(settings)
    console = new_console()
    if settings.as_json:
        console.print_json(json.dumps(prediction.to_dict()))
        return 0
    table = Table(
        title=f"{prediction.symbol} {prediction.timeframe} at {prediction.made_at:%Y-%m-%d %H:%M} UTC, close {prediction.price:g}"
    )
    for name in ("minutes ahead", "mean", "std", "q05", "q50", "q95", "uncertainty %"):
        table.add_column(name, justify="right")
    for minutes, horizon in prediction.horizons.items():
        numbers = (horizon.mean, horizon.std, horizon.q05, horizon.q50, horizon.q95)
        table.add_row(str(minutes), *(f"{number:.5f}" for number in numbers), f"{prediction.uncertainty_pct(minutes):.3f}")
    console.print(table)
    console.print(f"{prediction.model_version}, {prediction.num_samples} samples in {prediction.inference_time_ms:.0f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
