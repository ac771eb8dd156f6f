"""The denoiser: diffusers' conditional U-Net on the latent of the future, given the latent of the past."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn

from fxcast.models.conditioning import CandleConditioner, Condition
from fxcast.models.config import LDM4TSConfig
from fxcast.models.features import ConditionFeatures


def new_unet(config: LDM4TSConfig, latent_size: int) -> UNet2DConditionModel:
    """Return an untrained U-Net: input noisy future ⊕ past latent, output v, cross-attention on the condition.

    The level of the full latent has no attention: it costs 40 % of the time there, and every block gets the pooled condition
    with its time embedding.
    """
    attended = len(config.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=2 * config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * attended),
        up_block_types=(*("CrossAttnUpBlock2D",) * attended, "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        block_out_channels=config.unet_channels,
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=config.condition_width,
        attention_head_dim=4,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=config.condition_width,
    )


def new_scheduler(config: LDM4TSConfig) -> DPMSolverMultistepScheduler:
    """Return DPM-Solver++ 2M for v-prediction on a cosine schedule, with trailing spacing."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=config.train_timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
    )


class ConditionedDenoiser(nn.Module):
    """Conditioner and U-Net as one module, so that one wrapper (DDP) trains both."""

    def __init__(self, conditioner: CandleConditioner, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.unet = unet

    def forward(self, noisy_future: Tensor, timesteps: Tensor, past: Tensor, features: ConditionFeatures) -> Tensor:
        """Predict v.

        Args:
            noisy_future: (batch, latent_channels, s, s).
            timesteps: (batch,) int64.
            past: Latents of the past charts, (batch, latent_channels, s, s).

        Returns:
            (batch, latent_channels, s, s).
        """
        return predict_v(self.unet, noisy_future, timesteps, past, self.conditioner(features))


def predict_v(unet: UNet2DConditionModel, noisy_future: Tensor, timesteps: Tensor, past: Tensor, condition: Condition) -> Tensor:
    """Run the U-Net once; shapes as in `ConditionedDenoiser.forward`."""
    return unet(
        torch.cat([noisy_future, past], dim=1),
        timesteps,
        encoder_hidden_states=condition.tokens,
        class_labels=condition.pooled,
        return_dict=False,
    )[0]
