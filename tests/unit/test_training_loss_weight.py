"""The denoiser's loss counts some noise levels more than others where that is asked for, and changes nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from fxcast.cluster.train_checkpoint import claim, refuse_another_run
from fxcast.cluster.train_storage import RunStorage
from fxcast.errors import BadSetting
from fxcast.models.denoiser import ConditionedDenoiser, new_scheduler
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.symbols import forget_some
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import DenoiserFit, fit_denoiser
from fxcast.training.latents import LatentWindows
from fxcast.training.velocity import min_snr_weights, velocity
from fxcast.training.workers import draws_of_step
from tests.model_factories import SMALL_CONFIG, make_pipeline
from tests.training_factories import SHORT, Listener, make_latents, make_windows, same, stream_of, validation_of, weights_of

ALPHAS = new_scheduler(SMALL_CONFIG).alphas_cumprod
FIRST_STEP = SHORT.model_copy(update={"steps": 1})


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    torch.set_num_threads(1)
    return Listener(tmp_path / "checkpoints")


@pytest.fixture(scope="module")
def latents() -> LatentWindows:
    return make_latents(make_windows())


def weighted(training: TrainingConfig, gamma: float | None) -> TrainingConfig:
    return training.model_copy(update={"min_snr_gamma": gamma})


def fit(pipeline: LDM4TSPipeline, latents: LatentWindows, training: TrainingConfig, listener: Listener) -> DenoiserFit:
    stream, validation = stream_of(latents, training), validation_of(latents, training)
    return fit_denoiser(pipeline, stream, validation, training, listener.callbacks, is_trained=True)


def errors_of_first_step(latents: LatentWindows, training: TrainingConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared errors before the first step, (batch, channels, s, s), and their timesteps, (batch,)."""
    pipeline = make_pipeline()
    stream = stream_of(latents, training)(None, 0)
    windows = stream.batch(0)
    stream.close()
    draws = draws_of_step(training.seed, 0)
    timesteps = torch.randint(len(ALPHAS), (len(windows),), generator=draws)
    noise = torch.randn(windows.future.shape, generator=draws)
    noisy, target = velocity(windows.future, noise, timesteps, ALPHAS)
    features = windows.features._replace(symbol=forget_some(windows.features.symbol, training.forgotten_symbols, draws))
    module = ConditionedDenoiser(pipeline.conditioner, pipeline.unet).train()
    with torch.no_grad():
        predicted = module(noisy.contiguous(memory_format=torch.channels_last), timesteps, windows.past, features)
    return (predicted - target).square(), timesteps


def test_weights_are_those_of_the_formula_over_their_mean() -> None:
    # SNR 9, 4, 1, 1/4; min(SNR, 5) / (SNR + 1) = 0.5, 0.8, 0.5, 0.2, whose mean is 0.5.
    assert min_snr_weights(torch.tensor([0.9, 0.8, 0.5, 0.2]), 5.0).tolist() == pytest.approx([1.0, 1.6, 1.0, 0.4])


def test_weights_of_the_models_schedule_have_the_ratio_that_its_cosine_says() -> None:
    def signal_to_noise(timestep: int) -> float:
        start, now = (math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2 for share in (0.0, (timestep + 1) / 1000))
        return now / (start - now)

    clean, noisy = signal_to_noise(99), signal_to_noise(499)
    assert (clean, noisy) == pytest.approx((34.8, 0.975), rel=0.01), "one above gamma, one below"
    weights = min_snr_weights(ALPHAS, 5.0)
    expected = (5.0 / (clean + 1.0)) / (noisy / (noisy + 1.0))
    assert float(weights[99] / weights[499]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("gamma", [1e-60, 0.05, 1.0, 5.0, 1e6])
def test_weights_have_a_mean_of_one_whatever_gamma(gamma: float) -> None:
    weights = min_snr_weights(ALPHAS, gamma)
    assert (weights.shape, weights.dtype) == (ALPHAS.shape, torch.float32)
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-5)
    assert bool((weights >= 0).all())


