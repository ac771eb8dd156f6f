"""Encoded windows come back from Parquet; shards are planned over the whole period; their key changes with what they depend on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from fxcast.cluster.train_plan import SeriesFacts, TrainPlan, survey
from fxcast.cluster.train_storage import RunStorage
from fxcast.cluster.window_encoding import encode_shard, load_in_time_order, load_shard, width_hash
from fxcast.cluster.window_shards import Encoding, plan_shards, read_manifest
from fxcast.data.store import CandleStore
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadModelFolder
from fxcast.models.autoencoder import load_autoencoder, weights_hash
from fxcast.models.config import LDM4TSConfig
from fxcast.training.config import TrainingConfig
from fxcast.training.window_table import closing_times, from_parquet, to_parquet
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_pipeline
from tests.training_factories import make_latents, make_windows

START = datetime(2017, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("vae")
    make_pipeline().vae.save_pretrained(folder, safe_serialization=True)
    return folder


def make_plan(root: Path, vae: Path, *, symbols: tuple[str, ...] = ("EURUSD", "GBPUSD")) -> TrainPlan:
    return TrainPlan(
        name="run",
        store=str(root / "store"),
        symbols=symbols,
        train=(START, START + 700 * HOUR),
        validation=(START + 764 * HOUR, START + 1000 * HOUR),
        model=SMALL_CONFIG.model_copy(update={"symbols": symbols}),
        training=TrainingConfig(validation_windows=11),
        autoencoder=str(vae),
        storage_path=str(root / "train"),
    )


@pytest.fixture
def encoding(tmp_path: Path, vae: Path) -> Encoding:
    torch.set_num_threads(1)
    plan = make_plan(tmp_path, vae)
    for number, symbol in enumerate(plan.symbols):
        CandleStore(plan.store).append(make_series(bars=1000, symbol=symbol, seed=number, range_width=1e-4))
    facts, _ = survey(plan)
    state = {name: value.numpy() for name, value in make_pipeline(config=plan.model).width.state_dict().items()}
    return Encoding(
        plan=plan,
        facts=facts,
        storage=RunStorage.of(plan.storage_path, plan.name),
        width=state,
        vae_hash=weights_hash(load_autoencoder(vae)),
        width_hash=width_hash(state),
    )


def test_windows_come_back_from_parquet_to_half_a_thousandth() -> None:
    windows = make_windows(bars=200)
    latents = make_latents(windows)
    content = to_parquet(latents, windows.windows, mirrored=np.zeros(len(windows), dtype=np.bool_))
    read = from_parquet(content).full_precision()
    assert torch.equal(read.paths, latents.paths)
    assert torch.equal(read.volatility, latents.volatility)
    assert torch.allclose(read.past, latents.past, rtol=5e-4, atol=1e-4)
    assert torch.allclose(read.features.candles, latents.features.candles, rtol=5e-4, atol=1e-4)
    assert torch.equal(read.features.sentence, latents.features.sentence)
    assert np.array_equal(closing_times(content), windows.windows.closed_at)
    assert len(content) < 3000 * len(windows), "bytes a window"


def test_what_is_no_file_of_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="no windows"):
        from_parquet(b"PAR1 and nothing more")


def facts_of(candles: int, symbol: str = "EURUSD") -> SeriesFacts:
    middle = candles // 2
    return SeriesFacts(
        symbol=symbol, timeframe=Timeframe("1h"), candles=candles, train=(0, middle), validation=(middle, candles), digest="ab"
    )


@pytest.mark.parametrize(
    ("candles", "series", "shards"), [(400, 1, 8), (400, 3, 9), (20_000, 1, 8), (80_000, 1, 20), (40_000, 2, 20), (334, 1, 2)]
)
def test_training_shards_are_of_about_two_thousand_rows_and_at_least_eight_where_there_are_as_many_windows(
    tmp_path: Path, candles: int, series: int, shards: int
) -> None:
    names = ("EURUSD", "GBPUSD", "USDJPY")[:series]
    plan = make_plan(tmp_path, tmp_path, symbols=names)
    planned = plan_shards(plan, [facts_of(candles, symbol) for symbol in names])
    train = [shard for shard in planned if shard.split == "train"]
    assert len(train) == shards
    assert all(1 <= shard.rows <= 2048 for shard in train)
    assert sum(shard.windows for shard in train) == series * -(-(candles // 2 - 99 - 64) // 2), "every second window"
    assert len({shard.name for shard in planned}) == len(planned)
    validation = [shard.windows for shard in planned if shard.split == "validation"]
    assert sum(validation) == min(11, series * (candles // 2 - 163))


def test_shards_hold_every_window_and_its_mirror_image_once_and_each_is_spread_over_the_period(encoding: Encoding) -> None:
    shards = plan_shards(encoding.plan, encoding.facts)
    seen: list[int] = []
    for shard in shards[:4]:
        encode_shard(encoding, shard, encoding.plan.read(shard.symbol, Timeframe(shard.timeframe)))
        content = encoding.storage.read(f"{encoding.folder}/{shard.name}")
        windows, times = load_shard(encoding.storage, encoding.key, shard), closing_times(content)
        assert len(windows) == shard.rows == len(times)
        assert np.ptp(times) > 0.9 * 536 * 3600, "from the beginning of the period to its end"
        assert not np.array_equal(times, np.sort(times))
        order = np.argsort(times, kind="stable")
        first, second = (windows.take(torch.from_numpy(order[half::2])) for half in (0, 1))
        assert torch.allclose(first.paths, -second.paths, atol=1e-6), "each with its mirror image"
        seen += times[order[::2]].tolist()
    assert len(seen) == len(set(seen)) == 269
    again = encoding.storage.read(f"{encoding.folder}/{shards[0].name}")
    encode_shard(encoding, shards[0], encoding.plan.read("EURUSD", Timeframe("1h")))
    assert encoding.storage.read(f"{encoding.folder}/{shards[0].name}") == again, "a completed encoding is the same"


def test_validation_windows_of_all_series_come_in_time_order(encoding: Encoding) -> None:
    shards = [shard for shard in plan_shards(encoding.plan, encoding.facts) if shard.split == "validation"]
    assert [shard.windows for shard in shards] == [6, 5]
    for shard in shards:
        encode_shard(encoding, shard, encoding.plan.read(shard.symbol, Timeframe(shard.timeframe)))
    windows = load_in_time_order(encoding.storage, encoding.key, shards)
    assert len(windows) == 11
    assert windows.features.symbol.tolist()[:2] == [1, 2], "both begin at the same hour"
    assert read_manifest(encoding.storage, encoding.key) is None, "who encodes all of them writes it"


def test_the_key_changes_with_whatever_the_windows_depend_on_and_with_nothing_else(encoding: Encoding) -> None:
    plan = encoding.plan

    def key(**changed: object) -> str:
        return replace(encoding, **changed).key  # pyright: ignore[reportArgumentType] - each case names its own field

    def planned(**changed: object) -> str:
        return key(plan=plan.model_copy(update=changed))

    def model(**changed: object) -> LDM4TSConfig:
        return plan.model.model_copy(update=changed)

    first = encoding.facts[0]
    others = [
        key(vae_hash="other"),
        key(width_hash="other"),
        key(facts=(replace(first, digest="other"), *encoding.facts[1:])),
        key(facts=(replace(first, train=(0, 699)), *encoding.facts[1:])),
        key(facts=encoding.facts[:1]),
        planned(training=plan.training.model_copy(update={"window_stride_bars": 3})),
        planned(training=plan.training.model_copy(update={"validation_windows": 12})),
        planned(model=model(volatility_span_bars=60)),
        planned(model=model(symbols=("EURUSD",))),
    ]
    assert len({encoding.key, *others}) == len(others) + 1
    assert planned(name="another", workers="4", training=plan.training.model_copy(update={"steps": 9})) == encoding.key
    assert planned(model=model(unet_channels=(8, 8), sampler_steps=9)) == encoding.key


def test_another_autoencoder_than_the_one_that_the_run_began_with_is_refused(encoding: Encoding) -> None:
    shard = plan_shards(encoding.plan, encoding.facts)[0]
    series = encoding.plan.read(shard.symbol, Timeframe(shard.timeframe))
    with pytest.raises(BadModelFolder, match="the autoencoder is another one here"):
        encode_shard(replace(encoding, vae_hash="other"), shard, series)
    assert encoding.storage.files(encoding.folder) == set()
