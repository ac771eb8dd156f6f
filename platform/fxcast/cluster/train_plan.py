"""What a training run is made of, and the candles that it is made of; nothing here loads torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
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


# Validation windows that a timeframe needs for a calibration of its own, in longest horizons of one series: the outcomes of
# neighbours are nearly the same, and the mean is let in only if it was right in each of four quarters.
_LEAST_CALIBRATED = 4


class TrainPlan(Settings):
    """All that a training run is made of; plain values, so that it travels to the workers.

    `train` and `validation` are those of the main timeframe. What lies before the validation period is training data of the other
    timeframes too; see `periods_of`.
    """

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
    also_since: AwareDatetime | None = Field(
        default=None,
        description="where the candles of the model's other timeframes begin; with None where those of the main one do",
    )
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
    def gpus_each(self) -> float:
        """GPUs of a task or worker that needs one: 1, or the fraction of it that a worker has."""
        return min(self.resources_per_worker.get("GPU", 1.0), 1.0) if self.use_gpu else 0.0

    @property
    def series(self) -> tuple[tuple[str, Timeframe], ...]:
        """Symbol and timeframe of every series, in a fixed order: those of the main timeframe first."""
        return tuple((symbol, Timeframe(name)) for name in self.model.timeframes for symbol in self.symbols)

    @property
    def data_start(self) -> datetime:
        """Where the candles of all series begin."""
        return self.train[0] if self.also_since is None else min(self.train[0], self.also_since)

    def is_main(self, timeframe: Timeframe) -> bool:
        """Tell whether it is the timeframe that is validated."""
        return timeframe.name == self.model.timeframe

    def train_stop(self, timeframe: Timeframe) -> datetime:
        """Return when a timeframe's training period ends, its longest horizon or more before validation begins.

        As many bars reach further in a longer timeframe, so that the main one's purge is not enough for it.
        """
        if self.is_main(timeframe):
            return self.train[1]
        return min(self.train[1], self.validation[0] - self.model.future_bars * timeframe.duration)

    def read(self, symbol: str, timeframe: Timeframe) -> CandleSeries:
        """Read the candles of one series in the training and validation periods, none that closes later."""
        start = self.train[0] if self.is_main(timeframe) or self.also_since is None else self.also_since
        series = CandleStore(self.store).read(symbol, timeframe, start=start, stop=self.validation[1])
        return series if self.is_main(timeframe) else series.slice(0, _closed_by(series, self.validation[1]))

    def periods_of(self, series: CandleSeries) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return training and validation as half-open ranges of positions of a series, as `read` gives it.

        Of the main timeframe that are the candles which open in the plan's periods. A candle of another one belongs to training if
        it has closed by `train_stop`, however early it opened; and to validation if it opens and closes in that period.
        """
        start, stop = positions_of(series, self.validation)
        if self.is_main(series.timeframe):
            return positions_of(series, self.train), (start, stop)
        return (0, _closed_by(series, self.train_stop(series.timeframe))), (start, _closed_by(series, self.validation[1]))

    def windows_in(self, period: tuple[int, int]) -> int:
        """Return how many windows with their outcomes lie in a half-open range of positions."""
        start, stop = period
        return max(0, stop - start - CONTEXT_BARS + 1 - self.model.future_bars)


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


def _closed_by(series: CandleSeries, moment: datetime) -> int:
    """Return how many of a series' candles have closed by a moment."""
    return int(np.searchsorted(series.close_times, to_datetime64(moment), side="right"))


def main_facts(plan: TrainPlan, facts: Sequence[SeriesFacts]) -> tuple[SeriesFacts, ...]:
    """Return those of the main timeframe's series, which alone decide when training stops."""
    return tuple(one for one in facts if plan.is_main(one.timeframe))


def calibration_facts(plan: TrainPlan, facts: Sequence[SeriesFacts]) -> dict[str, tuple[SeriesFacts, ...]]:
    """Return, by timeframe, the series with validation windows to calibrate it on; the main timeframe is the first.

    Another one is left out, and takes over the main one's calibration, unless one of its series has a few times as many windows as
    its longest horizon has bars.
    """
    chosen = {plan.model.timeframe: main_facts(plan, facts)}
    for timeframe in plan.model.also_timeframes:
        windows = {one: plan.windows_in(one.validation) for one in facts if one.timeframe.name == timeframe}
        if max(windows.values(), default=0) >= _LEAST_CALIBRATED * plan.model.future_bars:
            chosen[timeframe] = tuple(one for one, count in windows.items() if count)
    return chosen


def positions_of(series: CandleSeries, period: tuple[datetime, datetime]) -> tuple[int, int]:
    """Return the half-open range of positions of the candles that open in a half-open period."""
    start, stop = (int(np.searchsorted(series.open_times, to_datetime64(moment))) for moment in period)
    return start, stop


def survey(plan: TrainPlan) -> tuple[tuple[SeriesFacts, ...], str]:
    """Read every series once, one at a time; return their facts, and a hash of all candles.

    Raises:
        BadCandles: If a series is missing, or has no window with its outcome in a period; only those of the main timeframe need one
            in the validation period.
    """
    facts: list[SeriesFacts] = []

    def reading() -> Iterator[CandleSeries]:
        for symbol, timeframe in plan.series:
            one = plan.read(symbol, timeframe)
            train, validation = plan.periods_of(one)
            _check_windows(plan, one, train, validation)
            facts.append(
                SeriesFacts(
                    symbol=symbol,
                    timeframe=timeframe,
                    candles=len(one),
                    train=train,
                    validation=validation,
                    digest=candles_hash([one]),
                )
            )
            yield one

    digest = candles_hash(reading())
    return tuple(facts), digest


def _check_windows(plan: TrainPlan, series: CandleSeries, train: tuple[int, int], validation: tuple[int, int]) -> None:
    shortest = CONTEXT_BARS + plan.model.future_bars  # one window and its outcome
    if not plan.is_main(series.timeframe):
        if not plan.windows_in(train):
            stop = plan.train_stop(series.timeframe)
            found = f"{train[1]} of {series.symbol} {series.timeframe} that close by {stop:%Y-%m-%d %H:%M}, where its training ends"
            raise BadCandles("candles", found, f"at least {shortest} of each symbol and timeframe")
        return
    for name, period, (start, stop) in (("training", plan.train, train), ("validation", plan.validation, validation)):
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
