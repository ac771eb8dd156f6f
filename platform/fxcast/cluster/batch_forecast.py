"""Forecast many windows on the cluster with Ray Data, each only once."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

import fxcast
from fxcast.cluster.forecast_cache import ForecastCache, ForecastKey, StoredForecasts, window_hashes
from fxcast.domain.candle import CandleSeries, to_datetime
from fxcast.domain.forecast import CONTEXT_BARS
from fxcast.domain.forecaster import Forecaster, WindowBatch
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadModelFolder
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.calibration import Calibration
from fxcast.models.load import move_to_gpu
from fxcast.trading.forecasting import forecast_seed

_CODE = ("models", "vision", "domain/forecaster.py")  # what a forecast follows from besides the model's files
_BATCHES_A_BLOCK = 8
_LOOKED_UP = 4096  # windows at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSource:
    """A forecaster that any process of the cluster can load.

    Attributes:
        name: How it is called in reports.
        model_hash: Equal for forecasters that say the same.
        load: Picklable; called once in each actor.
        kept_means: By horizon, for `backtest.forecasts.CalibratedForecasts`; None where samples are not calibrated together.
    """

    name: str
    model_hash: str
    horizons_minutes: tuple[int, ...]
    load: Callable[[], Forecaster]
    kept_means: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRequest:
    """Windows of one series, by the positions of their last candles, ascending, (n,)."""

    series: CandleSeries
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchForecasts:
    """Log moves of each request's windows, (n, num_samples, horizons) float32 each, and where they came from."""

    moves: tuple[NDArray[np.float32], ...]
    computed: int
    reused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What forecasts are computed on.

    Attributes:
        actors: At most so many at once; None for all that the cluster has room for.
        gpus_each: GPUs of each actor, which may be a fraction.
        batch_windows: Windows that an actor samples at once.
    """

    actors: int | None = None
    gpus_each: float = 0.0
    batch_windows: int = 16  # 64 of 50 samples take 2.5 GB an actor


def random_walk_source(timeframe: Timeframe, horizons_minutes: tuple[int, ...]) -> ForecastSource:
    """Return the driftless random walk with EWMA width as a source."""
    walk = RandomWalk(timeframe=timeframe, horizons_minutes=horizons_minutes)
    return parameter_source(walk, parameters=repr(walk))


def parameter_source(forecaster: Forecaster, *, parameters: str) -> ForecastSource:
    """Return a source of a forecaster that travels to the actors as it is; `parameters` are all that its forecasts follow from."""
    return ForecastSource(
        name=forecaster.model_version,
        model_hash=_sha256(code_hash().encode(), forecaster.model_version.encode(), parameters.encode()),
        horizons_minutes=forecaster.horizons_minutes,
        load=partial(_itself, forecaster),
    )


def folder_source(folder: Path, load: Callable[[], Forecaster]) -> ForecastSource:
    """Return a model folder as a source, under its model's version; `load` loads it, here once to see that it can be.

    Raises:
        BadModelFolder: If there is no such folder, or whatever `load` finds wrong with it.
    """
    if not folder.is_dir():
        raise BadModelFolder(str(folder), "there is no such folder")
    forecaster = load()
    return ForecastSource(
        name=forecaster.model_version,
        model_hash=_sha256(code_hash().encode(), folder_hash(folder).encode()),
        horizons_minutes=forecaster.horizons_minutes,
        load=load,
        kept_means=kept_means(forecaster),
    )


def kept_means(forecaster: Forecaster) -> tuple[float, ...] | None:
    """Return by horizon the share of the mean that a forecaster's calibration keeps, over its factor on the spread."""
    calibration = getattr(forecaster, "calibration", None)  # LDM4TS and SSSD have one; other laws need none
    if not isinstance(calibration, Calibration):
        return None
    return tuple(each.mean_weight / each.width for each in calibration.horizons)


