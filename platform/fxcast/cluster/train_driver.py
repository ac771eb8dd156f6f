"""Train LDM4TS with Ray Train: each worker reads its windows from the candle store and runs the torch loop."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty as LocalEmpty
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from pydantic import AwareDatetime, Field
from ray.util.queue import Empty, Queue

from fxcast import __version__
from fxcast.cluster.train_checkpoint import MODEL_FOLDER, is_final, refuse_another_run, write_identity
from fxcast.config import Settings
from fxcast.data.splits import split_in_time
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadCandles, BadModelFolder, BadSetting, FxcastError
from fxcast.models.autoencoder import SHIPPED_TINY_VAE, check_autoencoder, load_autoencoder, weights_hash
from fxcast.models.config import LDM4TSConfig
from fxcast.models.folder import save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import embed_sentences, packaged_text_encoder
from fxcast.training.charts import WindowArrays, join, windows_of
from fxcast.training.config import TrainingConfig
from fxcast.training.denoiser import Callbacks
from fxcast.training.run import train_ldm4ts

# What a run is made of besides these must be the same when it is resumed. The weights of the autoencoder and the candles are
# compared instead of the places where they lie.
_FREE_TO_CHANGE = {"name", "store", "storage_path", "autoencoder", "use_gpu", "threads_per_worker"}


class TrainPlan(Settings):
    """All that a training run is made of; plain values, so that it travels to the workers."""

    name: str = Field(description="name of the run and version of the model")
    store: str
    symbols: tuple[str, ...]
    train: tuple[AwareDatetime, AwareDatetime] = Field(description="candles that open in [start, stop)")
    validation: tuple[AwareDatetime, AwareDatetime]
    model: LDM4TSConfig
    training: TrainingConfig
    autoencoder: str = str(SHIPPED_TINY_VAE)
    text_encoder: str | None = Field(default=None, description="folder or hub name; None takes the packaged MiniLM")
    storage_path: str = Field(description="where Ray Train keeps checkpoints")
    workers: int = Field(default=2, ge=1)
    use_gpu: bool = False
    threads_per_worker: int = Field(default=1, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutcome:
    """The run's last checkpoint, which holds the model; its metrics, and a hash of the candles that were seen."""

    checkpoint: ray.train.Checkpoint
    metrics: Mapping[str, Any]
    data_hash: str


def plan_periods(
    series: CandleSeries, config: LDM4TSConfig, *, validation_share: float, test_share: float
) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime], tuple[datetime, datetime]]:
    """Return train, validation and test as half-open ranges of open times, purged by the longest horizon."""
    periods = split_in_time(series, validation_share=validation_share, test_share=test_share, purge_bars=config.future_bars)
    end = to_datetime(series.close_times[-1])

    def times(period: tuple[int, int]) -> tuple[datetime, datetime]:
        start, stop = period
        return to_datetime(series.open_times[start]), end if stop == len(series) else to_datetime(series.open_times[stop])

    return times(periods.train), times(periods.validation), times(periods.test)


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
    series = _series(plan)
    _check_windows(plan, series)
    data_hash = _data_hash(series)
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
        _train_worker,
        train_loop_config={
            "plan": plan.model_dump(mode="json"),
            "identity": identity,
            "sentence_embeddings": embeddings,
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
    while True:
        try:
            progress(*queue.get(timeout=0.5))
        except (Empty, LocalEmpty):
            if finished.is_set():  # looked at only now: what the workers said last is shown too
                return


def _own_error(error: ray.train.TrainingFailedError) -> FxcastError | None:
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, FxcastError):
            return cause
    return None


def _series(plan: TrainPlan) -> list[CandleSeries]:
    store = CandleStore(plan.store)
    timeframe = Timeframe(plan.model.timeframe)
    return [store.read(symbol, timeframe, start=plan.train[0], stop=plan.validation[1]) for symbol in plan.symbols]


def _data_hash(series: Sequence[CandleSeries]) -> str:
    digest = hashlib.sha256()
    for one in series:
        digest.update(one.symbol.encode())
        digest.update(one.open_times.tobytes())
        digest.update(one.values.tobytes())
    return digest.hexdigest()


def _inside(series: CandleSeries, period: tuple[datetime, datetime]) -> tuple[int, int]:
    start, stop = (int(np.searchsorted(series.open_times, to_datetime64(moment))) for moment in period)
    return start, stop


