"""Fill in what became of forecasts, and what the models were worth: python -m jobs.outcomes."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Self

import structlog
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.database import Database, answering, open_database
from fxcast.adapters.storage.predictions import resolve_outcomes
from fxcast.adapters.storage.quality import update_quality
from fxcast.adapters.storage.waiting import count_waiting, forecast_series, waiting_forecasts, waiting_series
from fxcast.cluster.outcome_meters import OutcomeMeters
from fxcast.config import JobSettings
from fxcast.data.outcome_candles import outcome_candles
from fxcast.data.store import CandleStore
from fxcast.domain.instrument import default_instrument
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, DatabaseUnavailable, StoreUnavailable
from jobs.engine_calls import running_cluster
from jobs.entry import run

log = structlog.get_logger(__name__)


class OutcomesJob(JobSettings):
    """Fill in what became of the forecasts whose horizon has passed; score each model's last ones, and calibrate it online."""

    store: str = Field(default="runs/store", description="root of the candle store")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the forecasts")
    every: float | None = Field(default=None, gt=0, description="repeat after so many seconds, until interrupted; once by default")
    symbols: tuple[str, ...] | None = Field(default=None, description="whose forecasts; by default all")
    window: int = Field(default=500, ge=1, description="forecasts of a model, series and horizon that are scored: the last ones")
    spread_pips: float = Field(default=1.0, ge=0, description="a mean within half of it around the price takes no side")
    calibrate: bool = Field(
        default=True, description="let online calibrations learn; off where forecasts are given out without their widths"
    )
    metrics: bool = Field(
        default=False,
        description="with --every: show the scores to Prometheus, through the Ray cluster that runs",
    )

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        if self.metrics and self.every is None:
            problem = "metrics: found without every; Ray forgets what a process has shown when that has ended"
            raise PydanticCustomError("metrics", problem)
        return self


def fill_in_outcomes(settings: OutcomesJob, database: Database, now: datetime, *, only_waiting: bool = False) -> int:
    """Do one round; the same candles again change nothing.

    A series that the store lacks, or a store that does not answer, is warned of and keeps no other series waiting.

    Args:
        now: Candles that close later are not looked at.
        only_waiting: Leave out series whose forecasts all have an outcome; then what another process resolved is scored only once
            a forecast of the same series waits.

    Returns:
        How many forecasts were resolved.
    """
    store = CandleStore(settings.store)
    found = waiting_series(database) if only_waiting else forecast_series(database)
    series = [each for each in found if settings.symbols is None or each[0] in settings.symbols]
    if not only_waiting:
        for symbol in sorted(set(settings.symbols or ()) - {symbol for symbol, _ in found}):
            log.warning("no forecasts", symbol=symbol)
    return sum(_fill_in(settings, database, store, symbol, timeframe, now) for symbol, timeframe in series)


def _fill_in(
    settings: OutcomesJob, database: Database, store: CandleStore, symbol: str, timeframe: Timeframe, now: datetime
) -> int:
    pip = float(default_instrument(symbol).pip)
    resolved = 0
    try:
        for candles in outcome_candles(store, symbol, timeframe, waiting_forecasts(database, symbol, timeframe), now):
            resolved += resolve_outcomes(database, candles, spread=settings.spread_pips * pip)
    except (BadCandles, StoreUnavailable) as error:
        log.warning("no candles for outcomes", symbol=symbol, timeframe=timeframe.name, problem=str(error))
    scored = update_quality(database, symbol, timeframe, window=settings.window, pip=pip, calibrates=settings.calibrate)
    waiting = count_waiting(database, symbol, timeframe)
    log.info("outcomes", symbol=symbol, timeframe=timeframe.name, resolved=resolved, waiting=waiting, scored=scored)
    return resolved


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _repeat(OutcomesJob.parse(arguments)))


def _repeat(settings: OutcomesJob) -> int:
    database, clock, store = open_database(settings.database_url), SystemClock(), CandleStore(settings.store)
    fill_in_outcomes(settings, database, clock.now())
    with ExitStack() as opened:
        meters = opened.enter_context(_shown()) if settings.metrics else None
        while settings.every is not None:
            if meters is not None:
                meters.show(database, store)
            time.sleep(settings.every)  # the pause that --every asks for: outcomes come with time, and nobody announces them
            try:
                with answering(settings.database_url):
                    fill_in_outcomes(settings, database, clock.now(), only_waiting=True)
            except DatabaseUnavailable as error:
                log.warning("outcomes not filled in", problem=str(error))
    return 0


@contextmanager
def _shown() -> Generator[OutcomeMeters]:
    """Join the cluster that runs, and show scores there for the length of the block."""
    with running_cluster():
        meters = OutcomeMeters()
        meters.board.start()
        try:
            yield meters
        finally:
            meters.board.close()


if __name__ == "__main__":
    sys.exit(run(main))
