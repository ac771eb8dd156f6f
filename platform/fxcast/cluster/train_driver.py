"""Train LDM4TS with Ray Train: what can be refused is refused here, before any worker starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty as LocalEmpty
from typing import Any

import ray.train
import ray.train.torch
from ray.util.queue import Empty, Queue

from fxcast.cluster.train_checkpoint import refuse_another_run
from fxcast.cluster.train_plan import TrainPlan, candles_hash, check_windows, read_series
from fxcast.cluster.train_worker import train_worker
from fxcast.errors import BadModelFolder, FxcastError
from fxcast.models.autoencoder import check_autoencoder, load_autoencoder, weights_hash
from fxcast.models.text import embed_sentences, packaged_text_encoder

# What a run is made of besides these must be the same when it is resumed. The weights of the autoencoder and the candles are
# compared instead of the places where they lie.
_FREE_TO_CHANGE = {"name", "store", "storage_path", "autoencoder", "use_gpu", "threads_per_worker"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutcome:
    """The run's last checkpoint, which holds the model; its metrics, and a hash of the candles that were seen."""

    checkpoint: ray.train.Checkpoint
    metrics: Mapping[str, Any]
    data_hash: str


def train_model(plan: TrainPlan, progress: Callable[[str, int, int], None]) -> TrainOutcome:
    """Run the plan on the connected cluster; a run of the same name and storage resumes from its last checkpoint.

    A run that had finished is not run again: its model comes back.

    Args:
        progress: (stage, done, in all), called from a thread of this process.

    Raises:
        BadModelFolder: If the autoencoder or the text encoder can't be loaded, or the autoencoder is not the preset's.
        BadSetup: If the packaged text encoder is wanted and not installed.
        BadCandles: If a symbol has too few candles in a period.
        BadSetting: If there are more workers than windows, or the storage holds a run of this name with another plan.
    """
    # Everything that can be refused is refused here: a worker that raises would be started again, for the same error.
    series = read_series(plan)
    check_windows(plan, series)
    data_hash = candles_hash(series)
    vae = load_autoencoder(plan.autoencoder)
    check_autoencoder(vae, plan.model, plan.autoencoder)
    identity = {
        **plan.model_dump(mode="json", exclude=_FREE_TO_CHANGE),
        "autoencoder_hash": weights_hash(vae),
        "candles_hash": data_hash,
    }
    refuse_another_run(identity, storage_path=plan.storage_path, name=plan.name)
    embeddings = embed_sentences(plan.text_encoder or packaged_text_encoder())  # small; spares each worker the encoder
    queue = Queue(actor_options={"num_cpus": 0})
    finished = threading.Event()
    listener = threading.Thread(target=_relay, args=(queue, progress, finished), daemon=True)
    listener.start()
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={
            "plan": plan.model_dump(mode="json"),
            "identity": identity,
            "sentence_embeddings": embeddings.numpy(),
            "queue": queue,
        },
        torch_config=torch_config(use_gpu=plan.use_gpu),
        scaling_config=ray.train.ScalingConfig(num_workers=plan.workers, use_gpu=plan.use_gpu),
        run_config=ray.train.RunConfig(
            name=plan.name,
            storage_path=plan.storage_path,
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="best_loss", checkpoint_score_order="min"
            ),
            failure_config=ray.train.FailureConfig(max_failures=2),
        ),
    )
    try:
        result = _run_trainer(trainer)
    except ray.train.TrainingFailedError as error:
        cause = _own_error(error)
        if cause is not None:
            raise cause from error
        raise
    finally:
        finished.set()
        listener.join(timeout=10)
        queue.shutdown()
    if result.checkpoint is None or result.metrics is None:
        raise BadModelFolder(plan.name, "the training run ended without a checkpoint")
    return TrainOutcome(checkpoint=result.checkpoint, metrics=result.metrics, data_hash=data_hash)


def torch_config(*, use_gpu: bool) -> ray.train.torch.TorchConfig:
    """Return how the workers talk to each other: CPU tensors always over gloo, those on GPUs over nccl."""
    # With GPUs Ray would take nccl alone, which has no collectives for the CPU tensors of `mean_over_workers` and `gather`. Its
    # source provides for such a pair of backends; no test has run this on a real GPU.
    return ray.train.torch.TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo")


def _run_trainer(trainer: ray.train.torch.TorchTrainer) -> ray.train.Result:
    """Run the trainer beside the main thread.

    In it, Ray would install a handler for SIGINT that ends the process with `sys.exit`, and leave it there afterwards; so Ctrl-C
    stays a KeyboardInterrupt, and who started the cluster takes it down.
    """
    outcome: Future[ray.train.Result] = Future()

    def fit() -> None:
        try:
            outcome.set_result(trainer.fit())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised again in the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    return outcome.result()


def _relay(queue: Queue, progress: Callable[[str, int, int], None], finished: threading.Event) -> None:
    while not finished.is_set():
        try:
            progress(*queue.get(timeout=0.5))
        except (Empty, LocalEmpty):
            continue
    for said in queue.get_nowait_batch(queue.qsize()):  # what the workers said last is shown too
        progress(*said)


def _own_error(error: ray.train.TrainingFailedError) -> FxcastError | None:
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, FxcastError):
            return cause
    return None
