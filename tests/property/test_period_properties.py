"""What is fitted sees its own period alone, and no outcome of a period is known in the next."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxcast.adapters.storage.database import migrate
from fxcast.cluster.train_plan import TrainPlan, plan_periods, positions_of, survey
from fxcast.cluster.train_sssd import SSSDPlan
from fxcast.cluster.train_windows import chosen_windows
from fxcast.data.store import CandleStore
from fxcast.data.windows import window_ends
from fxcast.domain.candle import to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.evaluation.rolling import rolling_ends
from fxcast.models.baselines.folder import check_opponent
from fxcast.models.baselines.garch import Garch
from fxcast.models.baselines.sssd_config import SSSDConfig
from fxcast.models.baselines.time_of_day import TimeOfDayWalk
from fxcast.models.config import preset_config
from fxcast.models.load import load_forecaster
from fxcast.training.calibrate import calibrate
from fxcast.training.callbacks import Callbacks
from fxcast.training.charts import join
from fxcast.training.config import TrainingConfig
from fxcast.training.sssd import Windows
from fxcast.training.width import fit_width
from jobs.train import TrainJob, plan_training
from jobs.train_opponent import TrainOpponentJob, train_opponent
from tests.look_ahead import PAIRS, WITH_OUTCOMES, Look, Market, leaks, make_market
from tests.model_factories import SMALL_CONFIG, make_pipeline

TRAINING = TrainingConfig(
    width_steps=12, width_windows=300, validation_windows=40, calibration_windows=20, calibration_samples=4, window_stride_bars=3
)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


# --- Splits ---


@settings(max_examples=60)
@given(
    seed=seeds,
    timeframe=st.sampled_from(["1m", "5m", "15m", "1h", "4h"]),
    missing=st.floats(0.0, 0.6),
    shares=st.tuples(st.floats(0.2, 0.3), st.floats(0.2, 0.3)),
)
def test_no_outcome_of_a_period_is_known_only_when_the_next_has_begun(
    seed: int, timeframe: str, missing: float, shares: tuple[float, float]
) -> None:
    """Weekends and gaps, of each pair its own: the periods are cut from the first one's candles, and hold for all."""
    config = preset_config("tiny", timeframe, PAIRS)
    market = make_market(seed, bars=2400 if timeframe == "1m" else 1200, timeframe=timeframe, missing=missing)
    periods = plan_periods(market[0], config, validation_share=shares[0], test_share=shares[1])
    longest = np.timedelta64(config.horizons_minutes[-1] * 60, "s")
    for period, later in pairwise(periods):
        assert positions_of(market[0], later)[0] - positions_of(market[0], period)[1] >= config.future_bars
        assert to_datetime64(later[0]) - to_datetime64(period[1]) >= longest, "a purge of other pairs too, whatever they lack"
        for series in market:
            own, following = (
                window_ends(series, future_bars=config.future_bars, start=start, stop=stop)
                for start, stop in (positions_of(series, each) for each in (period, later))
            )
            if len(own) and len(following):
                first_known = series.close_times[following[0]]
                assert (series.close_times[own + config.future_bars] + longest < first_known).all()
                assert (series.open_times[own - CONTEXT_BARS + 1] >= to_datetime64(period[0])).all()
    _, validation, _ = periods
    for series in market:  # where an evaluation begins by default: at `data_end`, which is the end of validation
        evaluated = rolling_ends(series, validation[1], to_datetime(series.close_times[-1]), step_bars=1)
        seen = window_ends(series, future_bars=config.future_bars, start=0, stop=positions_of(series, validation)[1])
        assert (series.close_times[evaluated] >= to_datetime64(validation[1])).all()
        assert (series.close_times[seen + config.future_bars] <= to_datetime64(validation[1])).all()


# --- Fits ---


def store_of(market: Market, folder: Path) -> str:
    for series in market:
        CandleStore(folder / "store").append(series)
    return str(folder / "store")


def job_of(store: str, *, until: datetime | None = None) -> TrainJob:
    return TrainJob(name="run", store=store, symbols=PAIRS, validation_share=0.25, test_share=0.25, training=TRAINING, until=until)


def seen_by(plan: TrainPlan) -> object:
    """Return all that a run reads: what it knows of the series, and windows of both periods with their outcomes."""
    facts, digest = survey(plan)
    windows = [
        join(list(chosen_windows(plan, facts, "train", 60, stride=plan.training.window_stride_bars))),
        join(list(chosen_windows(plan, facts, "validation", 40))),
    ]
    return facts, digest, windows, _seen_by_sssd(plan)


def _seen_by_sssd(plan: TrainPlan) -> object:
    shared = plan.model_dump(include={"name", "store", "symbols", "train", "validation", "training", "storage_path"})
    own = SSSDPlan(model=SSSDConfig(timeframe=plan.model.timeframe), **shared)
    series = own.series()
    both = [Windows.of(series, [positions_of(one, each) for one in series], own.model) for each in (own.train, own.validation)]
    return [(len(windows), tuple(windows.evenly(20).tensors()), windows.evenly(20).outcomes()) for windows in both]


def planned(market: Market) -> TrainPlan:
    with tempfile.TemporaryDirectory() as folder:
        return plan_training(job_of(store_of(market, Path(folder))))


