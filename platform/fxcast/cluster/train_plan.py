"""What a training run is made of, and the candles that it is made of; nothing here loads torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from pydantic import AwareDatetime, Field

from fxcast.config import Settings
from fxcast.data.splits import split_at, split_in_time
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadSetting
from fxcast.models.config import LDM4TSConfig
from fxcast.training.config import TrainingConfig

WORKERS_PATTERN = r"[1-9]\d*(:[1-9]\d*)?"  # 2, or 1:4
Period = tuple[AwareDatetime, AwareDatetime]


class TrainPlan(Settings):
    """All that a training run is made of; plain values, so that it travels to the workers."""

    name: str = Field(description="name of the run and version of the model")
    store: str
    symbols: tuple[str, ...]
    train: Period = Field(description="candles that open in [start, stop)")
    validation: Period
    model: LDM4TSConfig
    training: TrainingConfig
    autoencoder: str = Field(description="folder or hub name of the VAE")
    start_from: str | None = Field(
        default=None, description="model folder whose weights the run begins with; None begins with noise"
    )
    text_encoder: str | None = Field(default=None, description="folder or hub name; None takes the packaged MiniLM")
    storage_path: str = Field(description="where the run keeps its stages and checkpoints")
    workers: str = Field(default="2", pattern=f"^{WORKERS_PATTERN}$", description="N, or MIN:MAX")
    use_gpu: bool = False
    cpus_per_worker: float = Field(default=1.0, gt=0)
    resources_per_worker: dict[str, float] = Field(default_factory=dict, description="others that Ray shall reserve")
    max_failures: int = Field(default=2, ge=-1)
    keep_checkpoints: int = Field(default=2, ge=1)
    threads_per_worker: int = Field(default=1, ge=1)

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most workers."""
        fewest, _, most = self.workers.partition(":")
        return int(fewest), int(most or fewest)

    @property
    def series(self) -> tuple[tuple[str, Timeframe], ...]:
        """Symbol and timeframe of every series, in a fixed order."""
        return tuple((symbol, Timeframe(self.model.timeframe)) for symbol in self.symbols)

    def read(self, symbol: str, timeframe: Timeframe) -> CandleSeries:
        """Read the candles of one series in the training and validation periods."""
        return CandleStore(self.store).read(symbol, timeframe, start=self.train[0], stop=self.validation[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """What a run needs to know of one series before it reads it again.

    Attributes:
        train: Half-open range of positions of the training period's candles.
        validation: The validation period's.
    """

    symbol: str
    timeframe: Timeframe
    candles: int
    train: tuple[int, int]
    validation: tuple[int, int]
    digest: str


def plan_periods(
    series: CandleSeries,
    config: LDM4TSConfig,
    *,
    validation_share: float,
    test_share: float,
    validation_from: datetime | None = None,
    test_from: datetime | None = None,
) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime], tuple[datetime, datetime]]:
    """Return train, validation and test as half-open ranges of open times, purged by the longest horizon.

    Args:
        series: Of the main timeframe.
        config: Whose longest horizon is purged.
        validation_share: Of the candles; with `test_share` it counts where the two moments are not given.
        test_share: Of the candles.
        validation_from: Where validation begins.
        test_from: Where testing begins; candles may end there.
    """
    if validation_from is not None and test_from is not None:
        periods = split_at(series, validation_from=validation_from, test_from=test_from, purge_bars=config.future_bars)
    elif validation_from is None and test_from is None:
        periods = split_in_time(series, validation_share=validation_share, test_share=test_share, purge_bars=config.future_bars)
    else:
        given, missing = ("validation_from", "test_from") if test_from is None else ("test_from", "validation_from")
        raise BadSetting(f"{missing}: found none with {given}; allowed: both moments, or neither")
    end = to_datetime(series.close_times[-1])

    def moment(position: int) -> datetime:
        return end if position == len(series) else to_datetime(series.open_times[position])

    def times(period: tuple[int, int]) -> tuple[datetime, datetime]:
        start, stop = period
        return moment(start), moment(stop)

    return times(periods.train), times(periods.validation), times(periods.test)


def candles_hash(series: Iterable[CandleSeries]) -> str:
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


def survey(plan: TrainPlan) -> tuple[tuple[SeriesFacts, ...], str]:
    """Read every series once, one at a time; return their facts, and a hash of all candles.

    Raises:
        BadCandles: If a series is missing, or has no window with its outcome in a period.
    """
    facts: list[SeriesFacts] = []

    def reading() -> Iterator[CandleSeries]:
        for symbol, timeframe in plan.series:
            one = plan.read(symbol, timeframe)
            _check_windows(plan, one)
            facts.append(
                SeriesFacts(
                    symbol=symbol,
                    timeframe=timeframe,
                    candles=len(one),
                    train=positions_of(one, plan.train),
                    validation=positions_of(one, plan.validation),
                    digest=candles_hash([one]),
                )
            )
            yield one

    digest = candles_hash(reading())
    return tuple(facts), digest


def _check_windows(plan: TrainPlan, series: CandleSeries) -> None:
    shortest = CONTEXT_BARS + plan.model.future_bars  # one window and its outcome
    for name, period in (("training", plan.train), ("validation", plan.validation)):
        start, stop = positions_of(series, period)
        if stop - start < shortest:
            found = f"{stop - start} of {series.symbol} in the {name} period, {period[0]:%Y-%m-%d} to {period[1]:%Y-%m-%d}"
            raise BadCandles("candles", found, f"at least {shortest} of each symbol")


def check_workers(plan: TrainPlan) -> None:
    """Check that every worker gets a window of each batch.

    Raises:
        BadSetting: If there may be more workers than windows in a batch, or fewer at most than at least.
    """
    fewest, most = plan.worker_range
    if fewest > most:
        raise BadSetting(f"workers: found {plan.workers}; allowed: MIN:MAX with MIN up to MAX, as in 1:4")
    if most > plan.training.batch_size:
        allowed = f"at most {plan.training.batch_size}, for that many windows of a batch (training.batch_size) are shared out"
        raise BadSetting(f"workers: found {plan.workers}; allowed: {allowed}")
