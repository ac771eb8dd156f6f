"""The first stage, a task of its own: fit the width network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ray
from ray.util.queue import Queue

from fxcast.cluster.train_log import RunLog
from fxcast.cluster.train_plan import SeriesFacts, TrainPlan, main_facts
from fxcast.cluster.train_storage import RunStorage, StageResult, scratch

WIDTH_FOLDER = "width"


@ray.remote(num_cpus=1, max_retries=2)
def fit_width_stage(plan: TrainPlan, facts: Sequence[SeriesFacts], storage: RunStorage, queue: Queue) -> None:
    """Fit the width network on one CPU, and keep it: it has some ten thousand weights."""
    import torch

    from fxcast.cluster.train_start import begin
    from fxcast.cluster.train_windows import chosen_windows
    from fxcast.models.autoencoder import load_autoencoder
    from fxcast.models.pipeline import LDM4TSPipeline
    from fxcast.models.text import SENTENCES
    from fxcast.training.callbacks import Callbacks
    from fxcast.training.charts import join
    from fxcast.training.width import fit_width

    started = time.monotonic()
    torch.set_num_threads(plan.threads_per_worker)
    torch.manual_seed(plan.training.seed)
    pipeline = LDM4TSPipeline.untrained(plan.model, load_autoencoder(plan.autoencoder), torch.zeros(len(SENTENCES), 1))
    begin(plan, pipeline, ("width",))
    most, stride = plan.training.width_windows, plan.training.window_stride_bars
    train = list(chosen_windows(plan, facts, "train", most, stride=stride))
    main = join([part for part in train if plan.is_main(part.windows.timeframe)])
    others = [part for part in train if not plan.is_main(part.windows.timeframe)]
    validation = join(list(chosen_windows(plan, main_facts(plan, facts), "validation", most)))

    def progress(stage: str, done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            queue.put((stage, done, total))

    def checkpoint(_metrics: Mapping[str, float | str], _write: Callable[[Path], None]) -> None: ...  # seconds of work: it restarts

    with RunLog(storage) as log:
        callbacks = Callbacks(wrap=lambda module: module, progress=progress, checkpoint=checkpoint, log=log.write)
        is_trained = plan.start_from is not None
        fit = fit_width(pipeline, main, validation, plan.training, callbacks, also_train=others, is_trained=is_trained)
    metrics = {"learned_width_step": fit.step, "learned_width_skill": fit.skill}
    with scratch() as folder:
        pipeline.width.save_pretrained(folder / WIDTH_FOLDER, safe_serialization=True)
        storage.finish("width", StageResult(metrics=metrics, seconds=time.monotonic() - started, facts={}), folder)
