"""Where a Ray Train worker begins. Ray's controller imports this module too, and need not wait for torch and diffusers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray.train

from fxcast.cluster.train_checkpoint import is_final


def train_worker(config: dict[str, Any]) -> None:
    """Run on each Ray Train worker.

    Args:
        config: `plan` and `identity` as JSON types, `sentence_embeddings` as numpy, and the `queue` for progress.
    """
    saved = ray.train.get_checkpoint()
    with nullcontext() if saved is None else saved.as_directory() as folder:
        resume_from = None if folder is None else Path(folder)
        if resume_from is not None and is_final(resume_from):
            return  # the run had finished: Ray returns its last checkpoint and the metrics stored with it
        from fxcast.cluster.train_loop import fit

        fit(config, resume_from)
