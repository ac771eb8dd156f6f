"""Time how fast a database takes in the forecasts of many models: 28 pairs, 1,000 models, one-minute candles. `make bench`.

Each replica writes what it has forecast with a backlog of its own, as the service does; here each is a process. PostgreSQL waits
for the disk at each commit.

    python -m tests.benchmarks.database_writes             a whole minute of forecasts: 28,000, of three horizons each
    python -m tests.benchmarks.database_writes --models 50 fewer
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.predictions import record_predictions
from fxcast.adapters.storage.tables import PredictionRow
from fxcast.cluster.local import REPOSITORY
from fxcast.domain.forecast import HorizonForecast, LDM4TSPrediction
from fxcast.domain.timeframe import Timeframe
from fxcast.serving.backlog import Backlog
from tests.benchmarks.result import Against, Figure
from tests.databases import new_database

_COMMAND = "python -m tests.benchmarks.database_writes"
_FOLDER = REPOSITORY / "runs" / "bench"
_PAIRS, _MODELS, _HORIZONS = 28, 1000, (15, 60, 240)
_MINUTE_S = 60.0


def forecasts_of(models: Sequence[int], made_at: datetime) -> list[LDM4TSPrediction]:
    """Return what models forecast for all pairs at one moment."""
    horizon = HorizonForecast(mean=1.1, std=0.001, q05=1.098, q50=1.1, q95=1.102)
    return [
        LDM4TSPrediction(
            symbol=f"PAIR{pair:02}",
            timeframe=Timeframe("1m"),
            made_at=made_at,
            price=1.1,
            horizons=dict.fromkeys(_HORIZONS, horizon),
            inference_time_ms=50.0,
            num_samples=50,
            model_version=f"model-{model:04}",
        )
        for model in models
        for pair in range(_PAIRS)
    ]


def _write(url: str, models: range, made_at: datetime) -> None:
    """Write what a replica has forecast, with its backlog."""
    waiting = Backlog("predictions", url, record_predictions, capacity=_PAIRS * _MODELS)
    for forecast in forecasts_of(models, made_at):
        waiting.add(forecast)
    if not waiting.write_waiting():
        raise SystemExit(f"not all was written: {waiting.counts()}")


def seconds_to_write(url: str, replicas: int, models: int, made_at: datetime) -> float:
    """Return how long that many replicas together take to write a minute of forecasts."""
    context = multiprocessing.get_context("fork")
    shares = [range(models)[replica::replicas] for replica in range(replicas)]
    writers = [context.Process(target=_write, args=(url, share, made_at)) for share in shares]
    started = time.perf_counter()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    seconds = time.perf_counter() - started
    if any(writer.exitcode for writer in writers):
        raise SystemExit(f"a writer failed: {[writer.exitcode for writer in writers]}")
    return seconds


def rows_in(url: str) -> int:
    """Return how many forecasts of a horizon a database holds."""
    database = open_database(url)
    with database.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(PredictionRow)) or 0
    database.dispose()
    return rows


def measured_rows_s(*, replicas: int = 2, models: int = 300) -> float:
    """Return how many forecast rows a second PostgreSQL takes in."""
    with tempfile.TemporaryDirectory() as name:
        url = new_database("postgresql", Path(name), durable=True)
        migrate(url)
        return _PAIRS * models * len(_HORIZONS) / seconds_to_write(url, replicas, models, datetime(2026, 1, 5, 10, 0, tzinfo=UTC))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog=_COMMAND)
    parser.add_argument("--models", type=int, default=_MODELS)
    models: int = parser.parse_args(arguments).models
    rows, needed = _PAIRS * models * len(_HORIZONS), _PAIRS * _MODELS * len(_HORIZONS) / _MINUTE_S
    with tempfile.TemporaryDirectory() as name:
        speeds: dict[str, float] = {}
        for kind in ("sqlite", "postgresql"):
            url = new_database(kind, Path(name), durable=True)
            migrate(url)
            for minute, replicas in enumerate((1, 2, 8)):
                seconds = seconds_to_write(url, replicas, models, datetime(2026, 1, 5, 10, minute, tzinfo=UTC))
                speeds[f"{kind}_{replicas}"] = rows / seconds
                print(f"{kind}, {replicas} replicas: {rows:,} rows in {seconds:.1f} s")
            if rows_in(url) != 3 * rows:
                raise SystemExit(f"{kind}: found {rows_in(url)} rows; expected: {3 * rows}")
    print(f"28 pairs × 1,000 models × 3 horizons a minute are {needed:,.0f} rows a second; {os.cpu_count()} cores for all")
    for name, speed in speeds.items():
        Figure(
            name=f"prediction_rows_{name}", value=speed, unit="/s", against=Against(name="needed", value=needed), command=_COMMAND
        ).publish(_FOLDER)


if __name__ == "__main__":
    main()
