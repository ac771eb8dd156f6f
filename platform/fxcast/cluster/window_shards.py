"""Encode a run's windows once, by Ray tasks, into Parquet shards that every later run of the same data and autoencoder reuses.

Each shard holds every n-th window of one series' whole period, in a random order, so that any few shards are a fair mix. A killed
encoding is completed: shards are written whole, and the manifest that names them all is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import ray

from fxcast.cluster.train_plan import SeriesFacts, TrainPlan, main_facts
from fxcast.cluster.train_storage import RunStorage
from fxcast.domain.candle import CandleSeries

ROWS_A_SHARD = 2048
LEAST_SHARDS = 8  # of the training windows of all series together
_FORMAT = 1
_MANIFEST = "manifest.json"
# What of a model's settings the encoded windows do not depend on.
_NOT_ENCODED = {"unet_channels", "condition_width", "candle_patch_bars", "sampler_steps", "train_timesteps"}

Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file: every `of`-th window from the `first` of a series' windows of a period.

    Attributes:
        rows: Of the file; a training window has two, its own and its mirror image's.
        windows: How many windows that are.
    """

    name: str
    split: Split
    symbol: str
    timeframe: str
    first: int
    of: int
    windows: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShards:
    """Encoded windows in a storage."""

    key: str
    shards: tuple[Shard, ...]

    def of(self, split: Split) -> tuple[Shard, ...]:
        """Return the shards of training or of validation."""
        return tuple(shard for shard in self.shards if shard.split == split)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """All that a task needs to know besides the candles; travels to it.

    Attributes:
        width: State of the width network, by name, as numpy.
    """

    plan: TrainPlan
    facts: tuple[SeriesFacts, ...]
    storage: RunStorage
    width: Mapping[str, Any]
    vae_hash: str
    width_hash: str

    @property
    def key(self) -> str:
        """Identify the encoded windows: another one wherever a byte of them could differ."""
        plan = self.plan
        made_of = {
            "format": _FORMAT,
            "candles": [[one.symbol, one.timeframe.name, one.digest, one.train, one.validation] for one in self.facts],
            "stride": plan.training.window_stride_bars,
            "validation_windows": plan.training.validation_windows,
            "model": plan.model.model_dump(mode="json", exclude=_NOT_ENCODED),
            "autoencoder": self.vae_hash,
            "width": self.width_hash,
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def folder(self) -> str:
        """Where the windows are, a path of the storage."""
        return folder_of(self.storage, self.key)


def folder_of(storage: RunStorage, key: str) -> str:
    """Return where the windows of a key are, a path of the storage."""
    return f"{storage.shared}/windows/{key}"


def read_manifest(storage: RunStorage, key: str) -> WindowShards | None:
    """Return the encoded windows of a key, None if they are not complete."""
    path = f"{folder_of(storage, key)}/{_MANIFEST}"
    if not storage.has(path):
        return None
    content = json.loads(storage.read(path))
    return WindowShards(key=content["key"], shards=tuple(Shard(**shard) for shard in content["shards"]))


def plan_shards(plan: TrainPlan, facts: Sequence[SeriesFacts]) -> tuple[Shard, ...]:
    """Say which shards there will be: for training of about `ROWS_A_SHARD` rows, for validation one a main timeframe's series."""
    stride = plan.training.window_stride_bars
    shards: list[Shard] = []
    for one in facts:
        windows = -(-plan.windows_in(one.train) // stride)
        count = min(windows, max(-(-2 * windows // ROWS_A_SHARD), -(-LEAST_SHARDS // len(facts))))
        for first in range(count):
            own = len(range(first, windows, count))
            shards.append(_shard("train", one, first=first, of=count, windows=own, rows=2 * own))
    checked = main_facts(plan, facts)
    for number, one in enumerate(checked):
        shared_out = len(range(number, plan.training.validation_windows, len(checked)))
        own = min(plan.windows_in(one.validation), max(1, shared_out))
        shards.append(_shard("validation", one, first=0, of=1, windows=own, rows=own))
    counted = {"train": 0, "validation": 0}
    named: list[Shard] = []
    for shard in shards:
        named.append(replace(shard, name=f"{shard.split}-{counted[shard.split]:05d}.parquet"))
        counted[shard.split] += 1
    return tuple(named)


def ensure_windows(encoding: Encoding, *, at_once: int, gpus_each: float, progress: Callable[[int, int], None]) -> WindowShards:
    """Return the encoded windows, after encoding those that are missing.

    Args:
        at_once: Tasks that run at a time.
        gpus_each: GPUs of each, which may be a fraction.
        progress: (rows encoded, in all).
    """
    storage = encoding.storage
    complete = read_manifest(storage, encoding.key)
    if complete is not None:
        return complete
    shards = plan_shards(encoding.plan, encoding.facts)
    there = storage.files(encoding.folder)
    missing = [shard for shard in shards if shard.name not in there]
    total = sum(shard.rows for shard in shards)
    done = total - sum(shard.rows for shard in missing)
    progress(done, total)
    task = _encode.options(num_cpus=1, num_gpus=gpus_each)
    shared = ray.put(encoding)
    running: dict[ray.ObjectRef[int], Shard] = {}
    for shard, series in _with_candles(encoding, missing):
        if len(running) >= at_once:
            done += _finish_one(running)
            progress(done, total)
        running[task.remote(shared, shard, series)] = shard
    while running:
        done += _finish_one(running)
        progress(done, total)
    content = {"key": encoding.key, "shards": [asdict(shard) for shard in shards]}
    storage.write(f"{encoding.folder}/{_MANIFEST}", (json.dumps(content, indent=1) + "\n").encode())
    return WindowShards(key=encoding.key, shards=shards)


def _with_candles(encoding: Encoding, shards: Sequence[Shard]) -> Iterator[tuple[Shard, ray.ObjectRef[CandleSeries]]]:
    """Yield shards with their candles in Ray's object store: one series at a time, dropped when its last task is done."""
    for one in encoding.facts:
        own = [shard for shard in shards if (shard.symbol, shard.timeframe) == (one.symbol, one.timeframe.name)]
        if own:
            series = ray.put(encoding.plan.read(one.symbol, one.timeframe))
            for shard in own:
                yield shard, series


def _finish_one(running: dict[ray.ObjectRef[int], Shard]) -> int:
    (ready, *_), _ = ray.wait(list(running), num_returns=1)
    ray.get(ready)  # raises what the task raised
    return running.pop(ready).rows


@ray.remote(max_retries=3)
def _encode(encoding: Encoding, shard: Shard, series: CandleSeries) -> int:
    from fxcast.cluster.window_encoding import encode_shard  # loads torch, which who plans need not wait for

    encode_shard(encoding, shard, series)
    return shard.rows


def _shard(split: Split, one: SeriesFacts, *, first: int, of: int, windows: int, rows: int) -> Shard:
    return Shard(
        name="", split=split, symbol=one.symbol, timeframe=one.timeframe.name, first=first, of=of, windows=windows, rows=rows
    )
