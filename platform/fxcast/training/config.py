"""How LDM4TS is trained around its autoencoder."""

from __future__ import annotations

from pydantic import Field

from fxcast.config import Settings


class TrainingConfig(Settings):
    """The loop's settings; the demo only stops sooner."""

    steps: int = Field(default=400, ge=1, description="optimiser steps of the denoiser")
    window_stride_bars: int = Field(default=2, ge=1, description="bars between training windows; neighbours show nearly the same")
    batch_size: int = Field(default=96, ge=2, description="windows a step, over all workers")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak; linear warm-up, then a cosine down to 2 %")
    warm_up_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(default=0.99, ge=0, lt=1, description="of the averaged weights that are kept")
    evaluate_every_steps: int = Field(default=50, ge=1, description="steps between validations, each with a checkpoint")
    patience: int = Field(default=5, ge=1, description="validations without a better loss before training stops early")
    max_seconds: float = Field(default=3600.0, gt=0, description="the denoiser stops at the first validation after this long")
    validation_windows: int = Field(default=512, ge=1, description="windows of the validation loss, evenly over the period")
    fusion_steps: int = Field(default=100, ge=1, description="optimiser steps of the temporal fusion")
    calibration_windows: int = Field(
        default=150, ge=20, description="windows of the calibration, evenly over the validation period"
    )
    calibration_samples: int = Field(default=50, ge=2)
    seed: int = 0