def test_latents_without_noise_or_without_signal_have_finite_weights() -> None:
    assert min_snr_weights(torch.tensor([1.0, 0.5, 0.0]), 5.0).tolist() == [0.0, 3.0, 0.0]


def test_without_gamma_the_loss_is_the_plain_mean_to_the_last_bit(latents: LatentWindows, listener: Listener) -> None:
    fit(make_pipeline(), latents, FIRST_STEP, listener)
    errors, _ = errors_of_first_step(latents, FIRST_STEP)
    assert listener.metrics[-1]["train_loss"] == float(errors.mean())


@pytest.mark.parametrize("accumulate", [1, 3])
def test_with_gamma_each_window_counts_by_its_timestep(latents: LatentWindows, listener: Listener, accumulate: int) -> None:
    training = weighted(FIRST_STEP, 5.0).model_copy(update={"accumulate": accumulate})
    fit(make_pipeline(), latents, training, listener)
    errors, timesteps = errors_of_first_step(latents, training)
    own = errors.mean(dim=(1, 2, 3))
    expected = float((own * min_snr_weights(ALPHAS, 5.0)[timesteps]).mean())
    assert listener.metrics[-1]["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(float(own.mean()), rel=0.01)


def test_a_training_with_gamma_ends_with_other_finite_weights(latents: LatentWindows, listener: Listener, tmp_path: Path) -> None:
    plain, by_gamma = make_pipeline(), make_pipeline()
    fit(plain, latents, SHORT, listener)
    fitted = fit(by_gamma, latents, weighted(SHORT, 5.0), Listener(tmp_path / "weighted"))
    assert (fitted.steps, math.isfinite(fitted.best_loss)) == (9, True)
    assert all(bool(torch.isfinite(value).all()) for value in weights_of(by_gamma))
    assert not same(weights_of(by_gamma), weights_of(plain))


def test_the_loss_that_chooses_the_weights_to_keep_is_the_same_with_and_without_gamma(
    latents: LatentWindows, listener: Listener, tmp_path: Path
) -> None:
    fit(make_pipeline(), latents, FIRST_STEP, listener)
    by_gamma = Listener(tmp_path / "weighted")
    fit(make_pipeline(), latents, weighted(FIRST_STEP, 5.0), by_gamma)
    (_, step, before), (_, other_step, other) = listener.logged[0], by_gamma.logged[0]
    assert (step, other_step) == (0, 0), "before the first step both have the same weights"
    assert before["validation_loss"] == other["validation_loss"]


def test_settings_without_gamma_are_written_as_before_there_was_one() -> None:
    plain = TrainingConfig()
    assert "min_snr_gamma" not in json.loads(plain.model_dump_json())
    assert "min_snr_gamma" not in plain.model_dump(mode="json")
    assert TrainingConfig.model_validate_json(plain.model_dump_json()) == plain
    by_gamma = weighted(plain, 5.0)
    assert by_gamma.model_dump(mode="json") == {**plain.model_dump(mode="json"), "min_snr_gamma": 5.0}
    assert TrainingConfig.model_validate_json(by_gamma.model_dump_json()) == by_gamma


def test_a_run_goes_on_without_gamma_as_it_was_begun_and_not_with_one(tmp_path: Path) -> None:
    begun = {"training": TrainingConfig().model_dump(mode="json")}
    claim(RunStorage.of(str(tmp_path), "run"), begun)
    refuse_another_run(begun, storage_path=str(tmp_path), name="run")
    now = {"training": weighted(TrainingConfig(), 5.0).model_dump(mode="json")}
    with pytest.raises(BadSetting, match=r"training\.min_snr_gamma was null, is 5\.0"):
        refuse_another_run(now, storage_path=str(tmp_path), name="run")


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.inf, math.nan])
def test_a_gamma_that_is_no_positive_number_is_refused(gamma: float) -> None:
    with pytest.raises(ValidationError, match="min_snr_gamma"):
        TrainingConfig(min_snr_gamma=gamma)
