"""A run that begins with a finished model goes on from there, and validates on nothing that the model has seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from fxcast.cluster.train_plan import TrainPlan
from fxcast.cluster.train_start import begin, check_same_autoencoder, check_start
from fxcast.errors import BadModelFolder, BadSetting
from fxcast.models.autoencoder import weights_hash
from fxcast.models.folder import save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import fit_denoiser
from fxcast.training.width import fit_width
from tests.model_factories import SMALL_CONFIG, make_pipeline
from tests.training_factories import HOPELESS, Listener, make_latents, make_windows, same, stream_of, validation_of, weights_of

SEEN = datetime(2016, 12, 31, 22, tzinfo=UTC)


def saved(folder: Path, pipeline: LDM4TSPipeline, *, data_end: datetime | None = SEEN) -> Path:
    save_pretrained(pipeline, folder, card="", fxcast_version="0", data_end=data_end)
    return folder


def plan_from(folder: Path | None) -> TrainPlan:
    return TrainPlan(
        name="fine",
        store="store",
        symbols=("EURUSD",),
        train=(SEEN, SEEN + timedelta(days=100)),
        validation=(SEEN + timedelta(days=110), SEEN + timedelta(days=150)),
        model=SMALL_CONFIG,
        training=TrainingConfig(),
        autoencoder="vae",
        storage_path="train",
        start_from=None if folder is None else str(folder),
    )


def test_a_model_that_has_seen_the_validation_period_or_does_not_say_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", make_pipeline())
    check_start(folder, validation_start=SEEN)
    with pytest.raises(BadSetting, match=r"seen candles up to 2016-12-31T22:00:00\+00:00, and validation begins at 2016-12-31T21"):
        check_start(folder, validation_start=SEEN - timedelta(hours=1))
    silent = saved(tmp_path / "silent", make_pipeline(), data_end=None)
    with pytest.raises(BadSetting, match="doesn't say until when"):
        check_start(silent, validation_start=SEEN)


def test_a_run_begins_with_what_the_model_has_learned(tmp_path: Path) -> None:
    learned, fresh = make_pipeline(seed=1), make_pipeline(seed=2)
    plan = plan_from(saved(tmp_path / "model", learned))
    begin(plan, fresh)
    assert same(weights_of(fresh), weights_of(learned))
    assert same(list(fresh.width.state_dict().values()), list(learned.width.state_dict().values()))
    untouched = make_pipeline(seed=2)
    begin(plan_from(None), untouched)
    assert same(weights_of(untouched), weights_of(make_pipeline(seed=2)))


def test_another_autoencoder_is_refused(tmp_path: Path) -> None:
    pipeline = make_pipeline(seed=1)
    plan = plan_from(saved(tmp_path / "model", pipeline))
    check_same_autoencoder(plan, weights_hash(pipeline.vae))
    with pytest.raises(BadModelFolder, match="another autoencoder"):
        check_same_autoencoder(plan, weights_hash(make_pipeline(seed=2).vae))


def test_what_a_hopeless_run_began_with_stays(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pipeline, latents = make_pipeline(), make_latents(make_windows())
    before = [value.clone() for value in weights_of(pipeline)]
    fit = fit_denoiser(
        pipeline,
        stream_of(latents, HOPELESS),
        validation_of(latents, HOPELESS),
        HOPELESS,
        Listener(tmp_path).callbacks,
        is_trained=True,
    )
    assert fit.best_step == 0
    assert same(weights_of(pipeline), before)


def test_a_width_network_that_has_learned_keeps_its_units(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pipeline, windows = make_pipeline(), make_windows()
    callbacks = Listener(tmp_path).callbacks
    first = fit_width(pipeline, windows, windows, TrainingConfig(width_steps=100), callbacks)
    centre = pipeline.width.centre.clone()
    again = fit_width(pipeline, windows.mirrored(), windows, TrainingConfig(width_steps=100), callbacks, is_trained=True)
    assert torch.equal(pipeline.width.centre, centre)
    assert again.skill >= first.skill, "it never ends worse than it began"
