"""How a job runs Ray's trainer: beside the main thread, with progress from the workers and their errors as they were raised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty as LocalEmpty

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayTaskError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError  # Ray publishes no other sign of a dead worker
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fxcast.errors import FxcastError, Unavailable

Progress = Callable[[str, int, int], None]  # (stage, done, in all)


def torch_config(*, has_cuda: bool) -> ray.train.torch.TorchConfig:
    """Return how the workers talk to each other: CPU tensors always over gloo, those on GPUs over nccl."""
    # With GPUs Ray would take nccl alone, which has no collectives for the CPU tensors of `mean_over_workers` and `gather`. Its
    # source provides for such a pair of backends; no test has run this on a real GPU.
    return ray.train.torch.TorchConfig(backend="cpu:gloo,cuda:nccl" if has_cuda else "gloo")


def cluster_has_cuda(gpus: float = 1.0) -> bool:
    """Ask a machine with a GPU whether torch can use it: a cluster may declare GPUs that are not there.

    Args:
        gpus: To reserve for the question; of GPUs that runs share a fraction, or it would wait for the others to end.
    """

    def asked() -> bool:
        import torch

        return torch.cuda.is_available()

    return bool(ray.get(ray.remote(asked).options(num_gpus=gpus, num_cpus=0).remote()))


def run_trainer(trainer: ray.train.torch.TorchTrainer) -> ray.train.Result:
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


@contextmanager
def relayed(progress: Progress) -> Generator[Queue]:
    """Yield a queue; what workers and tasks put into it is passed on from a thread."""
    # On this process's machine: an actor that takes no CPU may land on any, and the loss of that one would end the run.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    finished = threading.Event()
    listener = threading.Thread(target=_relay, args=(queue, progress, finished), daemon=True)
    listener.start()
    try:
        yield queue
    finally:
        finished.set()
        listener.join(timeout=10)
        queue.shutdown()


def _relay(queue: Queue, progress: Progress, finished: threading.Event) -> None:
    while not finished.is_set():
        try:
            progress(*queue.get(timeout=0.5))
        except (Empty, LocalEmpty):
            continue
    for said in queue.get_nowait_batch(queue.qsize()):  # what the workers said last is shown too
        progress(*said)


@contextmanager
def own_errors() -> Generator[None]:
    """Raise what a worker or a task raised on purpose as it was, without what Ray wraps around it.

    Raises:
        Unavailable: If a worker died, which is no error of its own.
    """
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, FxcastError):
            raise error.cause from error
        raise
    except ray.train.TrainingFailedError as error:
        failures = list(getattr(error, "worker_failures", {}).values())
        for failure in failures:
            cause = getattr(failure, "cause", failure)
            if isinstance(cause, FxcastError):
                raise cause from error
        if any(isinstance(failure, WorkerHealthCheckFailedError) for failure in failures):
            raise Unavailable(
                "a worker died once more often than max_failures allows; the same command goes on from the last checkpoint"
            ) from error
        raise
