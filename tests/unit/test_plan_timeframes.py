"""A run of several timeframes: what each contributes, where it ends, who decides when to stop, and what is calibrated."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from fxcast.cluster.train_card import model_card
from fxcast.cluster.train_plan import SeriesFacts, TrainPlan, calibration_facts, main_facts, survey
from fxcast.cluster.train_storage import RunStorage
from fxcast.cluster.train_windows import chosen_windows
from fxcast.cluster.window_encoding import encode_shard, load_shard, width_hash
from fxcast.cluster.window_shards import Encoding, plan_shards
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadModelFolder, BadSetting
from fxcast.models.autoencoder import load_autoencoder, weights_hash
from fxcast.models.config import LDM4TSConfig
from fxcast.models.folder import save_pretrained
from fxcast.training.callbacks import Callbacks
from fxcast.training.charts import windows_of
from fxcast.training.config import TrainingConfig
from fxcast.training.width import fit_width
from jobs.train import TrainJob, plan_training
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_pipeline

START = datetime(2017, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TRAIN_STOP, VALIDATION, END = START + 700 * HOUR, START + 764 * HOUR, START + 1000 * HOUR
# Where the other timeframes' candles begin, long before the hours; all go on after the validation period.
BEGIN = START - 200 * HOUR
_OPTIONS = {"15m": (BEGIN, 4 * 1300), "1h": (START, 1100), "4h": (BEGIN, 325)}


def config_of(*others: str) -> LDM4TSConfig:
    return LDM4TSConfig.model_validate({**SMALL_CONFIG.model_dump(), "symbols": ("EURUSD",), "also_timeframes": others})


def make_plan(root: Path, *others: str, **changed: object) -> TrainPlan:
    plan = TrainPlan(
        name="run",
        store=str(root / "store"),
        symbols=("EURUSD",),
        train=(START, TRAIN_STOP),
        validation=(VALIDATION, END),
        also_since=BEGIN,
        model=config_of(*others),
        training=TrainingConfig(validation_windows=11),
        autoencoder=str(root / "vae"),
        storage_path=str(root / "train"),
    )
    return plan.model_copy(update=changed)


def candles_of(timeframe: str) -> CandleSeries:
    start, bars = _OPTIONS[timeframe]
    return make_series(bars=bars, timeframe=timeframe, start=start, range_width=1e-4, seed=Timeframe(timeframe).minutes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    for timeframe in _OPTIONS:
        CandleStore(str(tmp_path / "store")).append(candles_of(timeframe))
    return tmp_path


def test_every_pair_is_read_in_every_timeframe_those_of_the_main_one_first(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "4h", "15m", symbols=("EURUSD", "USDJPY"))
    named = [f"{symbol} {timeframe}" for symbol, timeframe in plan.series]
    assert named == ["EURUSD 1h", "USDJPY 1h", "EURUSD 15m", "USDJPY 15m", "EURUSD 4h", "USDJPY 4h"]
    assert len(make_plan(tmp_path).series) == 1


def test_each_timeframe_ends_its_own_longest_horizon_before_validation_begins_or_where_the_main_one_does(root: Path) -> None:
    plan = make_plan(root, "15m", "4h")
    stops = {name: plan.train_stop(Timeframe(name)) for name in ("1h", "15m", "4h")}
    assert stops == {"1h": TRAIN_STOP, "15m": TRAIN_STOP, "4h": VALIDATION - 64 * 4 * HOUR}
    facts, _ = survey(plan)
    for one in facts:
        series = plan.read(one.symbol, one.timeframe)
        start, stop = one.train
        assert to_datetime(series.close_times[stop - 1]) == stops[one.timeframe.name]
        assert to_datetime(series.open_times[start]) == _OPTIONS[one.timeframe.name][0]
        first, last = one.validation
        assert to_datetime(series.open_times[first]) == VALIDATION
        assert last == len(series)
        assert to_datetime(series.close_times[-1]) == END
    assert plan.data_start == BEGIN
    assert make_plan(root).model_copy(update={"also_since": None}).data_start == START


def test_a_candle_that_has_not_closed_when_a_period_ends_belongs_to_none(root: Path) -> None:
    plan = make_plan(root, "4h", train=(START, TRAIN_STOP), validation=(VALIDATION, END - HOUR))
    series = plan.read("EURUSD", Timeframe("4h"))
    assert to_datetime(series.open_times[-1]) == END - 8 * HOUR, "the next is open when validation ends"
    early = plan.model_copy(update={"validation": (VALIDATION - HOUR, END)})
    (_, stop), (start, _) = early.periods_of(early.read("EURUSD", Timeframe("4h")))
    assert to_datetime(series.close_times[stop - 1]) == VALIDATION - 64 * 4 * HOUR - 4 * HOUR, "an hour less is a candle less"
    assert to_datetime(series.open_times[start]) == VALIDATION


def test_training_is_the_same_whatever_happens_from_the_validation_period_on(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    for timeframe in _OPTIONS:
        series = candles_of(timeframe)
        later = series.close_times > to_datetime64(VALIDATION)
        values = series.values.copy()
        values[later, :4] *= np.exp(np.random.default_rng(1).normal(0.0, 0.01, later.sum()))[:, None]
        CandleStore(str(other / "store")).append(replace(series, values=values))
    seen = list[list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]]()
    for folder in (root, other):
        plan = make_plan(folder, "15m", "4h")
        facts, _ = survey(plan)
        windows = list(chosen_windows(plan, facts, "train", 100_000))
        assert [part.windows.timeframe.name for part in windows] == ["1h", "15m", "4h"]
        assert [len(part) for part in windows] == [plan.windows_in(one.train) for one in facts]
        seen.append([array for part in windows for array in (part.windows.candles, part.moves, part.volatility)])
    assert all(np.array_equal(mine, others) for mine, others in zip(*seen, strict=True))


def test_a_series_that_the_store_lacks_is_named_with_those_that_it_has(root: Path) -> None:
    with pytest.raises(BadCandles, match="series: found EURUSD 5m; allowed: EURUSD 15m, EURUSD 1h, EURUSD 4h"):
        survey(make_plan(root, "5m"))


def test_a_series_of_another_timeframe_without_a_training_window_is_refused(root: Path) -> None:
    CandleStore(str(root / "store")).append(make_series(bars=2000, timeframe="5m", start=VALIDATION - 13 * HOUR))
    with pytest.raises(
        BadCandles, match=r"found 92 of EURUSD 5m that close by 2017-04-01 14:40, .*at least 164 of each symbol and timeframe"
    ):
        survey(make_plan(root, "5m", train=(START, VALIDATION)))


def test_a_series_of_another_timeframe_needs_no_validation_windows(root: Path) -> None:
    CandleStore(str(root / "store")).append(make_series(bars=500, timeframe="5m", start=START, range_width=1e-4))
    plan = make_plan(root, "5m")
    facts, _ = survey(plan)
    assert [plan.windows_in(one.validation) for one in facts] == [236 - 163, 0]
    assert [part.windows.timeframe.name for part in chosen_windows(plan, facts, "validation", 30)] == ["1h"]
    with pytest.raises(BadCandles, match="0 of EURUSD in the validation period"):  # the main one does
        survey(make_plan(root, model=LDM4TSConfig(timeframe="5m", horizons_minutes=(20, 80, 320))))


def test_those_with_windows_enough_are_calibrated_and_the_main_one_always(root: Path) -> None:
    plan = make_plan(root, "15m", "4h")
    facts, _ = survey(plan)
    chosen = calibration_facts(plan, facts)
    assert list(chosen) == ["1h", "15m"], "944 quarters of an hour lie in the validation period, and 59 candles of four hours"
    assert [one.timeframe.name for one in (*chosen["1h"], *chosen["15m"])] == ["1h", "15m"]
    assert chosen["1h"] == main_facts(plan, facts)

    def with_windows(count: int, symbol: str) -> SeriesFacts:
        return replace(facts[1], symbol=symbol, validation=(0, count + 163))

    few, enough = with_windows(255, "EURUSD"), with_windows(256, "USDJPY")
    assert list(calibration_facts(plan, [facts[0], few])) == ["1h"], "four longest horizons at least"
    assert calibration_facts(plan, [facts[0], few, enough])["15m"] == (few, enough)


def test_every_timeframe_is_encoded_for_training_and_the_main_one_alone_for_validation(root: Path) -> None:
    plan = make_plan(root, "15m", "4h")
    make_pipeline().vae.save_pretrained(plan.autoencoder, safe_serialization=True)
    facts, _ = survey(plan)
    shards = plan_shards(plan, facts)
    assert {(shard.split, shard.timeframe) for shard in shards} == {
        *(("train", name) for name in ("1h", "15m", "4h")),
        ("validation", "1h"),
    }
    assert sum(shard.windows for shard in shards if shard.split == "validation") == 11
    for one in facts:
        own = [shard for shard in shards if (shard.split, shard.timeframe) == ("train", one.timeframe.name)]
        assert sum(shard.windows for shard in own) == -(-plan.windows_in(one.train) // 2)
    state = {name: value.numpy() for name, value in make_pipeline(config=plan.model).width.state_dict().items()}
    encoding = Encoding(
        plan=plan,
        facts=facts,
        storage=RunStorage.of(plan.storage_path, plan.name),
        width=state,
        vae_hash=weights_hash(load_autoencoder(plan.autoencoder)),
        width_hash=width_hash(state),
    )
    lengths = list[float]()
    for name in ("1h", "4h"):
        shard = next(shard for shard in shards if shard.timeframe == name)
        encode_shard(encoding, shard, plan.read("EURUSD", Timeframe(name)))
        windows = load_shard(encoding.storage, encoding.key, shard)
        assert len(windows) == shard.rows
        lengths += windows.features.state[:, -1].unique().tolist()
    assert lengths == pytest.approx([np.log(60) / 4, np.log(240) / 4], rel=1e-3)


def test_the_width_network_learns_from_all_timeframes_at_once() -> None:
    torch.set_num_threads(1)

    def ignore(*said: object) -> None:
        del said

    callbacks = Callbacks(wrap=lambda module: module, progress=ignore, checkpoint=ignore)
    config, training = config_of("15m"), TrainingConfig(width_steps=2)
    pipeline = make_pipeline(config=config)
    hours, quarters = (windows_of(candles_of(name).slice(0, 400), config.at(name)) for name in ("1h", "15m"))
    fit_width(pipeline, hours, hours, training, callbacks, also_train=[quarters])
    length = pipeline.width.centre[np.argmin(np.abs(pipeline.width.centre.numpy() - np.log(30) / 4))].item()
    assert length == pytest.approx(np.log(30) / 4, abs=1e-3), "half of them are of 60 minutes, half of 15"


def test_the_card_says_what_each_timeframe_was_trained_and_calibrated_on(root: Path) -> None:
    plan = make_plan(root, "15m", "4h")
    facts, _ = survey(plan)
    card = model_card(plan, facts, {"step": 3}, {"denoiser": 1.5}, "ab" * 32)
    assert (
        "- Also 15m candles, horizons 60, 240, 960 minutes: trained on 3,600 of EURUSD, from 2017-02-20 16:00 at the earliest to "
        "2017-03-30 04:00 UTC; calibrated on those of the validation period\n"
    ) in card
    assert "to 2017-03-22 04:00 UTC; with the calibration of 1h, for the validation period has too few of them" in card
    assert "Also" not in model_card(make_plan(root), facts[:1], {}, {}, "")


@pytest.fixture
def job(root: Path) -> TrainJob:
    return TrainJob(name="run", store=str(root / "store"), models=root / "models")


def test_a_job_names_other_timeframes_beside_its_own(job: TrainJob) -> None:
    plan = plan_training(job.model_copy(update={"also_timeframes": ("4h", "15m")}))
    assert plan.model.timeframes == ("1h", "15m", "4h")
    assert (plan.also_since, plan.data_start, plan.train[0]) == (BEGIN, BEGIN, START)
    alone = plan_training(job)
    assert (alone.train, alone.validation) == (plan.train, plan.validation), "the main timeframe alone decides the periods"
    assert alone.also_since is None
    assert TrainJob.parse(["--timeframe", "1m", "--also-timeframes", "5m", "--also-timeframes", "15m"]).also_timeframes == (
        "5m",
        "15m",
    )


@pytest.mark.parametrize("named", [("15m", "15m"), ("1h",), ("2h",)])
def test_a_job_refuses_a_timeframe_that_is_named_twice_or_unknown(job: TrainJob, named: tuple[str, ...]) -> None:
    with pytest.raises(BadSetting, match="also_timeframes: found"):
        plan_training(job.model_copy(update={"also_timeframes": named}))


def test_a_run_that_begins_with_a_model_learns_no_timeframe_that_the_model_does_not_know(job: TrainJob, root: Path) -> None:
    pipeline = make_pipeline(config=config_of("15m", "4h"))
    save_pretrained(pipeline, root / "start", card="# start\n", fxcast_version="0.1.0", data_end=START)

    def planned(*others: str, timeframe: str = "1h") -> LDM4TSConfig:
        changed = {"start_from": str(root / "start"), "also_timeframes": others, "timeframe": timeframe}
        return plan_training(job.model_copy(update=changed)).model

    assert planned("4h").timeframes == ("1h", "4h")
    assert planned("1h", timeframe="15m").horizons_minutes == (60, 240, 960)
    with pytest.raises(BadModelFolder, match="is for 1h, 15m, 4h candles, expected 5m"):
        planned("5m")
