"""Where a worker computes."""

from __future__ import annotations

import ray.train.torch
import torch


def worker_device() -> torch.device:
    """Return this process' device: a GPU only where Ray has given it one and torch can use it.

    A cluster may declare GPUs that no machine has, to test how it would be scheduled; its workers compute on the CPU. Ray alone
    would name a GPU there, and moving tensors to it would fail.
    """
    if not torch.cuda.is_available() or not ray.get_gpu_ids():
        return torch.device("cpu")
    try:
        return ray.train.torch.get_device()
    except RuntimeError:  # not in a worker of Ray Train: a task sees the GPUs that are its own, from 0
        return torch.device("cuda:0")
