"""How a loop speaks to what runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn


def _not_logged(_stage: str, _step: int, _scalars: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """How the loop speaks to what runs it.

    Attributes:
        wrap: Prepares a module for distributed training.
        progress: (stage, steps done, steps in all); called often.
        checkpoint: (metrics, a function that writes a checkpoint into a folder); called equally often on every worker.
        log: (stage, step, scalars) for curves; the same numbers on every worker.
    """

    wrap: Callable[[nn.Module], nn.Module]
    progress: Callable[[str, int, int], None]
    checkpoint: Callable[[Mapping[str, float | str], Callable[[Path], None]], None]
    log: Callable[[str, int, Mapping[str, float]], None] = _not_logged
