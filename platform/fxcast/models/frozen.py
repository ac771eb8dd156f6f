"""Modules as they serve: without gradients, in evaluation mode, alike in memory; so fresh and loaded ones give the same floats."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TypeVar, cast

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)
ModelT = TypeVar("ModelT", bound=ModelMixin)


def load_frozen(kind: type[ModelT], source: str | Path) -> ModelT:
    """Load a module from safetensors in a folder, or of a hub name, and freeze it.

    Raises:
        ValueError: If it can't be loaded, or weights are missing: diffusers would go on with random numbers in their place.
    """
    try:
        module, loading = cast(
            "tuple[ModelT, dict[str, list[str]]]",
            kind.from_pretrained(str(source), use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True),
        )
    except Exception as error:  # diffusers and safetensors raise OSError, RuntimeError, KeyError and more: raised on as one kind
        raise ValueError(f"can't be loaded: {error}") from error
    if loading["missing_keys"]:
        raise ValueError(f"lacks the weights {', '.join(sorted(loading['missing_keys']))}")
    return frozen(module)


def frozen(module: ModuleT) -> ModuleT:
    """Freeze a module in place and return it."""
    module.requires_grad_(requires_grad=False)
    module.eval()
    channels_last(module)
    # Tensors of a safetensors file lie where they lay in it, off the 64-byte boundaries of fresh ones, and the matrix kernels then
    # round otherwise.
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        tensor.data = tensor.data.clone()
    return module


def channels_last(module: ModuleT) -> ModuleT:
    """Lay a module's convolutions out channels last, which about halves their time on a CPU, and return it."""
    nn.Module.to(module, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stub has no such overload
    return module
