"""The sampler draws from the law that the denoiser has learned."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from fxcast.models.conditioning import Condition
from fxcast.models.denoiser import new_scheduler
from fxcast.models.sampler import sample_latents, seeded_noise
from fxcast.training.denoiser import velocity
from tests.model_factories import SMALL_CONFIG

CENTRE, SPREAD = 0.7, 0.5


class PerfectDenoiser:
    """Knows the best v for data from N(CENTRE, SPREAD²); stands in for a U-Net trained without end."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        self.alphas_cumprod = alphas_cumprod
        self.asked: list[int] = []

    def __call__(self, latents: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        self.asked.append(int(timestep))
        noisy = latents[:, :4]
        alpha, sigma = self.alphas_cumprod[timestep].sqrt(), (1 - self.alphas_cumprod[timestep]).sqrt()
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        clean = CENTRE + gain * (noisy - alpha * CENTRE)
        noise = (noisy - alpha * clean) / sigma
        return (alpha * noise - sigma * clean,)


def sample(steps: int) -> tuple[Tensor, list[int]]:
    scheduler = new_scheduler(SMALL_CONFIG)
    denoiser = PerfectDenoiser(scheduler.alphas_cumprod)
    noise = seeded_noise((4, 8, 8), 20, [0])
    condition = Condition(torch.zeros(20, 1, 1), torch.zeros(20, 1))
    unet = cast("UNet2DConditionModel", denoiser)
    return sample_latents(unet, scheduler, torch.zeros_like(noise), condition, noise, steps), denoiser.asked


@pytest.mark.parametrize(("steps", "asked"), [(2, [999, 499]), (4, [999, 749, 499, 249])])
def test_steps_are_spaced_from_pure_noise_on(steps: int, asked: list[int]) -> None:
    assert sample(steps)[1] == asked


@pytest.mark.parametrize(("steps", "narrowness"), [(2, 0.3), (4, 0.65), (20, 0.95)])
def test_samples_are_narrow_at_few_steps_and_approach_the_law_at_many(steps: int, narrowness: float) -> None:
    latents, _ = sample(steps)
    assert latents.mean() == pytest.approx(CENTRE, abs=0.05)
    assert narrowness * SPREAD < latents.std() < 1.1 * SPREAD


def test_noise_of_a_window_follows_from_its_own_seed() -> None:
    together = seeded_noise((4, 8, 8), 3, [5, 6])
    assert together.shape == (6, 4, 8, 8)
    assert torch.equal(together[3:], seeded_noise((4, 8, 8), 3, [6]))
    assert not torch.equal(together[:3], together[3:])


def test_velocity_and_noising_are_those_of_diffusers() -> None:
    ours = new_scheduler(SMALL_CONFIG)
    reference = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    clean, noise = seeded_noise((4, 8, 8), 5, [1, 2]).chunk(2)
    timesteps = torch.tensor([0, 10, 500, 900, 999])
    noisy, target = velocity(clean, noise, timesteps, ours.alphas_cumprod)
    steps = cast("torch.IntTensor", timesteps)  # diffusers' annotation; it indexes with them
    assert torch.allclose(noisy, reference.add_noise(clean, noise, steps), atol=1e-6)
    assert torch.allclose(target, reference.get_velocity(clean, noise, steps), atol=1e-6)