def _check_windows(plan: TrainPlan, series: Sequence[CandleSeries]) -> None:
    """Check that every symbol has a window in both periods, and every worker one of its own."""
    shortest = CONTEXT_BARS + plan.model.future_bars  # one window and its outcome
    windows: list[int] = []
    for name, period in (("training", plan.train), ("validation", plan.validation)):
        candles = [stop - start for start, stop in (_inside(one, period) for one in series)]
        for one, count in zip(series, candles, strict=True):
            if count < shortest:
                found = f"{count} of {one.symbol} in the {name} period, {period[0]:%Y-%m-%d} to {period[1]:%Y-%m-%d}"
                raise BadCandles("candles", found, f"at least {shortest} of each symbol")
        windows.append(sum(count - shortest + 1 for count in candles))
    training = plan.training
    shared = {
        f"training windows, every {training.window_stride_bars} bars": -(-windows[0] // training.window_stride_bars),
        "windows of the validation period": windows[1],
        "training.validation_windows": training.validation_windows,
        "training.calibration_windows": training.calibration_windows,
    }
    what, fewest = min(shared.items(), key=lambda item: item[1])
    if fewest < plan.workers:
        raise BadSetting(f"workers: found {plan.workers}; allowed: at most {fewest}, for that many {what} are shared out")


def _windows(plan: TrainPlan, series: Sequence[CandleSeries], period: tuple[datetime, datetime]) -> WindowArrays:
    return join([windows_of(one, plan.model, *_inside(one, period)) for one in series])


def _train_worker(config: dict[str, Any]) -> None:
    """Run on each Ray Train worker."""
    saved = ray.train.get_checkpoint()
    with nullcontext() if saved is None else saved.as_directory() as folder:
        resume_from = None if folder is None else Path(folder)
        if resume_from is not None and is_final(resume_from):
            return  # the run had finished: Ray returns its last checkpoint and the metrics stored with it
        _fit(config, resume_from)


def _fit(config: dict[str, Any], resume_from: Path | None) -> None:
    plan = TrainPlan.model_validate(config["plan"])
    torch.set_num_threads(plan.threads_per_worker)
    torch.manual_seed(plan.training.seed)  # the same untrained weights on every worker
    queue: Queue = config["queue"]
    is_first = ray.train.get_context().get_world_rank() == 0
    started = datetime.now(UTC)
    pipeline = LDM4TSPipeline.untrained(plan.model, load_autoencoder(plan.autoencoder), config["sentence_embeddings"])
    pipeline = pipeline.to(ray.train.torch.get_device())

    def progress(stage: str, done: int, total: int) -> None:
        if is_first and (done % 5 == 0 or done == total):
            queue.put((stage, done, total))

    def checkpoint(metrics: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        if not is_first:
            ray.train.report(dict(metrics))
            return
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            write_identity(config["identity"], Path(folder))
            ray.train.report(dict(metrics), checkpoint=ray.train.Checkpoint.from_directory(folder))

    callbacks = Callbacks(
        wrap=ray.train.torch.prepare_model,
        progress=progress,
        checkpoint=checkpoint,
    )
    series = _series(plan)
    trained = train_ldm4ts(
        pipeline,
        _windows(plan, series, plan.train),
        _windows(plan, series, plan.validation),
        plan.training,
        callbacks,
        fitted_on=f"{', '.join(plan.symbols)} {plan.validation[0]:%Y-%m-%d} to {plan.validation[1]:%Y-%m-%d}",
        resume_from=resume_from,
    )
    final = replace(trained.pipeline, model_version=plan.name)
    metrics = {**trained.metrics, "seconds": (datetime.now(UTC) - started).total_seconds()}
    card = _card(plan, metrics, config["identity"]["candles_hash"])
    checkpoint(metrics, lambda folder: save_pretrained(final, folder / MODEL_FOLDER, card=card, fxcast_version=__version__))


def _card(plan: TrainPlan, metrics: Mapping[str, Any], data_hash: str) -> str:
    scores = "\n".join(
        f"| {name} | {value:.4f} |" if isinstance(value, float) else f"| {name} | {value} |" for name, value in metrics.items()
    )
    horizons = ", ".join(map(str, plan.model.horizons_minutes))
    return f"""# {plan.name}

LDM4TS, preset `{plan.model.preset}`, {plan.model.timeframe} candles, horizons {horizons} minutes.

- Symbols: {", ".join(plan.symbols)}
- Trained on candles from {plan.train[0]:%Y-%m-%d %H:%M} to {plan.train[1]:%Y-%m-%d %H:%M} UTC
- Early stopping and calibration on {plan.validation[0]:%Y-%m-%d %H:%M} to {plan.validation[1]:%Y-%m-%d %H:%M} UTC
- SHA-256 of the candles: `{data_hash}`
- fxcast {__version__}, seed {plan.training.seed}, {plan.workers} workers

| training | value |
|---|---|
{scores}

The samples are widened by `width_…` and their mean is held at `mean_weight_…` of itself, both fitted on the validation period. What
the forecasts are worth is measured later, on a test period that nothing above has seen.
"""
