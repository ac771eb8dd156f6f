"""A training run is refused before Ray starts anything; its checkpoints say of which run they are; its model arrives whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import ray.train
from pyarrow import fs

from fxcast import __version__
from fxcast.adapters.storage.registry import RegisteredModel
from fxcast.cluster.train_card import code_version
from fxcast.cluster.train_checkpoint import IDENTITY_FILE, MODEL_FOLDER, claim, install_model, refuse_another_run, write_identity
from fxcast.cluster.train_driver import torch_config, train_model
from fxcast.cluster.train_storage import RunStorage, StageResult
from fxcast.data.store import CandleStore
from fxcast.errors import BadCandles, BadModelFolder, BadSetting
from fxcast.models.autoencoder import SHIPPED_TINY_VAE, check_autoencoder, load_autoencoder, new_tiny_autoencoder, weights_hash
from fxcast.models.config import preset_config
from fxcast.models.folder import save_pretrained
from fxcast.training.config import TrainingConfig
from jobs.train import TrainJob, describe, main, plan_training
from tests.factories import make_series
from tests.model_factories import make_pipeline

IDENTITY: dict[str, Any] = {"symbols": ["EURUSD"], "training": {"seed": 0, "steps": 400}, "workers": 2, "candles_hash": "ab" * 32}


def ignore(_stage: str, _done: int, _total: int) -> None: ...


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    store = CandleStore(tmp_path / "store")
    store.append(make_series(bars=1200))
    store.append(replace(make_series(bars=500), symbol="GBPUSD"))
    return TrainJob(name="run", store=str(tmp_path / "store"), models=tmp_path / "models")


@pytest.fixture
def refused(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Train with some settings changed; nothing of Ray may be started."""

    def started(*_: object, **__: object) -> None:
        pytest.fail("Ray was started")

    def train(**changed: object) -> None:
        monkeypatch.setattr("fxcast.cluster.train_driver.Queue", started)
        train_model(plan_training(job.model_copy(update=changed)), ignore)

    return train


def test_an_autoencoder_of_another_preset_is_refused_before_anything_starts(refused: Callable[..., None]) -> None:
    with pytest.raises(BadModelFolder, match=r"tiny_vae: .*4×56×56 latents; preset 'paper' needs .*4×28×28 latents"):
        refused(preset="paper")


def test_each_preset_takes_autoencoders_of_its_own_shape() -> None:
    vae = new_tiny_autoencoder()
    check_autoencoder(vae, preset_config("tiny", "1h"), "here")
    vae.register_to_config(latent_channels=8)
    with pytest.raises(BadModelFolder, match=r"8×8×8 latents; preset 'tiny' needs .*4×8×8"):
        check_autoencoder(vae, preset_config("tiny", "1h"), "here")


def test_a_text_encoder_that_is_not_there_is_refused_before_anything_starts(refused: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match="no text encoder can be loaded"):
        refused(text_encoder=str(tmp_path / "absent"))


def test_any_symbol_with_too_few_candles_is_refused_before_anything_starts(refused: Callable[..., None]) -> None:
    with pytest.raises(BadCandles, match=r"0 of GBPUSD in the validation period.*at least 164"):
        refused(symbols=("EURUSD", "GBPUSD"))


@pytest.mark.parametrize(
    ("workers", "what"),
    [
        ("3", r"found 3; allowed: at most 2, for that many windows of a batch \(training\.batch_size\) are shared out"),
        ("1:3", "found 1:3; allowed: at most 2"),
        ("2:1", "found 2:1; allowed: MIN:MAX with MIN up to MAX, as in 1:4"),
    ],
)
def test_more_workers_than_windows_of_a_batch_are_refused_before_anything_starts(
    refused: Callable[..., None], workers: str, what: str
) -> None:
    with pytest.raises(BadSetting, match=f"workers: {what}"):
        refused(training=TrainingConfig(batch_size=2), workers=workers)


