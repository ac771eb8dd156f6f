"""Modules as they serve: without gradients, in evaluation mode, alike in memory; so fresh and loaded ones give the same floats."""

from __future__ import annotations

import itertools
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


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
