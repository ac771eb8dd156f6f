"""Fitting the denoiser lowers the loss, keeps the best weights, stops in time, and resumes as if it had never stopped."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from fxcast.models.autoencoder import encode
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.charts import WindowArrays, future_charts
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import CHECKPOINT_FILE, DenoiserFit, fit_denoiser
from fxcast.training.latents import LatentWindows
from fxcast.training.precision import autocast_dtype, compiled, gradient_scaler
from fxcast.training.workers import draws_of_step
from fxcast.vision.encoder import TimeSeriesVisionEncoder
from tests.model_factories import SMALL_CONFIG, make_pipeline
from tests.training_factories import (
    HOPELESS,
    QUICK,
    SHORT,
    Listener,
    make_latents,
    make_windows,
    same,
    stream_of,
    validation_of,
    weights_of,
)


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    torch.set_num_threads(1)
    return Listener(tmp_path / "checkpoints")


@pytest.fixture(scope="module")
def windows() -> WindowArrays:
    return make_windows()


@pytest.fixture(scope="module")
def latents(windows: WindowArrays) -> LatentWindows:
    return make_latents(windows)


def fit(
    pipeline: LDM4TSPipeline,
    latents: LatentWindows,
    training: TrainingConfig,
    listener: Listener,
    resume_from: Path | None = None,
) -> DenoiserFit:
    stream, validation = stream_of(latents, training), validation_of(latents, training)
    return fit_denoiser(pipeline, stream, validation, training, listener.callbacks, resume_from)


def test_latents_are_those_of_the_windows_one_by_one(windows: WindowArrays, latents: LatentWindows) -> None:
    pipeline = make_pipeline()
    one = windows.take(np.array([5]))
    charts = future_charts(TimeSeriesVisionEncoder(32), one, SMALL_CONFIG)
    assert len(latents) == len(windows) == 57
    taken = latents.take(torch.tensor([5]))
    assert torch.allclose(taken.future, encode(pipeline.vae, charts), atol=1e-4)
    assert torch.allclose(taken.paths.double(), torch.from_numpy(one.paths), atol=1e-6)
    assert torch.allclose(taken.outcomes.double(), torch.from_numpy(one.moves[:, list(SMALL_CONFIG.horizon_points)]), atol=1e-5)
    assert torch.equal(taken.widths, torch.ones(1, 3)), "an untrained width network says what the random walk says"


def test_fitting_the_denoiser_lowers_its_loss_and_changes_only_its_own_parts(latents: LatentWindows, listener: Listener) -> None:
    pipeline = make_pipeline()
    untouched = copy.deepcopy((pipeline.vae.state_dict(), pipeline.fusion.state_dict(), pipeline.conditioner.sentence_embeddings))
    before = weights_of(pipeline)
    fitted = fit(pipeline, latents, QUICK, listener)
    losses = [float(metrics["validation_loss"]) for metrics in listener.metrics]
    assert [metrics["step"] for metrics in listener.metrics] == [10, 20, 30]
    assert losses[-1] < 0.9 * losses[0]
    assert (fitted.best_loss, fitted.best_step, fitted.steps, fitted.stopped_by) == (min(losses), 30, 30, "steps")
    assert not same(weights_of(pipeline), before)
    assert all(torch.equal(value, pipeline.vae.state_dict()[name]) for name, value in untouched[0].items())
    assert all(torch.equal(value, pipeline.fusion.state_dict()[name]) for name, value in untouched[1].items())
    assert torch.equal(untouched[2], pipeline.conditioner.sentence_embeddings)
    assert listener.stages[-1] == ("denoiser", 30, 30)
    assert [(stage, step) for stage, step, _ in listener.logged] == [("denoiser", 10), ("denoiser", 20), ("denoiser", 30)]
    assert {"train_loss", "validation_loss", "learning_rate"} <= set(listener.logged[0][2])


def test_the_denoiser_ends_with_its_best_averaged_weights_not_its_last(latents: LatentWindows, listener: Listener) -> None:
    pipeline = make_pipeline()
    fitted = fit(pipeline, latents, HOPELESS, listener)
    assert fitted.best_step < fitted.steps
    assert fitted.best_loss == min(float(metrics["validation_loss"]) for metrics in listener.metrics)
    saved = torch.load(listener.checkpoint_of(fitted.best_step) / CHECKPOINT_FILE, weights_only=True)
    kept = {f"unet.{name}": value for name, value in pipeline.unet.state_dict().items()}
    averages = iter(saved["average"]["shadow_params"])
    for name, _ in [*pipeline.conditioner.named_parameters(prefix="conditioner"), *pipeline.unet.named_parameters(prefix="unet")]:
        average = next(averages)
        if name.startswith("unet."):
            assert torch.equal(kept[name], average)
            assert torch.equal(saved["best"]["weights"][name], average)
    assert not torch.equal(saved["model"]["unet.conv_in.weight"], kept["unet.conv_in.weight"])


def test_the_denoiser_stops_when_the_loss_no_longer_falls(latents: LatentWindows, listener: Listener) -> None:
    fitted = fit(make_pipeline(), latents, HOPELESS, listener)
    assert fitted.stopped_by == "patience"
    assert fitted.steps == fitted.best_step + 4
    assert fitted.steps < 30


def test_of_weights_whose_crps_is_about_the_lowest_those_of_the_lowest_loss_are_kept(
    latents: LatentWindows, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = iter([0.99, 0.97, 1.2, 0.975, 0.985])

    def scored(*_: object) -> dict[str, float]:
        return {"validation_crps_ratio": next(ratios)}

    monkeypatch.setattr("fxcast.training.validation._scores", scored)
    training = SHORT.model_copy(update={"scored_windows": 20, "steps": 15, "learning_rate": 1e-4})
    fitted = fit(make_pipeline(), latents, training, listener)
    losses = [float(metrics["validation_loss"]) for metrics in listener.metrics]
    assert losses == sorted(losses, reverse=True)
    assert (fitted.best_step, fitted.best_loss) == (12, losses[3]), "0.975 can't be told from 0.97; 0.985 is worse"
    assert [metrics["score"] for metrics in listener.metrics] == [0.99, 0.97, 0.97, 0.97, 0.97]
    assert fitted.stopped_by == "steps"


def test_the_denoiser_stops_at_the_first_validation_after_its_time(latents: LatentWindows, listener: Listener) -> None:
    fitted = fit(make_pipeline(), latents, SHORT.model_copy(update={"max_seconds": 1e-9}), listener)
    assert (fitted.stopped_by, fitted.steps) == ("time", 3)


@pytest.mark.parametrize("step", [2, 4, 6, 9])
def test_a_resumed_run_ends_as_if_it_had_never_stopped(
    latents: LatentWindows, listener: Listener, tmp_path: Path, step: int
) -> None:
    training = SHORT.model_copy(update={"checkpoint_every_steps": 2})
    whole, resumed = make_pipeline(), make_pipeline(seed=99)
    expected = fit(whole, latents, training, listener)
    torch.manual_seed(12345)  # the state of the global random numbers must not matter
    again = Listener(tmp_path / "resumed")
    assert [metrics["step"] for metrics in listener.metrics] == [2, 3, 4, 6, 8, 9], "checkpoints between validations too"
    fitted = fit(resumed, latents, training, again, listener.checkpoint_of(step))
    assert fitted == expected
    assert same(weights_of(resumed), weights_of(whole))
    after = [metrics for metrics in listener.metrics if int(metrics["step"]) > step]
    validated = [{**metrics, "train_loss": 0.0} for metrics in after]  # of the steps since the stop alone
    assert [{**metrics, "train_loss": 0.0} for metrics in again.metrics] == validated


def test_a_run_that_had_run_out_of_patience_stops_at_once_when_resumed(
    latents: LatentWindows, listener: Listener, tmp_path: Path
) -> None:
    expected = fit(make_pipeline(), latents, HOPELESS, listener)
    again = Listener(tmp_path / "resumed")
    assert fit(make_pipeline(), latents, HOPELESS, again, listener.checkpoint_of(expected.steps)) == expected
    assert again.metrics == []


def test_the_time_before_a_stop_counts(latents: LatentWindows, listener: Listener, tmp_path: Path) -> None:
    fit(make_pipeline(), latents, SHORT, listener)
    path = listener.checkpoint_of(3) / CHECKPOINT_FILE
    torch.save({**torch.load(path, weights_only=True), "seconds": 1e6}, path)
    fitted = fit(make_pipeline(), latents, SHORT, Listener(tmp_path / "resumed"), listener.checkpoint_of(3))
    assert (fitted.stopped_by, fitted.steps) == ("time", 6)


def test_a_batch_in_parts_trains_like_a_whole_one(latents: LatentWindows, listener: Listener, tmp_path: Path) -> None:
    training = QUICK.model_copy(update={"steps": 5})
    whole = fit(make_pipeline(), latents, training, listener)
    in_parts = fit(make_pipeline(), latents, training.model_copy(update={"accumulate": 3}), Listener(tmp_path / "parts"))
    other_batches = fit(make_pipeline(), latents, training.model_copy(update={"batch_size": 6}), Listener(tmp_path / "others"))
    assert in_parts.best_loss == pytest.approx(whole.best_loss, rel=1e-3)
    assert other_batches.best_loss != pytest.approx(whole.best_loss, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_like_full_precision(
    latents: LatentWindows, listener: Listener, tmp_path: Path, precision: Literal["bf16", "fp16"]
) -> None:
    training = QUICK.model_copy(update={"steps": 10})
    exact = fit(make_pipeline(), latents, training, listener)
    mixed_listener = Listener(tmp_path / precision)
    mixed = fit(make_pipeline(), latents, training.model_copy(update={"precision": precision}), mixed_listener)
    assert mixed.best_loss == pytest.approx(exact.best_loss, rel=0.05)
    saved = torch.load(mixed_listener.checkpoint_of(10) / CHECKPOINT_FILE, weights_only=True)
    assert all(value.dtype == torch.float32 for value in saved["model"].values() if value.is_floating_point())
    assert bool(saved["scaler"]) == (precision == "fp16"), "only float16 needs its loss scaled"


def test_a_cpu_computes_in_full_precision_without_compilation_unless_asked() -> None:
    cpu, module = torch.device("cpu"), torch.nn.Linear(1, 1)
    assert autocast_dtype(QUICK, cpu) is None
    assert not gradient_scaler(QUICK, cpu).is_enabled()
    assert compiled(module, QUICK, cpu) is module
    asked = compiled(module, QUICK.model_copy(update={"compile": "on"}), cpu)
    assert asked is not module
    assert list(asked.parameters()) == list(module.parameters())


def test_random_numbers_of_a_step_follow_from_seed_and_step() -> None:
    drawn = [torch.rand(3, generator=draws_of_step(seed, step)) for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert torch.equal(drawn[0], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
