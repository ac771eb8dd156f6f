"""Mixed precision and compilation: on a GPU where it has them, on a CPU where they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import nn

from fxcast.training.config import TrainingConfig


def autocast_dtype(training: TrainingConfig, device: torch.device) -> torch.dtype | None:
    """Return what matrix products are computed in; None is float32."""
    match training.precision:
        case "bf16":
            return torch.bfloat16
        case "fp16":
            return torch.float16
        case "auto" if device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.bfloat16
        case _:
            return None


def autocast(training: TrainingConfig, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Return what opens a block of mixed precision."""
    dtype = autocast_dtype(training, device)
    if dtype is None:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=dtype)


def gradient_scaler(training: TrainingConfig, device: torch.device) -> torch.amp.GradScaler:
    """Return a scaler of losses: float16 gradients would vanish without one; for others it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=autocast_dtype(training, device) is torch.float16)


def compiled(module: nn.Module, training: TrainingConfig, device: torch.device) -> nn.Module:
    """Compile a module, if it is asked for or the device is a GPU; its parameters stay those of the module given."""
    if training.compile == "off" or (training.compile == "auto" and device.type != "cuda"):
        return module
    return cast("nn.Module", cast("Any", torch.compile)(module))