def folder_hash(folder: Path) -> str:
    """Return a SHA-256 of the names and contents of all files in a folder but card.md, which says nothing to a forecast."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "card.md"):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def code_hash() -> str:
    """Return a SHA-256 of the code that makes forecasts: after a change of it, stored ones are no longer what it would say."""
    root = Path(fxcast.__file__).parent
    paths = sorted(path for name in _CODE for path in ((root / name).rglob("*.py") if (root / name).is_dir() else [root / name]))
    return _sha256(*(path.read_bytes() for path in paths))


def batch_forecast(
    source: ForecastSource,
    requests: Sequence[WindowRequest],
    *,
    timeframe: Timeframe,
    num_samples: int,
    cache: ForecastCache,
    workers: Workers | None = None,
    show: Callable[[int, int], None] | None = None,
) -> BatchForecasts:
    """Forecast windows on the connected cluster; those that are stored are read.

    A window's seed is `trading.forecasting.forecast_seed` of its symbol and moment, so that it gets the forecast that the engine
    would have asked for. What is computed is stored month by month as each is complete: a run that is stopped goes on there.

    Args:
        source: Of the timeframe.
        requests: One a symbol.
        num_samples: A window.
        cache: Where forecasts are kept.
        workers: What to compute on.
        show: Called with the number of windows done and of all.

    Raises:
        StoreUnavailable: If the cache can't be read or written.
        BadSetup: If a file of the cache is broken.
    """
    key = ForecastKey(
        model_hash=source.model_hash, timeframe=timeframe.name, horizons_minutes=source.horizons_minutes, num_samples=num_samples
    )
    gathered = [_Gathered.look_up(request, key, cache) for request in requests]
    total = sum(len(one.done) for one in gathered)
    reused = sum(int(one.done.sum()) for one in gathered)
    done = reused
    if show is not None:
        show(done, total)
    if done < total:
        for which, rows, moves in _compute(source, gathered, num_samples, workers or Workers()):
            for one in np.unique(which):
                here = which == one
                gathered[int(one)].add(rows[here], moves[here], key, cache)
            done += len(rows)
            if show is not None:
                show(done, total)
    return BatchForecasts(moves=tuple(one.moves for one in gathered), computed=total - reused, reused=reused)


@dataclass(slots=True, kw_only=True)
class _Gathered:
    """The forecasts of one request, as they come; a month is stored when its last one is there."""

    request: WindowRequest
    made_at: NDArray[np.int64]
    months: NDArray[np.str_]
    hashes: NDArray[np.uint64]
    moves: NDArray[np.float32]
    done: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    missing: Counter[str]

    @classmethod
    def look_up(cls, request: WindowRequest, key: ForecastKey, cache: ForecastCache) -> _Gathered:
        series, ends = request.series, request.ends
        parts = [ends[first : first + _LOOKED_UP] for first in range(0, len(ends), _LOOKED_UP)]
        hashes = np.concatenate([window_hashes(WindowBatch.ending_at(series, part)) for part in parts])
        made_at = series.close_times[ends].astype(np.int64)
        months = series.close_times[ends].astype("datetime64[M]").astype(str)
        moves = np.empty((len(ends), key.num_samples, len(key.horizons_minutes)), dtype=np.float32)
        done = np.zeros(len(ends), dtype=bool)
        stored = cache.read(key, series.symbol, {str(month) for month in np.unique(months)})
        row_of = {pair: row for row, pair in enumerate(zip(stored.made_at.tolist(), stored.window_hash.tolist(), strict=True))}
        for position, pair in enumerate(zip(made_at.tolist(), hashes.tolist(), strict=True)):
            row = row_of.get(pair)
            if row is not None:
                moves[position], done[position] = stored.moves[row], True
        return cls(
            request=request,
            made_at=made_at,
            months=months,
            hashes=hashes,
            moves=moves,
            done=done,
            fresh=np.zeros(len(ends), dtype=bool),
            missing=Counter(months[~done].tolist()),
        )

    def add(self, rows: NDArray[np.int64], moves: NDArray[np.float32], key: ForecastKey, cache: ForecastCache) -> None:
        self.moves[rows], self.done[rows], self.fresh[rows] = moves, True, True
        series, ends = self.request.series, self.request.ends
        for month, count in Counter(self.months[rows].tolist()).items():
            self.missing[month] -= count
            if self.missing[month] == 0:
                new = np.flatnonzero(self.fresh & (self.months == month))
                forecasts = StoredForecasts(
                    made_at=self.made_at[new],
                    window_hash=self.hashes[new],
                    price=series.closes[ends[new]],
                    moves=self.moves[new],
                )
                cache.write(key, series.symbol, month, forecasts)


class _Sampler:
    """An actor of the pool: loads the forecaster once, and samples windows that a batch names by series and position."""

    def __init__(
        self, load: Callable[[], Forecaster], series: list[ray.ObjectRef[CandleSeries]], num_samples: int, *, has_gpu: bool
    ) -> None:
        self._forecaster = load()
        if has_gpu:
            move_to_gpu(self._forecaster)
        self._series: list[CandleSeries] = ray.get(series)
        self._num_samples = num_samples

    def __call__(self, batch: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
        """Return what was asked with `moves`, (n, num_samples, horizons)."""
        which, end = batch["which"], batch["end"]
        moves: NDArray[np.float32] | None = None
        for one in np.unique(which):
            here = np.flatnonzero(which == one)
            windows = WindowBatch.ending_at(self._series[int(one)], end[here])
            seeds = [
                forecast_seed(symbol, to_datetime(np.datetime64(int(second), "s")))
                for symbol, second in zip(windows.symbols, windows.closed_at, strict=True)
            ]
            sampled = self._forecaster.sample(windows, num_samples=self._num_samples, seeds=seeds)
            moves = np.empty((len(which), *sampled.shape[1:]), dtype=np.float32) if moves is None else moves
            moves[here] = sampled
        assert moves is not None, "Ray Data hands out no empty batch"
        return {"which": which, "row": batch["row"], "moves": moves}


def _compute(
    source: ForecastSource, gathered: Sequence[_Gathered], num_samples: int, workers: Workers
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Yield (which request, rows in it, moves) as batches come from the cluster, in any order."""
    columns: list[NDArray[np.int64]] = []
    references: list[ray.ObjectRef[CandleSeries]] = []
    for which, one in enumerate(gathered):
        rows = np.flatnonzero(~one.done)
        ends = one.request.ends[rows]
        first = int(ends.min()) - CONTEXT_BARS + 1 if len(ends) else 0
        last = int(ends.max()) + 1 if len(ends) else 0
        references.append(ray.put(one.request.series.slice(first, last)))  # read by every actor of a node from shared memory
        columns.append(np.stack([np.full(len(rows), which), rows, ends - first], axis=1))
    named = np.concatenate(columns)  # (windows, 3)
    actors = workers.actors or _room(workers.gpus_each)
    block = min(workers.batch_windows * _BATCHES_A_BLOCK, math.ceil(len(named) / (2 * actors)))
    tables = [
        pa.table({name: part[:, column] for column, name in enumerate(("which", "row", "end"))})
        for part in (named[first : first + block] for first in range(0, len(named), block))
    ]
    context = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that its bars are off
    logging.getLogger("ray.data._internal.issue_detection").setLevel(logging.ERROR)  # it warns that no memory is reserved
    bars, context.enable_progress_bars = context.enable_progress_bars, False  # the job shows its own
    # A slow model on a busy machine may take long for a block; Ray would give the whole of it up.
    patience, context.execution_no_progress_timeout_s = context.execution_no_progress_timeout_s, -1
    try:
        forecasts = ray.data.from_arrow(tables).map_batches(
            _Sampler,
            fn_constructor_args=(source.load, references, num_samples),
            fn_constructor_kwargs={"has_gpu": workers.gpus_each > 0},
            batch_size=workers.batch_windows,
            batch_format="numpy",
            # All from the start, and one block at a time: in a pool that grows, the first would have taken the blocks before the
            # others were there.
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(tables)), max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=workers.gpus_each or None,
        )
        for batch in cast("Iterable[dict[str, Any]]", forecasts.iter_batches(batch_size=None, batch_format="numpy")):
            yield batch["which"], batch["row"], batch["moves"]
    finally:
        context.enable_progress_bars = bars
        context.execution_no_progress_timeout_s = patience


def _room(gpus_each: float) -> int:
    resources = ray.cluster_resources()
    room = resources.get("GPU", 0.0) / gpus_each if gpus_each else resources.get("CPU", 1.0)
    return max(1, int(room))


def _itself(forecaster: Forecaster) -> Forecaster:
    return forecaster


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()
