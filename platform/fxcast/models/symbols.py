"""Pairs as numbers: those that a model was trained on, and any other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

UNKNOWN = 0


def symbol_numbers(symbols: Sequence[str], known: Sequence[str]) -> Tensor:
    """Return each symbol's number among the known ones from 1, and `UNKNOWN` for any other, (n,) int64."""
    numbers = {symbol: number for number, symbol in enumerate(known, start=1)}
    return torch.tensor([numbers.get(symbol, UNKNOWN) for symbol in symbols], dtype=torch.int64)


def forget_some(numbers: Tensor, share: float, draws: torch.Generator) -> Tensor:
    """Return numbers of which a random share became `UNKNOWN`, as training does so that a new pair finds something learned.

    Args:
        numbers: (n,) int64, on any device.
        share: Between 0 and 1.
        draws: On the CPU.
    """
    forgotten = torch.rand(len(numbers), generator=draws) < share
    return numbers.masked_fill(forgotten.to(numbers.device), UNKNOWN)
