"""What a loop needs to know of its fellow workers; alone it is rank 0 of 1."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import distributed

ItemT = TypeVar("ItemT")


def rank() -> int:
    """Return this worker's number."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return how many workers there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def draws_of_step(seed: int, step: int) -> torch.Generator:
    """Return the random numbers (on the CPU) of one step of this worker.

    They follow from seed, rank and step alone, so that a resumed run draws what an undisturbed one would have drawn.
    """
    (state,) = np.random.SeedSequence([seed, rank(), step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def mean_over_workers(value: float) -> float:
    """Return the mean of a number over the workers: the same on each, so that all decide alike."""
    if not distributed.is_initialized():
        return value
    total = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(total)
    return float(total) / world_size()


def gather(item: ItemT) -> list[ItemT]:
    """Return every worker's item, in the order of ranks."""
    if not distributed.is_initialized():
        return [item]
    items: list[ItemT | None] = [None] * world_size()
    distributed.all_gather_object(items, item)
    return [received for received in items if received is not None]
