"""The stages around the denoiser: autoencoder, temporal fusion, calibration."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxcast.domain.forecaster import WindowBatch
from fxcast.models.autoencoder import encode, new_tiny_autoencoder
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.training.autoencoder import AutoencoderTraining, fit_autoencoder, reconstruction_error
from fxcast.training.calibrate import calibrate
from fxcast.training.charts import WindowArrays, evenly, future_charts, join, windows_of
from fxcast.training.fusion import fit_fusion
from fxcast.training.latents import LatentWindows
from fxcast.vision.encoder import TimeSeriesVisionEncoder
from tests.factories import make_series
from tests.model_factories import SMALL_CONFIG, make_pipeline
from tests.training_factories import QUICK, Listener, make_latents, make_windows, stream_of


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


@pytest.fixture(scope="module")
def few(windows: WindowArrays) -> WindowArrays:
    return windows.take(evenly(np.arange(len(windows)), 20))


def test_fitting_the_fusion_lowers_the_error_of_the_path(latents: LatentWindows, listener: Listener) -> None:
    short, long = (make_pipeline(), make_pipeline())
    stream = stream_of(latents, QUICK.model_copy(update={"batch_size": 64}))
    first = fit_fusion(short, stream, QUICK.model_copy(update={"fusion_steps": 1}), listener.callbacks)
    before = copy.deepcopy(long.vae.state_dict())
    last = fit_fusion(long, stream, QUICK.model_copy(update={"fusion_steps": 20}), listener.callbacks)
    assert last < 0.85 * first
    assert all(torch.equal(value, long.vae.state_dict()[name]) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in long.fusion.parameters())


def test_a_resumed_fusion_ends_as_if_it_had_never_stopped(latents: LatentWindows, listener: Listener, tmp_path: Path) -> None:
    training = QUICK.model_copy(update={"fusion_steps": 6, "checkpoint_every_steps": 2})
    whole, resumed = make_pipeline(), make_pipeline(seed=99)
    resumed.vae.load_state_dict(whole.vae.state_dict())
    stream = stream_of(latents, training)
    expected = fit_fusion(whole, stream, training, listener.callbacks)
    assert [metrics["step"] for metrics in listener.metrics] == [2, 4]
    again = Listener(tmp_path / "resumed")
    assert fit_fusion(resumed, stream, training, again.callbacks, listener.checkpoint_of(2)) == expected
    assert all(torch.equal(value, whole.fusion.state_dict()[name]) for name, value in resumed.fusion.state_dict().items())


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


def test_calibration_says_what_it_was_fitted_on(few: WindowArrays, listener: Listener) -> None:
    pipeline = make_pipeline()
    calibrated = calibrate(pipeline, few, QUICK, listener.callbacks, "EURUSD 2016")
    assert calibrated.calibration.windows == 20
    assert calibrated.calibration.fitted_on == "EURUSD 2016"
    assert [horizon.horizon_minutes for horizon in calibrated.calibration.horizons] == [240, 960, 3840]
    assert pipeline.calibration.windows == 0
    assert listener.stages[-1] == ("calibration", 20, 20)


def test_windows_of_several_symbols_are_calibrated_in_time_order(listener: Listener) -> None:
    pipeline, series = make_pipeline(), make_series(bars=500)
    earlier, later = (
        part.take(evenly(np.arange(len(part)), 10))
        for part in (windows_of(series, pipeline.config, start, start + 250) for start in (0, 250))
    )
    in_order, by_symbol = (
        calibrate(pipeline, join(parts), QUICK, listener.callbacks, "") for parts in ([earlier, later], [later, earlier])
    )
    assert by_symbol.calibration == in_order.calibration


def test_calibration_answers_to_the_outcomes_of_its_windows_and_samples_no_others(
    few: WindowArrays, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline()
    sampled: list[float] = []
    honest = LDM4TSPipeline.sample_moves

    def watched(self: LDM4TSPipeline, windows: WindowBatch, **options: Any) -> Any:
        sampled.extend(windows.prices.tolist())
        return honest(self, windows, **options)

    monkeypatch.setattr(LDM4TSPipeline, "sample_moves", watched)
    calm = replace(few, moves=few.moves * 0.5, paths=few.paths * 0.5)
    wild, quiet = (calibrate(pipeline, each, QUICK, listener.callbacks, "") for each in (few, calm))
    pairs = zip(wild.calibration.horizons, quiet.calibration.horizons, strict=True)
    assert all(first.width >= second.width for first, second in pairs)
    assert wild.calibration != quiet.calibration
    assert sampled == 2 * few.windows.prices.tolist()
