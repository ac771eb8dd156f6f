"""Scores of samples against the random walk, and what a validation measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fxcast.models.denoiser import ConditionedDenoiser
from fxcast.training.scores import score_samples
from fxcast.training.validation import ValidationSet, calibrated_across_halves, validate
from tests.model_factories import SMALL_CONFIG, make_pipeline
from tests.training_factories import QUICK, make_latents, make_windows

SCORED = QUICK.model_copy(update={"scored_windows": 20, "scored_samples": 4})


def test_samples_of_the_true_law_beat_a_walk_of_the_wrong_width() -> None:
    draws = np.random.default_rng(0)
    outcomes = draws.normal(0.0, 1.0, 4000)
    samples = draws.normal(0.0, 1.0, (4000, 50))
    scores = score_samples(samples, outcomes, np.full(4000, 2.0))
    # The CRPS of N(0, σ²), outcomes being of N(0, 1), is √(2/π)·√(1 + σ²) − σ/√π on average.
    ours, walk = ((2.0 / math.pi) ** 0.5 * (1.0 + sigma**2) ** 0.5 - sigma / math.pi**0.5 for sigma in (1.0, 2.0))
    assert scores["crps_skill"] == pytest.approx(1.0 - ours / walk, abs=0.02)
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert scores["pit_index"] > 0.96
    assert scores["mse_ratio"] == pytest.approx(1.02, abs=0.02)
    assert scores["mae_ratio"] == pytest.approx(1.0, abs=0.03)
    assert scores["direction"] == pytest.approx(0.5, abs=0.03)


def test_samples_that_know_the_sign_have_the_right_direction_and_a_mean_at_zero_has_none() -> None:
    outcomes = np.array([1.0, -2.0, 0.5, 0.0])
    knowing = outcomes[:, None] + np.array([[-0.1, 0.0, 0.1]])
    silent = np.array([[-1.0, 0.0, 1.0]]).repeat(4, axis=0)
    walk = np.ones(4)
    assert score_samples(knowing, outcomes, walk)["direction"] == 1.0
    assert score_samples(-knowing, outcomes, walk)["direction"] == 0.0
    assert score_samples(silent, outcomes, walk)["direction"] == 0.5
    assert score_samples(knowing, outcomes, walk)["mse_ratio"] == pytest.approx(0.0, abs=1e-20)
    assert score_samples(silent, outcomes, walk)["mse_ratio"] == 1.0


def test_each_half_is_calibrated_by_the_other() -> None:
    draws = np.random.default_rng(1)
    moves = draws.normal(0.0, 0.5, (200, 20, 3))
    outcomes = draws.normal(0.0, 1.0, (200, 3))
    calibrated = calibrated_across_halves(moves, outcomes, SMALL_CONFIG.horizons_minutes)
    assert calibrated.std() == pytest.approx(1.0, rel=0.2)
    wild = np.concatenate([outcomes[:100] * 5.0, outcomes[100:]])
    other = calibrated_across_halves(moves, wild, SMALL_CONFIG.horizons_minutes)
    assert np.array_equal(other[:100], calibrated[:100]), "what happened to a half changes nothing in it"
    assert other[100:].std() > 3.0 * calibrated[100:].std()


def test_a_validation_measures_loss_and_scores_and_says_the_same_each_time() -> None:
    torch.set_num_threads(1)
    pipeline = make_pipeline()
    latents = make_latents(make_windows(), pipeline)
    module = ConditionedDenoiser(pipeline.conditioner, pipeline.unet).train()
    validation = ValidationSet.of(latents, SCORED)
    first, second = (validate(pipeline, module, validation, SCORED, 8) for _ in range(2))
    assert first == second
    assert module.training, "it goes on training"
    names = {"crps_skill", "mse_ratio", "mae_ratio", "direction", "coverage_90", "pit_index"}
    assert set(first) == {"validation_loss", "validation_crps_ratio", "crps_skill_240", "crps_skill_960", "crps_skill_3840"} | names
    assert all(math.isfinite(value) for value in first.values())
    assert first["validation_crps_ratio"] == pytest.approx(1.0 - first["crps_skill"])
    assert set(validate(pipeline, module, ValidationSet.of(latents, QUICK), QUICK, 8)) == {"validation_loss"}


def test_too_few_windows_are_not_scored() -> None:
    latents = make_latents(make_windows(bars=180))
    assert len(latents) == 17
    assert len(ValidationSet.of(latents, SCORED).scored) == 0
