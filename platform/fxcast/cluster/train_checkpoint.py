"""What a run's checkpoints hold beside weights: of which plan and candles they are; and the way from the last one to a model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import ray.train
from pyarrow import fs

from fxcast.errors import BadSetting
from fxcast.models.config import Preset
from fxcast.models.index import check_folder

MODEL_FOLDER = "model"  # only the last checkpoint of a finished run has it
IDENTITY_FILE = "run.json"

# JSON values that a resumed run must share with the one that was stopped.
RunIdentity = Mapping[str, Any]


def write_identity(identity: RunIdentity, folder: Path) -> None:
    """Write what a checkpoint is of beside its weights."""
    (folder / IDENTITY_FILE).write_text(json.dumps(identity, indent=2) + "\n")


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


def install_model(checkpoint: ray.train.Checkpoint, folder: Path, *, preset: Preset, timeframe: str) -> None:
    """Fetch the model of a run's last checkpoint, from wherever it is stored; the folder appears whole or not at all.

    Raises:
        BadModelFolder: If the checkpoint holds no complete model.
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
        check_folder(copied, preset=preset, timeframe=timeframe)
        try:
            copied.rename(folder)
        except OSError as error:
            if folder.exists():
                raise BadSetting(f"name: a model named {folder.name} exists in {folder.parent}; choose another name") from error
            raise


def _stored_identity(storage_path: str, name: str) -> RunIdentity | None:
    """Return that of the run's newest checkpoint; all of one run have the same."""
    try:
        filesystem, root = fs.FileSystem.from_uri(storage_path)  # as Ray Train resolves it
        listing = filesystem.get_file_info(fs.FileSelector(f"{root.rstrip('/')}/{name}", allow_not_found=True))
        folders = (info.path for info in listing if info.type == fs.FileType.Directory)
        for folder in sorted(folders, reverse=True):  # their names hold the time
            path = f"{folder}/{IDENTITY_FILE}"
            if filesystem.get_file_info(path).type == fs.FileType.File:  # not so in one whose upload was cut short
                with filesystem.open_input_file(path) as file:
                    return cast("RunIdentity", json.loads(file.read()))
    except (pa.ArrowException, OSError, ValueError) as error:
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
