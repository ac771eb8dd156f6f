"""Training lowers the loss, keeps the best weights, stops in time, and resumes as if it had never stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import predict
from fxcast.models.autoencoder import encode, new_tiny_autoencoder
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.autoencoder import AutoencoderTraining, fit_autoencoder, reconstruction_error
from fxcast.training.calibrate import calibrate
from fxcast.training.charts import WindowArrays, future_charts, join, windows_of
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import CHECKPOINT_FILE, Callbacks, fit_denoiser
from fxcast.training.fusion import fit_fusion
from fxcast.training.latents import LatentWindows, to_latents
from fxcast.training.run import train_ldm4ts
from fxcast.training.workers import draws_of_step
from fxcast.vision.encoder import TimeSeriesVisionEncoder
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_pipeline

QUICK = TrainingConfig(
    steps=30,
    batch_size=8,
    learning_rate=3e-3,
    warm_up_steps=3,
    ema_decay=0.8,
    evaluate_every_steps=10,
    fusion_steps=30,
    calibration_windows=20,
    calibration_samples=4,
)
SHORT = QUICK.model_copy(update={"steps": 9, "evaluate_every_steps": 3})
HOPELESS = QUICK.model_copy(update={"learning_rate": 1.0, "gradient_clip": 100.0, "evaluate_every_steps": 2, "patience": 2})


@dataclass
class Listener:
    """Remembers what the loop says, and keeps each checkpoint in a folder of its own."""

    folder: Path
    metrics: list[Mapping[str, float | str]] = field(default_factory=list[Mapping[str, float | str]])
    stages: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])

    def checkpoint(self, metrics: Mapping[str, float | str], write: Callable[[Path], None]) -> None:
        self.metrics.append(metrics)
        self.checkpoint_of(int(metrics["step"])).mkdir(parents=True)
        write(self.checkpoint_of(int(metrics["step"])))

    def checkpoint_of(self, step: int) -> Path:
        return self.folder / f"step-{step}"

    @property
    def callbacks(self) -> Callbacks:
        def wrap(module: nn.Module) -> nn.Module:
            return module

        def progress(stage: str, done: int, total: int) -> None:
            self.stages.append((stage, done, total))

        return Callbacks(wrap=wrap, progress=progress, checkpoint=self.checkpoint)


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    torch.set_num_threads(1)
    return Listener(tmp_path / "checkpoints")


@pytest.fixture(scope="module")
def windows() -> WindowArrays:
    return windows_of(make_series(bars=220, range_width=1e-4), SMALL_CONFIG)


@pytest.fixture(scope="module")
def latents(windows: WindowArrays) -> LatentWindows:
    return to_latents(make_pipeline(), windows)


def weights_of(pipeline: LDM4TSPipeline) -> list[Tensor]:
    return [value.clone() for part in (pipeline.unet, pipeline.conditioner) for value in part.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(mine, other) for mine, other in zip(first, second, strict=True))


def test_latents_are_those_of_the_windows_one_by_one(windows: WindowArrays, latents: LatentWindows) -> None:
    pipeline = make_pipeline()
    one = windows.take(np.array([5]))
    charts = future_charts(TimeSeriesVisionEncoder(32), one, SMALL_CONFIG)
    assert len(latents) == len(windows) == 57
    assert torch.allclose(latents.future[5:6], encode(pipeline.vae, charts), atol=1e-4)
    assert torch.allclose(latents.take(torch.tensor([5])).paths.double(), torch.from_numpy(one.paths), atol=1e-6)


def test_fitting_the_denoiser_lowers_its_loss_and_changes_only_its_own_parts(latents: LatentWindows, listener: Listener) -> None:
    pipeline = make_pipeline()
    untouched = copy.deepcopy((pipeline.vae.state_dict(), pipeline.fusion.state_dict(), pipeline.conditioner.sentence_embeddings))
    before = weights_of(pipeline)
    fit = fit_denoiser(pipeline, latents, latents, QUICK, listener.callbacks)
    losses = [float(metrics["validation_loss"]) for metrics in listener.metrics]
    assert [metrics["step"] for metrics in listener.metrics] == [10, 20, 30]
    assert losses[-1] < 0.9 * losses[0]
    assert (fit.best_loss, fit.best_step, fit.steps, fit.stopped_by) == (min(losses), 30, 30, "steps")
    assert not same(weights_of(pipeline), before)
    assert all(torch.equal(value, pipeline.vae.state_dict()[name]) for name, value in untouched[0].items())
    assert all(torch.equal(value, pipeline.fusion.state_dict()[name]) for name, value in untouched[1].items())
    assert torch.equal(untouched[2], pipeline.conditioner.sentence_embeddings)
    assert listener.stages[-1] == ("denoiser", 30, 30)


def test_the_denoiser_ends_with_its_best_averaged_weights_not_its_last(latents: LatentWindows, listener: Listener) -> None:
    pipeline = make_pipeline()
    fit = fit_denoiser(pipeline, latents, latents, HOPELESS, listener.callbacks)
    assert fit.best_step < fit.steps
    assert fit.best_loss == min(float(metrics["validation_loss"]) for metrics in listener.metrics)
    saved = torch.load(listener.checkpoint_of(fit.best_step) / CHECKPOINT_FILE, weights_only=True)
    kept = {f"unet.{name}": value for name, value in pipeline.unet.state_dict().items()}
    averages = iter(saved["average"]["shadow_params"])
    for name, _ in [*pipeline.conditioner.named_parameters(prefix="conditioner"), *pipeline.unet.named_parameters(prefix="unet")]:
        average = next(averages)
        if name.startswith("unet."):
            assert torch.equal(kept[name], average)
            assert torch.equal(saved["best"][name], average)
    assert not torch.equal(saved["model"]["unet.conv_in.weight"], kept["unet.conv_in.weight"])


def test_the_denoiser_stops_when_the_loss_no_longer_falls(latents: LatentWindows, listener: Listener) -> None:
    fit = fit_denoiser(make_pipeline(), latents, latents, HOPELESS, listener.callbacks)
    assert fit.stopped_by == "patience"
    assert fit.steps == fit.best_step + 4
    assert fit.steps < 30


def test_the_denoiser_stops_at_the_first_validation_after_its_time(latents: LatentWindows, listener: Listener) -> None:
    fit = fit_denoiser(make_pipeline(), latents, latents, SHORT.model_copy(update={"max_seconds": 1e-9}), listener.callbacks)
    assert (fit.stopped_by, fit.steps) == ("time", 3)


@pytest.mark.parametrize("step", [3, 6, 9])
def test_a_resumed_run_ends_as_if_it_had_never_stopped(
    latents: LatentWindows, listener: Listener, tmp_path: Path, step: int
) -> None:
    whole, resumed = make_pipeline(), make_pipeline(seed=99)
    expected = fit_denoiser(whole, latents, latents, SHORT, listener.callbacks)
    torch.manual_seed(12345)  # the state of the global random numbers must not matter
    again = Listener(tmp_path / "resumed")
    fit = fit_denoiser(resumed, latents, latents, SHORT, again.callbacks, listener.checkpoint_of(step))
    assert fit == expected
    assert same(weights_of(resumed), weights_of(whole))
    assert again.metrics == listener.metrics[step // 3 :]


def test_a_run_that_had_run_out_of_patience_stops_at_once_when_resumed(
    latents: LatentWindows, listener: Listener, tmp_path: Path
) -> None:
    expected = fit_denoiser(make_pipeline(), latents, latents, HOPELESS, listener.callbacks)
    again = Listener(tmp_path / "resumed")
    checkpoint = listener.checkpoint_of(expected.steps)
    assert fit_denoiser(make_pipeline(), latents, latents, HOPELESS, again.callbacks, checkpoint) == expected
    assert again.metrics == []


def test_the_time_before_a_stop_counts(latents: LatentWindows, listener: Listener, tmp_path: Path) -> None:
    fit_denoiser(make_pipeline(), latents, latents, SHORT, listener.callbacks)
    path = listener.checkpoint_of(3) / CHECKPOINT_FILE
    torch.save({**torch.load(path, weights_only=True), "seconds": 1e6}, path)
    fit = fit_denoiser(
        make_pipeline(), latents, latents, SHORT, Listener(tmp_path / "resumed").callbacks, listener.checkpoint_of(3)
    )
    assert (fit.stopped_by, fit.steps) == ("time", 6)


def test_random_numbers_of_a_step_follow_from_seed_and_step() -> None:
    drawn = [torch.rand(3, generator=draws_of_step(seed, step)) for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert torch.equal(drawn[0], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_fitting_the_fusion_lowers_the_error_of_the_path(latents: LatentWindows, listener: Listener) -> None:
    short, long = (make_pipeline(), make_pipeline())
    first = fit_fusion(short, latents, QUICK.model_copy(update={"fusion_steps": 1}), listener.callbacks)
    before = copy.deepcopy(long.vae.state_dict())
    last = fit_fusion(long, latents, QUICK.model_copy(update={"fusion_steps": 20}), listener.callbacks)
    assert last < 0.85 * first
    assert all(torch.equal(value, long.vae.state_dict()[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in long.fusion.parameters())


def test_fitting_the_autoencoder_lowers_its_loss_and_sets_the_scale(windows: WindowArrays) -> None:
    torch.manual_seed(0)
    vae, losses = new_tiny_autoencoder(), list[float]()
    untrained = reconstruction_error(vae, windows.take(np.arange(8)), SMALL_CONFIG)
    fitted = fit_autoencoder(
        vae, windows, SMALL_CONFIG, AutoencoderTraining(steps=15, batch_size=8), lambda _, loss: losses.append(loss)
    )
    assert len(losses) == 15
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])
    trained = reconstruction_error(fitted, windows.take(np.arange(8)), SMALL_CONFIG)
    assert set(trained) == {"seg", "gaf", "rp", "past_seg", "path_sigma"}
    assert trained["gaf"] < untrained["gaf"]
    latents = encode(fitted, future_charts(TimeSeriesVisionEncoder(32), windows, SMALL_CONFIG))
    assert latents.std().item() == pytest.approx(1.0, abs=0.15)
    assert not any(parameter.requires_grad for parameter in fitted.parameters())


def test_calibration_says_what_it_was_fitted_on(windows: WindowArrays, listener: Listener) -> None:
    pipeline = make_pipeline()
    calibrated = calibrate(pipeline, windows, QUICK, listener.callbacks, "EURUSD 2016")
    assert calibrated.calibration.windows == 20
    assert calibrated.calibration.fitted_on == "EURUSD 2016"
    assert [horizon.horizon_minutes for horizon in calibrated.calibration.horizons] == [240, 960, 3840]
    assert pipeline.calibration.windows == 0
    assert listener.stages[-1] == ("calibration", 20, 20)


def test_windows_of_several_symbols_are_calibrated_in_time_order(listener: Listener) -> None:
    pipeline, series = make_pipeline(), make_series(bars=500)
    earlier, later = (windows_of(series, pipeline.config, start, start + 250) for start in (0, 250))
    in_order, by_symbol = (
        calibrate(pipeline, join(parts), QUICK, listener.callbacks, "") for parts in ([earlier, later], [later, earlier])
    )
    assert by_symbol.calibration == in_order.calibration


def test_calibration_answers_to_the_outcomes_of_its_windows(windows: WindowArrays, listener: Listener) -> None:
    pipeline = make_pipeline()
    calm = replace(windows, paths=windows.paths * 0.5)
    wild, quiet = (calibrate(pipeline, each, QUICK, listener.callbacks, "") for each in (windows, calm))
    pairs = zip(wild.calibration.horizons, quiet.calibration.horizons, strict=True)
    assert all(first.width >= second.width for first, second in pairs)
    assert wild.calibration != quiet.calibration


def test_only_validation_windows_enter_the_calibration(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    series = make_series(bars=420, range_width=1e-4)
    train, validation = windows_of(series, SMALL_CONFIG, 0, 220), windows_of(series, SMALL_CONFIG, 220, 420)
    sampled: list[float] = []
    honest = LDM4TSPipeline.sample_moves

    def watched(self: LDM4TSPipeline, candles: FloatArray, *rest: Any, **options: Any) -> FloatArray:
        sampled.extend(float(close) for close in candles[:, -1, 3])
        return honest(self, candles, *rest, **options)

    monkeypatch.setattr(LDM4TSPipeline, "sample_moves", watched)
    quick = QUICK.model_copy(update={"steps": 2, "fusion_steps": 2, "validation_windows": 10})
    train_ldm4ts(make_pipeline(), train, validation, quick, listener.callbacks, fitted_on="")
    last_closes = validation.candles[:, -1, 3].tolist()
    assert len(sampled) == 20
    assert set(sampled) <= set(last_closes)
    assert sampled == sorted(sampled, key=last_closes.index)  # in time order


def test_all_stages_together_make_a_pipeline_that_forecasts(listener: Listener) -> None:
    series = make_series(bars=420, range_width=1e-4)
    train, validation = windows_of(series, SMALL_CONFIG, 0, 220), windows_of(series, SMALL_CONFIG, 220, 420)
    quick = QUICK.model_copy(update={"steps": 6, "evaluate_every_steps": 3, "fusion_steps": 5, "validation_windows": 10})
    trained = train_ldm4ts(make_pipeline(), train, validation, quick, listener.callbacks, fitted_on="EURUSD 2017-03")
    metrics = trained.metrics
    assert metrics["stage"] == "done"
    assert (metrics["step"], metrics["stopped_by"]) == (6, "steps")
    assert (metrics["train_windows"], metrics["validation_windows"]) == (29, 37), "every other window trains"
    assert {"width_240", "width_960", "width_3840", "mean_weight_240"} <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values() if isinstance(value, float))
    assert [stage for stage, done, total in listener.stages if done == total] == ["denoiser", "temporal fusion", "calibration"]
    assert trained.pipeline.calibration.fitted_on == "EURUSD 2017-03"
    prediction = predict(trained.pipeline, make_series(seed=9), horizons_minutes=(240,), num_samples=4, seed=0)
    assert prediction.horizons[240].std > 0
