"""Where a Ray Train worker begins. Ray's controller imports this module too, and need not wait for torch and diffusers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray.train


def train_worker(config: dict[str, Any]) -> None:
    """Run on each Ray Train worker.

    Args:
        config: `plan`, `identity`, `windows` (the key) and `stages` as JSON types, `storage` and `facts`, `sentence_embeddings` as
            numpy, and the `queue` for progress.
    """
    saved = ray.train.get_checkpoint()
    with nullcontext() if saved is None else saved.as_directory() as folder:
        from fxcast.cluster.train_loop import run_stages

        run_stages(config, None if folder is None else Path(folder))
