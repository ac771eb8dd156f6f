"""What a training run is made of, and the candles that it is made of; nothing here loads torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydantic import AwareDatetime, Field

from fxcast.config import Settings
from fxcast.data.splits import split_in_time
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.config import LDM4TSConfig
from fxcast.training.config import TrainingConfig


class TrainPlan(Settings):
    """All that a training run is made of; plain values, so that it travels to the workers."""

    name: str = Field(description="name of the run and version of the model")
    store: str
    symbols: tuple[str, ...]
    train: tuple[AwareDatetime, AwareDatetime] = Field(description="candles that open in [start, stop)")
    validation: tuple[AwareDatetime, AwareDatetime]
    model: LDM4TSConfig
    training: TrainingConfig
    autoencoder: str = Field(description="folder or hub name of the VAE")
    text_encoder: str | None = Field(default=None, description="folder or hub name; None takes the packaged MiniLM")
    storage_path: str = Field(description="where Ray Train keeps checkpoints")
    workers: int = Field(default=2, ge=1)
    use_gpu: bool = False
    threads_per_worker: int = Field(default=1, ge=1)


def plan_periods(
    series: CandleSeries, config: LDM4TSConfig, *, validation_share: float, test_share: float
) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime], tuple[datetime, datetime]]:
    """Return train, validation and test as half-open ranges of open times, purged by the longest horizon."""
    periods = split_in_time(series, validation_share=validation_share, test_share=test_share, purge_bars=config.future_bars)
    end = to_datetime(series.close_times[-1])

    def times(period: tuple[int, int]) -> tuple[datetime, datetime]:
        start, stop = period
        return to_datetime(series.open_times[start]), end if stop == len(series) else to_datetime(series.open_times[stop])

    return times(periods.train), times(periods.validation), times(periods.test)


def read_series(plan: TrainPlan) -> list[CandleSeries]:
    """Read the candles of the plan's training and validation periods, symbol by symbol."""
    store = CandleStore(plan.store)
    timeframe = Timeframe(plan.model.timeframe)
    return [store.read(symbol, timeframe, start=plan.train[0], stop=plan.validation[1]) for symbol in plan.symbols]


def candles_hash(series: Sequence[CandleSeries]) -> str:
    """Return a SHA-256 of symbols, times and prices."""
    digest = hashlib.sha256()
    for one in series:
        digest.update(one.symbol.encode())
        digest.update(one.open_times.tobytes())
        digest.update(one.values.tobytes())
    return digest.hexdigest()


def positions_of(series: CandleSeries, period: tuple[datetime, datetime]) -> tuple[int, int]:
    """Return the half-open range of positions of the candles that open in a half-open period."""
    start, stop = (int(np.searchsorted(series.open_times, to_datetime64(moment))) for moment in period)
    return start, stop


def check_windows(plan: TrainPlan, series: Sequence[CandleSeries]) -> None:
    """Check that every symbol has a window in both periods, and every worker one of its own.

    Raises:
        BadCandles: If a symbol has too few candles in a period.
        BadSetting: If there are more workers than windows.
    """
    shortest = CONTEXT_BARS + plan.model.future_bars  # one window and its outcome
    windows: list[int] = []
    for name, period in (("training", plan.train), ("validation", plan.validation)):
        candles = [stop - start for start, stop in (positions_of(one, period) for one in series)]
        for one, count in zip(series, candles, strict=True):
            if count < shortest:
                found = f"{count} of {one.symbol} in the {name} period, {period[0]:%Y-%m-%d} to {period[1]:%Y-%m-%d}"
                raise BadCandles("candles", found, f"at least {shortest} of each symbol")
        windows.append(sum(count - shortest + 1 for count in candles))
    training = plan.training
    shared = {
        f"training windows, every {training.window_stride_bars} bars": -(-windows[0] // training.window_stride_bars),
        "windows of the validation period": windows[1],
        "training.validation_windows": training.validation_windows,
        "training.calibration_windows": training.calibration_windows,
    }
    what, fewest = min(shared.items(), key=lambda item: item[1])
    if fewest < plan.workers:
        raise BadSetting(f"workers: found {plan.workers}; allowed: at most {fewest}, for that many {what} are shared out")
