"""Forecasts that were computed once: Parquet files by model, symbol and month."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from fxcast.domain.candle import FloatArray
from fxcast.domain.forecaster import WindowBatch
from fxcast.errors import BadSetting, BadSetup, StoreUnavailable

SEED_SCHEME = "symbol-moment"  # trading.forecasting.forecast_seed
_TIME = pa.timestamp("s", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastKey:
    """What a stored forecast follows from, besides its window: of equal keys and windows the forecasts are equal.

    Attributes:
        model_hash: Of the model's files or parameters, and of the code that reads them.
    """

    model_hash: str
    timeframe: str
    horizons_minutes: tuple[int, ...]
    num_samples: int
    seed_scheme: str = SEED_SCHEME

    @property
    def folder(self) -> str:
        """Where below the root such forecasts lie."""
        horizons = "-".join(str(minutes) for minutes in self.horizons_minutes)
        return f"{self.model_hash[:24]}/{self.timeframe}/h{horizons}.n{self.num_samples}.{self.seed_scheme}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredForecasts:
    """Forecasts of one symbol.

    Attributes:
        made_at: Seconds since 1970 UTC, (n,).
        window_hash: As `window_hashes`, (n,).
        price: Last closes, (n,).
        moves: Log moves, (n, num_samples, horizons) float32.
    """

    made_at: NDArray[np.int64]
    window_hash: NDArray[np.uint64]
    price: FloatArray
    moves: NDArray[np.float32]


def window_hashes(windows: WindowBatch) -> NDArray[np.uint64]:
    """Return a hash of each window's symbol, times and candles, (n,): another candle anywhere in it makes another window."""
    hashes = np.empty(len(windows), dtype=np.uint64)
    for row, symbol in enumerate(windows.symbols):
        digest = hashlib.blake2b(symbol.encode(), digest_size=8)
        digest.update(np.ascontiguousarray(windows.open_times[row]).data)
        digest.update(np.ascontiguousarray(windows.candles[row]).data)
        hashes[row] = int.from_bytes(digest.digest())
    return hashes


class ForecastCache:
    """Files `KEY/SYMBOL/YYYY-MM.SERIAL.parquet` under one root, one row a window and horizon; none is ever changed.

    A file appears whole: written under another name and renamed, or uploaded. Two writers that compute the same store it twice,
    which is harmless.

    Args:
        root: A folder, or a URI that `pyarrow.fs` knows, as in `s3://bucket/forecasts`.

    Raises:
        BadSetting: If the URI's scheme is unknown.
        StoreUnavailable: By every method, if the disk is full or the object store does not answer.
    """

    def __init__(self, root: str | Path) -> None:
        self._filesystem: fs.FileSystem
        if isinstance(root, str) and "://" in root:
            try:
                self._filesystem, path = fs.FileSystem.from_uri(root)
            except (pa.ArrowException, ValueError) as error:
                raise BadSetting(f"forecasts {root.split('?')[0]!r}: {error}") from None
            self._root = path.rstrip("/")
        else:
            self._filesystem, self._root = fs.LocalFileSystem(), Path(root).expanduser().absolute().as_posix()

    def read(self, key: ForecastKey, symbol: str, months: set[str]) -> StoredForecasts:
        """Return what is stored of some months (`YYYY-MM`, UTC, of the moments of the forecasts), in no order.

        Raises:
            BadSetup: If a file can't be read; names it.
        """
        folder = f"{self._root}/{key.folder}/{symbol}"
        try:
            found = self._filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
            wanted = [info.path for info in found if info.base_name.endswith(".parquet") and info.base_name[:7] in months]
            parts = [_decode(self._content(path), path, key) for path in wanted]
        except OSError as error:
            raise StoreUnavailable(self._root, error.strerror or str(error)) from error
        if not parts:
            empty = np.empty((0, key.num_samples, len(key.horizons_minutes)), dtype=np.float32)
            none = np.empty(0, dtype=np.int64)
            return StoredForecasts(made_at=none, window_hash=none.astype(np.uint64), price=none.astype(np.float64), moves=empty)
        return StoredForecasts(
            made_at=np.concatenate([part.made_at for part in parts]),
            window_hash=np.concatenate([part.window_hash for part in parts]),
            price=np.concatenate([part.price for part in parts]),
            moves=np.concatenate([part.moves for part in parts]),
        )

    def write(self, key: ForecastKey, symbol: str, month: str, forecasts: StoredForecasts) -> None:
        """Store forecasts of one month beside what is there."""
        folder = f"{self._root}/{key.folder}/{symbol}"
        path = f"{folder}/{month}.{uuid.uuid4().hex}.parquet"
        content = _encode(key, symbol, forecasts)
        # Anything but a folder shows an object when its upload is complete.
        temporary = f"{folder}/.{month}.{uuid.uuid4().hex}.tmp" if isinstance(self._filesystem, fs.LocalFileSystem) else path
        try:
            self._filesystem.create_dir(folder, recursive=True)
            with self._filesystem.open_output_stream(temporary) as file:
                file.write(content)
            if temporary != path:
                self._filesystem.move(temporary, path)
        except OSError as error:
            raise StoreUnavailable(self._root, error.strerror or str(error)) from error

    def _content(self, path: str) -> bytes:
        with self._filesystem.open_input_stream(path) as file:
            return file.read()


def _encode(key: ForecastKey, symbol: str, forecasts: StoredForecasts) -> bytes:
    n, samples, horizons = forecasts.moves.shape
    by_horizon = np.ascontiguousarray(forecasts.moves.swapaxes(1, 2), dtype=np.float32)  # (n, horizons, samples)
    columns = {
        "symbol": pa.array([symbol] * (n * horizons)).dictionary_encode(),
        "made_at": pa.array(np.repeat(forecasts.made_at, horizons)).cast(_TIME),
        "window_hash": pa.array(np.repeat(forecasts.window_hash, horizons)),
        "price": pa.array(np.repeat(forecasts.price, horizons)),
        "horizon_minutes": pa.array(np.tile(np.array(key.horizons_minutes, dtype=np.int32), n)),
        "log_moves": pa.FixedSizeListArray.from_arrays(pa.array(by_horizon.reshape(-1)), samples),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _decode(content: bytes, path: str, key: ForecastKey) -> StoredForecasts:
    horizons = len(key.horizons_minutes)
    try:
        table = pq.read_table(pa.BufferReader(content)).combine_chunks()
        flat = table["log_moves"].combine_chunks().flatten().to_numpy()
        moves = flat.reshape(-1, horizons, key.num_samples).swapaxes(1, 2)  # (n, samples, horizons)
        return StoredForecasts(
            made_at=table["made_at"].cast(_TIME).cast(pa.int64()).to_numpy()[::horizons],
            window_hash=table["window_hash"].to_numpy()[::horizons],
            price=table["price"].to_numpy()[::horizons],
            moves=moves,
        )
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise BadSetup(f"forecasts {path}: not a file of stored forecasts ({error}); delete it, they are computed again") from None
