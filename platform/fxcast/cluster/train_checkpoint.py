"""Of which plan and candles a run is, and the way from what it made last to a model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import ray.train
from pyarrow import fs

from fxcast.cluster.train_storage import RunStorage
from fxcast.errors import BadSetting, Unavailable
from fxcast.models.config import Preset
from fxcast.models.summary import check_forecaster

MODEL_FOLDER = "model"  # only what the last stage of a run has made has it
IDENTITY_FILE = "run.json"

# JSON values that a resumed run must share with the one that was stopped.
RunIdentity = Mapping[str, Any]


def write_identity(identity: RunIdentity, folder: Path) -> None:
    """Write what a checkpoint is of beside its weights."""
    (folder / IDENTITY_FILE).write_text(json.dumps(identity, indent=2) + "\n")


def claim(storage: RunStorage, identity: RunIdentity) -> None:
    """Say of which plan and candles a run is, before it makes anything."""
    storage.write(f"{storage.root}/{IDENTITY_FILE}", (json.dumps(identity, indent=2) + "\n").encode())


def is_final(folder: Path) -> bool:
    """Say whether a checkpoint holds the finished model."""
    return (folder / MODEL_FOLDER).is_dir()


def refuse_another_run(identity: RunIdentity, *, storage_path: str, name: str) -> None:
    """Check that a run of this name, if there is one, is of the same plan and candles.

    Raises:
        BadSetting: If it is not (names what differs), or the storage can't be read.
    """
    stored = _stored_identity(storage_path, name)
    if stored is None:
        return
    before, now = _flat(stored), _flat(identity)
    differing = [
        f"{key} was {_short(before.get(key))}, is {_short(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise BadSetting(
            f"name: {storage_path} holds a run named {name} of another plan: {'; '.join(differing)}; "
            "resume it with what it was started with, or choose another name"
        )


def install_model(checkpoint: ray.train.Checkpoint, folder: Path, *, timeframe: str, preset: Preset | None = None) -> None:
    """Fetch the model of a run's last stage or checkpoint, from wherever it is; the folder appears whole or not at all.

    Args:
        preset: Of LDM4TS; other forecasters have none.

    Raises:
        BadModelFolder: If there is no complete model.
        BadSetting: If the folder exists.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary,
        checkpoint.as_directory() as source,
    ):
        copied = Path(temporary) / MODEL_FOLDER
        if is_final(Path(source)):
            shutil.copytree(Path(source) / MODEL_FOLDER, copied)
        check_forecaster(copied, preset=preset, timeframe=timeframe)
        try:
            copied.rename(folder)
        except OSError as error:
            if folder.exists():
                raise BadSetting(f"name: a model named {folder.name} exists in {folder.parent}; choose another name") from error
            raise


def _stored_identity(storage_path: str, name: str) -> RunIdentity | None:
    """Return the run's; of a run that keeps it with its checkpoints that of the newest, for all of one run have the same."""
    storage = RunStorage.of(storage_path, name)
    try:
        listing = storage.filesystem.get_file_info(fs.FileSelector(storage.root, allow_not_found=True))
        folders = (info.path for info in listing if info.type == fs.FileType.Directory)
        for folder in (storage.root, *sorted(folders, reverse=True)):  # the names of checkpoints hold the time
            if storage.has(f"{folder}/{IDENTITY_FILE}"):  # not so in one whose upload was cut short
                return cast("RunIdentity", json.loads(storage.read(f"{folder}/{IDENTITY_FILE}")))
    except (OSError, ValueError, Unavailable) as error:
        raise BadSetting(f"storage_path {storage_path!r}: {error}") from error
    return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(cast("Mapping[str, Any]", value), f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
