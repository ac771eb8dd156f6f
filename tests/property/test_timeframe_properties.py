"""Whatever timeframes a run learns from, nothing that it trains on had happened when its validation period began."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fxcast.cluster.train_plan import TrainPlan
from fxcast.data.windows import window_ends
from fxcast.domain.candle import CandleSeries, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.models.config import preset_config
from fxcast.training.config import TrainingConfig
from tests.factories import make_series

START = datetime(2017, 3, 1, tzinfo=UTC)
NAMES = ("1m", "5m", "15m", "1h", "4h", "1d")
MINUTE = timedelta(minutes=1)


def plan_of(main: str, others: tuple[str, ...], *, train_minutes: int, purge_minutes: int, validation_minutes: int) -> TrainPlan:
    train_stop = START + train_minutes * MINUTE
    validation_start = train_stop + purge_minutes * MINUTE
    return TrainPlan(
        name="run",
        store="store",
        symbols=("EURUSD",),
        train=(START, train_stop),
        validation=(validation_start, validation_start + validation_minutes * MINUTE),
        model=preset_config("tiny", main, ("EURUSD",), others),
        training=TrainingConfig(),
        autoencoder="vae",
        storage_path="train",
    )


def with_gaps(series: CandleSeries, seed: int) -> CandleSeries:
    kept = np.random.default_rng(seed).random(len(series)) > 0.2
    return CandleSeries(
        symbol=series.symbol, timeframe=series.timeframe, open_times=series.open_times[kept], values=series.values[kept]
    )


@given(
    names=st.permutations(NAMES),
    minutes=st.tuples(st.integers(1, 40_000), st.integers(0, 3_000), st.integers(1, 20_000)),
    begins=st.integers(-20_000, 20_000),
    seed=st.integers(0, 1000),
)
def test_outcomes_of_other_timeframes_are_known_a_longest_horizon_before_validation_begins(
    names: list[str], minutes: tuple[int, int, int], begins: int, seed: int
) -> None:
    main, *others = names
    train, purge, validation = minutes
    plan = plan_of(main, tuple(others), train_minutes=train, purge_minutes=purge, validation_minutes=validation)
    for name in others:
        config = plan.model.at(name)
        longest = np.timedelta64(config.horizons_minutes[-1] * 60, "s")
        series = with_gaps(make_series(bars=1200, timeframe=name, start=START + begins * MINUTE), seed)
        trained, validated = (
            window_ends(series, future_bars=config.future_bars, start=start, stop=stop) for start, stop in plan.periods_of(series)
        )
        assert len(trained) == plan.windows_in(plan.periods_of(series)[0])
        outcomes_known = series.close_times[trained + config.future_bars]
        assert (outcomes_known <= to_datetime64(plan.train[1])).all()
        assert (outcomes_known + longest <= to_datetime64(plan.validation[0])).all()
        assert (series.open_times[validated - CONTEXT_BARS + 1] >= to_datetime64(plan.validation[0])).all()
        assert (series.close_times[validated + config.future_bars] <= to_datetime64(plan.validation[1])).all()
