"""Encoded windows as Parquet: a fixed-size list a tensor, half precision where that is enough, zstd."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxcast.domain.forecaster import WindowBatch
from fxcast.models.features import ConditionFeatures
from fxcast.training.latents import LatentWindows

# Paths and outcomes are targets, and volatility goes down to 1e-8: the rest is of order one, and float16 is exact to 0.05 %.
_IN_FULL = ("paths", "outcomes", "widths", "volatility")
_FEATURE = "features."
_SHAPE = b"fxcast.shape"
_SECONDS = pa.timestamp("s", tz="UTC")  # which Parquet keeps as milliseconds


def to_parquet(latents: LatentWindows, windows: WindowBatch, *, mirrored: NDArray[np.bool_]) -> bytes:
    """Write windows, row by row as they are given.

    Args:
        windows: What the latents were made of: each row says of which pair, timeframe and time it is.
        mirrored: Which rows are mirror images, (n,).
    """
    fields = [
        pa.field("symbol", pa.dictionary(pa.int32(), pa.string())),
        pa.field("timeframe", pa.dictionary(pa.int32(), pa.string())),
        pa.field("closed_at", _SECONDS),
        pa.field("mirrored", pa.bool_()),
    ]
    columns: list[pa.Array] = [
        pa.array(windows.symbols).dictionary_encode(),
        pa.array([windows.timeframe.name] * len(windows)).dictionary_encode(),
        pa.array(windows.closed_at).cast(fields[2].type),
        pa.array(mirrored),
    ]
    for name, tensor in _by_name(latents).items():
        shape = list(tensor.shape[1:])
        values = _stored(name, tensor)
        flat = pa.array(values.ravel())
        column = flat if not shape else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape)))
        fields.append(pa.field(name, column.type, metadata={_SHAPE: json.dumps(shape).encode()}))
        columns.append(column)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), sink, compression="zstd", use_dictionary=False)
    return sink.getvalue().to_pybytes()


def from_parquet(content: bytes) -> LatentWindows:
    """Read windows as they are stored, on the CPU; `LatentWindows.full_precision` makes of some what the networks take.

    Raises:
        ValueError: If it is no file of `to_parquet`.
    """
    try:
        schema = pq.read_schema(pa.BufferReader(content))
        shapes = {field.name: json.loads(field.metadata[_SHAPE]) for field in schema if _SHAPE in (field.metadata or {})}
        table = pq.read_table(pa.BufferReader(content), columns=list(shapes))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"no windows: {error}") from error
    tensors = {name: _tensor(table[name].combine_chunks(), shape) for name, shape in shapes.items()}
    features = {name.removeprefix(_FEATURE): tensors.pop(name) for name in shapes if name.startswith(_FEATURE)}
    try:
        return LatentWindows(**tensors, features=ConditionFeatures(**features))
    except TypeError as error:
        raise ValueError(f"no windows: {error}") from error


def closing_times(content: bytes) -> NDArray[np.int64]:
    """Return when each window's last known candle closed, seconds since 1970 UTC, (n,)."""
    table = pq.read_table(pa.BufferReader(content), columns=["closed_at"])
    return table["closed_at"].cast(_SECONDS).cast(pa.int64()).to_numpy()


def _by_name(latents: LatentWindows) -> Mapping[str, Tensor]:
    features = cast("dict[str, Tensor]", latents.features._asdict())
    return {**latents.tensors(), **{_FEATURE + name: tensor for name, tensor in features.items()}}


def _stored(name: str, tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    kind = torch.int32 if not tensor.is_floating_point() else torch.float32 if name in _IN_FULL else torch.float16
    return tensor.to("cpu", kind).contiguous().numpy()


def _tensor(column: Any, shape: list[int]) -> Tensor:  # noqa: ANN401 - a pyarrow array, of which it publishes no type
    flat = column.flatten() if shape else column
    values = flat.to_numpy(zero_copy_only=True)
    return torch.from_numpy(values.copy()).unflatten(0, (-1, *shape)) if shape else torch.from_numpy(values.copy())
