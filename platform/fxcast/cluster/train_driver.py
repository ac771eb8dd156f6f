"""Train LDM4TS on a Ray cluster, stage by stage: what can be refused is refused here, before any worker starts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from ray.util.queue import Queue

from fxcast.cluster.batch_forecast import folder_hash
from fxcast.cluster.train_card import code_version
from fxcast.cluster.train_checkpoint import RunIdentity, claim, refuse_another_run
from fxcast.cluster.train_plan import SeriesFacts, TrainPlan, check_workers, survey
from fxcast.cluster.train_start import check_same_autoencoder
from fxcast.cluster.train_storage import STAGES, RunStorage, Stage, StageResult
from fxcast.cluster.train_trainer import Progress, cluster_has_cuda, own_errors, relayed, run_trainer, torch_config
from fxcast.cluster.train_width import WIDTH_FOLDER, fit_width_stage
from fxcast.cluster.train_worker import train_worker
from fxcast.cluster.window_encoding import width_hash
from fxcast.cluster.window_shards import Encoding, WindowShards, ensure_windows
from fxcast.errors import BadSetting
from fxcast.models.autoencoder import check_autoencoder, load_autoencoder, weights_hash
from fxcast.models.frozen import load_frozen
from fxcast.models.text import embed_sentences, packaged_text_encoder
from fxcast.models.width import WidthNetwork

# What a run is made of besides these must be the same when it is resumed. The weights of the autoencoder and the candles are
# compared instead of the places where they lie.
_FREE_TO_CHANGE = {
    *("name", "store", "storage_path", "autoencoder", "start_from", "use_gpu", "threads_per_worker", "workers"),
    *("cpus_per_worker", "resources_per_worker", "max_failures", "keep_checkpoints"),
}
_BY_WORKERS: tuple[Stage, ...] = ("denoiser", "fusion", "calibration")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOutcome:
    """What the stages of a run have made so far.

    Attributes:
        done: The stages that are done.
        model: The files that the last stage has kept, among them the model; None if it is not done.
        metrics: Of all stages that are done, plain JSON types.
        data_hash: Of the candles that were seen.
    """

    done: tuple[Stage, ...]
    model: ray.train.Checkpoint | None
    metrics: Mapping[str, Any]
    data_hash: str


def train_model(plan: TrainPlan, progress: Progress, *, stage: Stage | None = None, again: bool = False) -> TrainOutcome:
    """Do the stages of a plan that are not done, on the connected cluster.

    A run of the same name and storage goes on where it was stopped: a finished stage is not done again, and the denoiser and the
    temporal fusion go on from their last checkpoint.

    Args:
        progress: (stage, done, in all), called from a thread of this process.
        stage: Only this one; by default all.
        again: Do it, and what follows from it, afresh.

    Raises:
        BadModelFolder: If the autoencoder or the text encoder can't be loaded, or the autoencoder is not the preset's.
        BadSetup: If the packaged text encoder is wanted and not installed.
        BadCandles: If a symbol has too few candles in a period.
        BadSetting: If there are more workers than windows in a batch, a stage before the one asked for is not done, or the storage
            holds a run of this name with another plan.
        Unavailable: If the storage does not answer, or workers died more often than `plan.max_failures`.
    """
    # Everything that can be refused is refused here: a worker that raises would be started again, for the same error.
    check_workers(plan)
    facts, data_hash = survey(plan)
    vae = load_autoencoder(plan.autoencoder)
    check_autoencoder(vae, plan.model, plan.autoencoder)
    identity: RunIdentity = {
        **plan.model_dump(mode="json", exclude=_FREE_TO_CHANGE),
        "autoencoder_hash": weights_hash(vae),
        "candles_hash": data_hash,
    }
    if plan.start_from is not None:
        check_same_autoencoder(plan, identity["autoencoder_hash"])
        identity = {**identity, "start_hash": folder_hash(Path(plan.start_from))}
    refuse_another_run(identity, storage_path=plan.storage_path, name=plan.name)
    run = _Run(plan=plan, facts=facts, storage=RunStorage.of(plan.storage_path, plan.name), identity=identity)
    if stage is not None:
        _require_earlier(run.storage, stage)
    if again:
        run.storage.forget(stage or STAGES[0])
    wanted: tuple[Stage, ...] = STAGES if stage is None else (stage,)
    missing = tuple[Stage, ...](each for each in wanted if run.storage.result(each) is None)
    if missing:
        run.do(missing, vae, progress)
    return _outcome(run.storage, data_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    plan: TrainPlan
    facts: tuple[SeriesFacts, ...]
    storage: RunStorage
    identity: RunIdentity

    def do(self, stages: tuple[Stage, ...], vae: AutoencoderKL, progress: Progress) -> None:
        """Do stages, the first of which has all before it done."""
        by_workers = tuple[Stage, ...](stage for stage in stages if stage in _BY_WORKERS)
        # Small, and spares each worker the encoder; found to be missing before anything starts.
        embeddings = embed_sentences(self.plan.text_encoder or packaged_text_encoder()).numpy() if by_workers else None
        with relayed(progress) as queue, own_errors():
            claim(self.storage, self.identity)
            if "width" in stages:
                ray.get(fit_width_stage.remote(self.plan, self.facts, self.storage, queue))
            if stages == ("width",):
                return
            windows = self._encode(weights_hash(vae), queue)
            if by_workers:
                self._train(by_workers, windows, embeddings, queue)

    def _encode(self, vae_hash: str, queue: Queue) -> WindowShards:
        started = time.monotonic()
        with self.storage.made_by("width").as_directory() as folder:
            network = load_frozen(WidthNetwork, f"{folder}/{WIDTH_FOLDER}")
        state = {name: value.numpy() for name, value in network.state_dict().items()}
        encoding = Encoding(
            plan=self.plan,
            facts=self.facts,
            storage=self.storage,
            width=state,
            vae_hash=vae_hash,
            width_hash=width_hash(state),
        )
        windows = ensure_windows(
            encoding,
            at_once=self.plan.worker_range[1],
            gpus_each=self.plan.gpus_each,
            progress=lambda done, total: queue.put(("windows", done, total)),
        )
        if self.storage.result("windows") is None:
            metrics = {f"{split}_windows": sum(shard.windows for shard in windows.of(split)) for split in ("train", "validation")}
            seconds = time.monotonic() - started
            self.storage.finish("windows", StageResult(metrics=metrics, seconds=seconds, facts={"key": windows.key}))
        return windows

    def _train(self, stages: tuple[Stage, ...], windows: WindowShards, embeddings: Any, queue: Queue) -> None:  # noqa: ANN401 - numpy
        plan, storage = self.plan, self.storage
        fewest, most = plan.worker_range
        resources = {"CPU": plan.cpus_per_worker, **({"GPU": 1.0} if plan.use_gpu else {}), **plan.resources_per_worker}
        trainer = ray.train.torch.TorchTrainer(
            train_worker,
            train_loop_config={
                "plan": plan.model_dump(mode="json"),
                "identity": self.identity,
                "code_version": code_version(),
                "facts": self.facts,
                "storage": storage,
                "windows": windows.key,
                "stages": stages,
                "sentence_embeddings": embeddings,
                "queue": queue,
            },
            torch_config=torch_config(has_cuda=plan.use_gpu and cluster_has_cuda(plan.gpus_each)),
            scaling_config=ray.train.ScalingConfig(
                num_workers=most if fewest == most else (fewest, most), use_gpu=plan.use_gpu, resources_per_worker=resources
            ),
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=storage.root,
                storage_filesystem=None if storage.is_local else storage.filesystem,
                checkpoint_config=ray.train.CheckpointConfig(
                    num_to_keep=plan.keep_checkpoints, checkpoint_score_attribute="score", checkpoint_score_order="min"
                ),
                failure_config=ray.train.FailureConfig(max_failures=plan.max_failures),
            ),
        )
        storage.keep_checkpoints(run_trainer(trainer))


def _require_earlier(storage: RunStorage, stage: Stage) -> None:
    for earlier in STAGES[: STAGES.index(stage)]:
        if storage.result(earlier) is None:
            raise BadSetting(f"stage: found {stage}, but {earlier} of run {storage.name} is not done; do that one first, or all")


def _outcome(storage: RunStorage, data_hash: str) -> TrainOutcome:
    results = {stage: result for stage in STAGES if (result := storage.result(stage)) is not None}
    metrics: dict[str, Any] = {}
    for result in results.values():
        metrics |= result.metrics
    metrics["seconds"] = sum(result.seconds for result in results.values())
    model = storage.made_by("calibration") if "calibration" in results else None
    return TrainOutcome(
        done=tuple(stage for stage in STAGES if stage in results), model=model, metrics=metrics, data_hash=data_hash
    )
