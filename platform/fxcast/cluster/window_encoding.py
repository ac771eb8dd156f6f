"""What a task does that encodes windows, and what a worker reads of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from fxcast.cluster.train_device import worker_device
from fxcast.cluster.train_plan import TrainPlan
from fxcast.cluster.train_storage import RunStorage
from fxcast.cluster.window_shards import Encoding, Shard, folder_of
from fxcast.data.windows import window_ends
from fxcast.domain.candle import CandleSeries
from fxcast.errors import BadModelFolder
from fxcast.models.autoencoder import load_autoencoder, weights_hash
from fxcast.models.frozen import frozen
from fxcast.models.width import WidthNetwork
from fxcast.training.charts import evenly, join, windows_ending_at
from fxcast.training.latents import LatentWindows, join_latents, to_latents
from fxcast.training.window_table import closing_times, from_parquet, to_parquet


def encode_shard(encoding: Encoding, shard: Shard, series: CandleSeries) -> None:
    """Cut, mirror, encode, permute and write the windows of one shard."""
    plan = encoding.plan
    torch.set_num_threads(plan.threads_per_worker)
    facts = next(one for one in encoding.facts if (one.symbol, one.timeframe.name) == (shard.symbol, shard.timeframe))
    config = plan.model.at(shard.timeframe)
    start, stop = facts.train if shard.split == "train" else facts.validation
    ends = window_ends(series, future_bars=config.future_bars, start=start, stop=stop)
    if shard.split == "train":
        ends = ends[:: plan.training.window_stride_bars][shard.first :: shard.of]
    else:
        ends = evenly(ends, shard.windows)
    windows = windows_ending_at(series, ends, config)
    mirrored = np.zeros(len(windows), dtype=np.bool_)
    if shard.split == "train":
        windows, mirrored = join([windows, windows.mirrored()]), np.repeat([False, True], len(windows))
        order = np.random.default_rng([shard.first, shard.of]).permutation(len(windows))
        windows, mirrored = windows.take(order), mirrored[order]
    vae = _autoencoder(plan.autoencoder, encoding.vae_hash)
    latents = to_latents(windows, config=config, vae=vae, width=_width_network(plan, encoding.width))
    encoding.storage.write(f"{encoding.folder}/{shard.name}", to_parquet(latents, windows.windows, mirrored=mirrored))


def width_hash(state: Mapping[str, Any]) -> str:
    """Return a SHA-256 of a width network's weights, as numpy by name."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def load_shard(storage: RunStorage, key: str, shard: Shard) -> LatentWindows:
    """Read a shard."""
    return from_parquet(storage.read(f"{folder_of(storage, key)}/{shard.name}"))


def load_in_time_order(storage: RunStorage, key: str, shards: Sequence[Shard]) -> LatentWindows:
    """Read some shards whole, their windows ordered by time."""
    contents = [storage.read(f"{folder_of(storage, key)}/{shard.name}") for shard in shards]
    windows = join_latents([from_parquet(content) for content in contents])
    order = np.argsort(np.concatenate([closing_times(content) for content in contents]), kind="stable")
    return windows.take(torch.from_numpy(order)).full_precision()


@lru_cache(maxsize=1)
def _autoencoder(source: str, expected_hash: str) -> AutoencoderKL:
    """Load an autoencoder once for all tasks of a process.

    Raises:
        BadModelFolder: If it is not the one that the run began with.
    """
    vae = load_autoencoder(source)
    if weights_hash(vae) != expected_hash:
        raise BadModelFolder(source, "the autoencoder is another one here than where the run was started")
    torch.nn.Module.to(vae, worker_device())
    return vae


def _width_network(plan: TrainPlan, state: Mapping[str, Any]) -> WidthNetwork:
    network = WidthNetwork(path_points=plan.model.path_points, symbols=len(plan.model.symbols))
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    return frozen(network)