def reading(plan: TrainPlan, compute: Callable[[TrainPlan], object]) -> Look:
    """Compute something by a fixed plan from whatever the store holds."""

    def look(market: Market, _moment: datetime) -> object:
        with tempfile.TemporaryDirectory() as folder:
            return compute(plan.model_copy(update={"store": store_of(market, Path(folder))}))

    return look


@settings(max_examples=5)
@given(seed=seeds)
def test_a_run_reads_nothing_that_comes_after_its_validation_period(seed: int) -> None:
    market, rng = make_market(seed, bars=900), np.random.default_rng(seed)
    plan = planned(market)
    assert leaks(reading(plan, seen_by), market, plan.validation[1], rng) == ()
    assert "prices" in leaks(reading(plan, seen_by), market, plan.train[1], rng, futures=["prices"])


@settings(max_examples=5)
@given(seed=seeds, known=st.integers(800, 890))
def test_a_run_until_a_moment_is_the_same_run_whatever_came_later(seed: int, known: int) -> None:
    def look(market: Market, moment: datetime) -> object:
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_training(job_of(store_of(market, Path(folder)), until=moment))
            return plan.train, plan.validation, seen_by(plan)

    market = make_market(seed, bars=900)
    moment = to_datetime(market[0].close_times[known - 1])
    assert leaks(look, market, moment, np.random.default_rng(seed)) == ()


def silent(*said: object) -> None:
    del said


def as_it_is(module: torch.nn.Module) -> torch.nn.Module:
    return module


CALLBACKS = Callbacks(wrap=as_it_is, progress=silent, checkpoint=silent)


def fitted(plan: TrainPlan) -> tuple[object, object]:
    """Fit the width network and the calibration as their stages do; returns the scalers, and the rest."""
    plan = plan.model_copy(update={"model": SMALL_CONFIG.model_copy(update={"symbols": PAIRS})})
    facts, _ = survey(plan)
    pipeline = make_pipeline(config=plan.model)
    train = join(list(chosen_windows(plan, facts, "train", TRAINING.width_windows, stride=TRAINING.window_stride_bars)))
    validation = join(list(chosen_windows(plan, facts, "validation", TRAINING.calibration_windows)))
    fit_width(pipeline, train, validation, plan.training, CALLBACKS)
    state = pipeline.width.state_dict()
    scalers = [state.pop(name).clone() for name in ("centre", "scale")]
    if plan.training.width_steps == 0:
        return scalers, None
    calibrated = calibrate(pipeline, validation, plan.training, CALLBACKS, "the validation period")
    return scalers, (state, calibrated.calibration.model_dump())


def test_width_network_and_calibration_know_nothing_that_comes_after_the_validation_period() -> None:
    market, rng = make_market(5, bars=900), np.random.default_rng(5)
    plan = planned(market)
    assert leaks(reading(plan, fitted), market, plan.validation[1], rng, futures=WITH_OUTCOMES) == ()
    assert leaks(reading(plan, fitted), market, plan.train[1], rng, futures=["prices"]) == ("prices",), "they do see validation"


def test_scalers_know_nothing_that_comes_after_the_training_period() -> None:
    market, rng = make_market(6, bars=900), np.random.default_rng(6)
    plan = planned(market)
    plan = plan.model_copy(update={"training": TRAINING.model_copy(update={"width_steps": 0})})
    look = reading(plan, fitted)
    assert leaks(look, market, plan.train[1], rng, futures=WITH_OUTCOMES) == ()
    assert leaks(look, market, to_datetime(market[0].close_times[200]), rng, futures=["volume"]) == ("volume",)


@pytest.mark.parametrize("kind", ["time-of-day", "garch"])
def test_an_opponent_of_the_job_knows_nothing_after_its_training_period(kind: str, tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path / 'registry.db'}"
    migrate(database_url)
    runs = iter(range(1000))

    def look(market: Market, _moment: datetime) -> object:
        with tempfile.TemporaryDirectory() as folder:
            job = TrainOpponentJob.model_validate(
                {
                    "kind": kind,
                    "name": f"run-{next(runs)}",
                    "store": store_of(market, Path(folder)),
                    "symbols": PAIRS,
                    "models": Path(folder) / "models",
                    "database_url": database_url,
                    "innovations": "normal",
                    "validation_share": 0.15,
                    "test_share": 0.15,
                }
            )
            made = train_opponent(job).folder
            index, opponent = check_opponent(made), load_forecaster(made)
            known = (index.data_start, index.data_end, index.data_hash)
            if isinstance(opponent, TimeOfDayWalk):
                return known, opponent.sizes
            assert isinstance(opponent, Garch)
            return known, [law.model_dump() for law in (*opponent.by_symbol.values(), opponent.pooled)]

    market, rng = make_market(8, bars=1400), np.random.default_rng(8)
    config = preset_config("tiny", "1h")
    train, _, _ = plan_periods(market[0], config, validation_share=0.15, test_share=0.15)
    # Of these none moves the periods, which are shares of the first pair's candles.
    same_count = ["prices", "volume", "next candle", "other pairs"]
    assert leaks(look, market, train[1], rng, futures=same_count) == ()
    shortly_before = to_datetime(market[0].close_times[positions_of(market[0], train)[1] - 40])
    assert {"prices", "other pairs"} <= set(leaks(look, market, shortly_before, rng, futures=same_count))
