"""Curves for TensorBoard, in the run's folder; the stage is part of each tag."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from fxcast.cluster.train_storage import RunStorage


class RunLog:
    """Writes curves of one process; in an object store they appear at each `write`.

    A run that goes on adds a file to those of the processes before it.
    """

    def __init__(self, storage: RunStorage) -> None:
        self._storage = storage
        self._folder = f"{storage.root}/tensorboard"
        self._local = None if storage.is_local else tempfile.TemporaryDirectory()
        where = self._folder if self._local is None else self._local.name
        self._writer = SummaryWriter(where)

    def write(self, stage: str, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in scalars.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._flush()
        self._writer.close()
        if self._local is not None:
            self._local.cleanup()

    def _flush(self) -> None:
        self._writer.flush()
        if self._local is not None:
            self._storage.upload(Path(self._local.name), self._folder)