@pytest.mark.parametrize("workers", ["0", "two", "1:", "1-4"])
def test_a_number_of_workers_is_a_number_or_a_range(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--workers", workers]) == 2
    assert f"workers: found '{workers}'" in capsys.readouterr().err


def test_a_symbol_named_twice_is_refused(refused: Callable[..., None]) -> None:
    with pytest.raises(BadSetting, match="symbols: found EURUSD, EURUSD; allowed: each once"):
        refused(symbols=("EURUSD", "EURUSD"))


def test_a_stage_whose_forerunner_is_not_done_is_refused_before_anything_starts(job: TrainJob) -> None:
    with pytest.raises(BadSetting, match="stage: found fusion, but width of run run is not done"):
        train_model(plan_training(job), ignore, stage="fusion")


def test_folders_of_a_plan_are_absolute_and_hub_names_stay(job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vae").mkdir()
    changed = {"autoencoder": "vae", "text_encoder": "openai/clip-vit-base-patch32", "storage_path": "train"}
    plan = plan_training(job.model_copy(update=changed))
    assert plan.autoencoder == str(tmp_path / "vae")
    assert plan.text_encoder == "openai/clip-vit-base-patch32"
    assert plan.storage_path == str(tmp_path / "train")
    assert plan_training(job.model_copy(update={"storage_path": "s3://bucket/train"})).storage_path == "s3://bucket/train"


def test_workers_with_real_gpus_keep_gloo_for_cpu_tensors() -> None:
    assert torch_config(has_cuda=True).backend == "cpu:gloo,cuda:nccl"
    assert torch_config(has_cuda=False).backend == "gloo"


def test_a_run_that_keeps_its_identity_in_its_folder_is_compared_before_it_has_a_checkpoint(tmp_path: Path) -> None:
    claim(RunStorage.of(str(tmp_path), "run"), IDENTITY)
    refuse_another_run(IDENTITY, storage_path=str(tmp_path), name="run")
    with pytest.raises(BadSetting, match="workers was 2, is 3"):
        refuse_another_run(IDENTITY | {"workers": 3}, storage_path=str(tmp_path), name="run")


def test_a_stage_is_done_when_all_that_it_made_is_kept(tmp_path: Path) -> None:
    storage = RunStorage.of(str(tmp_path / "train"), "run")
    made = tmp_path / "made"
    (made / "unet").mkdir(parents=True)
    (made / "unet" / "weights").write_bytes(b"first")
    result = StageResult(metrics={"step": 3, "best_loss": 0.5}, seconds=1.5, facts={"key": "ab"})
    for stage in ("width", "denoiser", "fusion"):
        assert storage.result(stage) is None
        storage.finish(stage, result, made)
        assert storage.result(stage) == result
    with storage.made_by("denoiser").as_directory() as folder:
        assert (Path(folder) / "unet" / "weights").read_bytes() == b"first"
    (tmp_path / "train" / "run" / "train" / "checkpoint_1").mkdir(parents=True)
    storage.forget("denoiser")
    assert [storage.result(stage) is None for stage in ("width", "denoiser", "fusion")] == [False, True, True]
    assert not (tmp_path / "train" / "run" / "train").exists(), "checkpoints on the way to it go too"


def test_a_checkpoint_whose_writer_died_before_it_was_reported_does_not_stay(tmp_path: Path) -> None:
    storage = RunStorage.of(str(tmp_path), "run")
    train = tmp_path / "run" / "train"
    for name in ("checkpoint_best", "checkpoint_last", "checkpoint_orphan", "events"):
        (train / name).mkdir(parents=True)
    (train / "checkpoint_manager_snapshot.json").write_text("{}")
    best, last = (ray.train.Checkpoint(train / f"checkpoint_{name}") for name in ("best", "last"))
    storage.keep_checkpoints(
        ray.train.Result(metrics=None, checkpoint=last, error=None, path=str(train), best_checkpoints=[(best, {})])
    )
    assert {path.name for path in train.iterdir()} == {
        "checkpoint_best",
        "checkpoint_last",
        "events",
        "checkpoint_manager_snapshot.json",
    }


def test_the_code_that_trains_is_named_by_version_and_commit(tmp_path: Path) -> None:
    assert code_version(tmp_path) == __version__
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\n0123456789abcdef refs/heads/main\n")
    assert code_version(tmp_path) == f"{__version__}+0123456789ab"
    (git / "refs" / "heads" / "main").write_text("fedcba98765432100000\n")
    assert code_version(tmp_path) == f"{__version__}+fedcba987654"
    (git / "HEAD").write_text("aaaabbbbccccdddd\n")
    assert code_version(tmp_path) == f"{__version__}+aaaabbbbcccc"


def checkpoint_of(run: Path, identity: dict[str, Any], name: str = "checkpoint_1") -> None:
    (run / name).mkdir(parents=True)
    write_identity(identity, run / name)


def test_a_run_is_resumed_only_by_its_own_plan_on_its_own_candles(tmp_path: Path) -> None:
    def check(**changed: object) -> None:
        refuse_another_run(IDENTITY | changed, storage_path=str(tmp_path), name="run")

    check(workers=9)  # there is no such run yet
    checkpoint_of(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / "checkpoint_2").mkdir()  # its upload was cut short
    (tmp_path / "run" / "checkpoint_manager_snapshot.json").write_text("{}")  # Ray's own
    check()
    with pytest.raises(BadSetting, match=r"a run named run of another plan: training\.seed was 0, is 1; workers was 2, is 3;"):
        check(training={"seed": 1, "steps": 400}, workers=3)
    with pytest.raises(BadSetting, match="candles_hash was"):
        check(candles_hash="cd" * 32)


def test_a_run_in_remote_storage_is_compared_too(tmp_path: Path) -> None:
    checkpoint_of(tmp_path / "run", IDENTITY)
    with pytest.raises(BadSetting, match="workers was 2, is 3"):
        refuse_another_run(IDENTITY | {"workers": 3}, storage_path=tmp_path.as_uri(), name="run")
    with pytest.raises(BadSetting, match="storage_path 'nowhere://bucket'"):
        refuse_another_run(IDENTITY, storage_path="nowhere://bucket", name="run")


def test_an_unreadable_identity_is_refused(tmp_path: Path) -> None:
    checkpoint_of(tmp_path / "run", IDENTITY)
    (tmp_path / "run" / "checkpoint_1" / IDENTITY_FILE).write_text("{")
    with pytest.raises(BadSetting, match="storage_path"):
        refuse_another_run(IDENTITY, storage_path=str(tmp_path), name="run")


def test_the_hash_of_an_autoencoder_is_that_of_its_weights_not_of_its_folder(tmp_path: Path) -> None:
    shipped = load_autoencoder(SHIPPED_TINY_VAE)
    shipped.save_pretrained(tmp_path, safe_serialization=True)
    assert weights_hash(load_autoencoder(tmp_path)) == weights_hash(shipped)
    assert weights_hash(new_tiny_autoencoder()) != weights_hash(shipped)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """Where the storage below keeps one whole and one broken model."""
    root = tmp_path / "bucket"
    save_pretrained(make_pipeline(), root / "whole" / MODEL_FOLDER, card="# small\n", fxcast_version="0.1.0")
    save_pretrained(make_pipeline(), root / "broken" / MODEL_FOLDER, card="# small\n", fxcast_version="0.1.0")
    (root / "broken" / MODEL_FOLDER / "unet" / "config.json").unlink()
    return root


def install(bucket: Path, name: str, folder: Path) -> None:
    """Install from a storage whose paths mean nothing on the local disk, as an object store's."""
    remote = fs.SubTreeFileSystem(str(bucket), fs.LocalFileSystem())
    install_model(ray.train.Checkpoint(name, filesystem=remote), folder, preset="tiny", timeframe="1h")


def test_a_model_is_fetched_from_remote_storage(bucket: Path, tmp_path: Path) -> None:
    install(bucket, "whole", tmp_path / "models" / "new")
    assert (tmp_path / "models" / "new" / "card.md").read_text() == "# small\n"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["new"]


def test_a_model_that_is_not_whole_leaves_nothing_in_the_models_folder(bucket: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match=r"unet/config\.json"):
        install(bucket, "broken", tmp_path / "models" / "new")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_model_never_replaces_another(bucket: Path, tmp_path: Path) -> None:
    install(bucket, "whole", tmp_path / "models" / "new")
    (tmp_path / "models" / "new" / "card.md").write_text("mine")
    with pytest.raises(BadSetting, match="a model named new exists"):
        install(bucket, "whole", tmp_path / "models" / "new")
    assert (tmp_path / "models" / "new" / "card.md").read_text() == "mine"


@pytest.mark.parametrize(("stopped_by", "lines"), [("time", 3), ("patience", 2), ("steps", 2)])
def test_a_training_that_time_cut_short_says_so(stopped_by: str, lines: int) -> None:
    model = RegisteredModel(
        version="run",
        preset="tiny",
        symbol="EURUSD",
        timeframe="1h",
        folder=Path("models/run"),
        config={},
        data_hash="",
        data_start=datetime(2017, 1, 2, tzinfo=UTC),
        data_end=datetime(2017, 9, 1, tzinfo=UTC),
        metrics={"step": 150, "stopped_by": stopped_by, "best_loss": 0.5},
    )
    said = describe(model, TrainingConfig(max_seconds=80.0))
    assert len(said) == lines
    assert said[0] == "model run in models/run"
    if stopped_by == "time":
        assert said[-1].startswith("time was up at step 150 of 400: training.max_seconds is 80")
