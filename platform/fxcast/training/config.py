"""How LDM4TS is trained around its autoencoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fxcast.config import Settings

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Switch = Literal["auto", "on", "off"]


def _is_none(value: float | None) -> bool:
    return value is None


class TrainingConfig(Settings):
    """The loop's settings; the demo only stops sooner."""

    steps: int = Field(default=400, ge=1, description="optimiser steps of the denoiser")
    window_stride_bars: int = Field(default=2, ge=1, description="bars between training windows; neighbours show nearly the same")
    batch_size: int = Field(default=96, ge=2, description="windows an optimiser step, over all workers and accumulated batches")
    accumulate: int = Field(default=1, ge=1, description="batches that a step's windows are split into, where memory is short")
    learning_rate: float = Field(default=1e-3, gt=0, description="peak; linear warm-up, then a cosine down to 2 %")
    warm_up_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    min_snr_gamma: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        exclude_if=_is_none,  # or runs begun before there was a choice would not go on
        description="Min-SNR-γ weights of LDM4TS's noise levels: 5 as published, less minds noisier ones; None: all count the same",
    )
    ema_decay: float = Field(default=0.99, ge=0, lt=1, description="of the averaged weights that are kept")
    precision: Precision = Field(default="auto", description="auto is bf16 on a GPU that has it, else fp32; fp16 scales its loss")
    compile: Switch = Field(default="auto", description="torch.compile; auto is on where there is a GPU")
    open_shards: int = Field(default=4, ge=1, description="Parquet shards of windows that a worker holds in memory and mixes")
    checkpoint_every_steps: int = Field(default=50, ge=1, description="steps that a killed worker loses at most")
    evaluate_every_steps: int = Field(default=50, ge=1, description="steps between validations")
    patience: int = Field(
        default=5, ge=1, description="validations without a better CRPS, nor a better loss, before training stops early"
    )
    max_seconds: float = Field(default=3600.0, gt=0, description="the denoiser stops at the first validation after this long")
    validation_windows: int = Field(default=512, ge=1, description="windows of the validation loss, evenly over the period")
    scored_windows: int = Field(default=64, ge=0, description="of those, how many are forecast for the CRPS; 0: the loss decides")
    crps_tolerance: float = Field(
        default=0.01,
        ge=0,
        description="CRPS ratios that differ by no more count as equal, and the loss decides which weights are kept",
    )
    scored_samples: int = Field(default=16, ge=2, description="samples of each of them")
    forgotten_symbols: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of windows whose pair is hidden, so that a new pair can be forecast",
    )
    width_steps: int = Field(default=2000, ge=0, description="optimiser steps of the width network; 0 keeps the walk's width")
    width_patience: int = Field(default=5, ge=1, description="validations of the width network without a better score")
    width_windows: int = Field(default=100_000, ge=1, description="windows that the width network learns from, 5 kB each")
    fusion_steps: int = Field(default=100, ge=1, description="optimiser steps of the temporal fusion")
    calibration_windows: int = Field(
        default=150, ge=20, description="windows of the calibration, evenly over the validation period"
    )
    calibration_samples: int = Field(default=50, ge=2)
    seed: int = 0
