"""Where a run keeps what it makes: a folder or an object store, the same calls for both.

```
<storage_path>/windows/<key>/        encoded windows, shared by all runs that would encode the same
<storage_path>/<name>/run.json       of which plan and candles the run is
<storage_path>/<name>/stages/<stage> what a stage has made, with stage.json, which is written last
<storage_path>/<name>/train          Ray Train's checkpoints of the stages that are not done
<storage_path>/<name>/tensorboard    curves
```
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, cast

import pyarrow as pa
import ray.train
from pyarrow import fs

from fxcast.errors import BadSetting, Unavailable

Stage = Literal["width", "windows", "denoiser", "fusion", "calibration"]
STAGES: tuple[Stage, ...] = ("width", "windows", "denoiser", "fusion", "calibration")
_RESULT_FILE = "stage.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What a finished stage says of itself: `metrics`, `seconds` it took, and whatever the next one asks for, plain JSON types."""

    metrics: Mapping[str, Any]
    seconds: float
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStorage:
    """One run's part of a storage.

    Attributes:
        filesystem: Where.
        shared: The storage's root, a path in it.
        name: The run's.
    """

    filesystem: fs.FileSystem
    shared: str
    name: str

    @classmethod
    def of(cls, storage_path: str, name: str) -> Self:
        """Return the part of a run.

        Args:
            storage_path: An absolute folder, or a URI that `pyarrow.fs` knows, as in `s3://bucket/train`.

        Raises:
            BadSetting: If the URI's scheme is unknown.
        """
        try:
            filesystem, root = fs.FileSystem.from_uri(storage_path)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise BadSetting(f"storage_path {storage_path.split('?', maxsplit=1)[0]!r}: {error}") from error
        return cls(filesystem=filesystem, shared=root.rstrip("/"), name=name)

    @property
    def root(self) -> str:
        """The run's folder, a path in the filesystem."""
        return f"{self.shared}/{self.name}"

    @property
    def is_local(self) -> bool:
        """Whether paths are those of this machine's disk."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def has(self, path: str) -> bool:
        """Tell whether there is a file at a path of the filesystem."""
        with self._answering():
            return self.filesystem.get_file_info(path).type == fs.FileType.File

    def files(self, folder: str) -> set[str]:
        """Return the names of a folder's files; none if there is no such folder."""
        with self._answering():
            listed = self.filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return {info.base_name for info in listed if info.type == fs.FileType.File}

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        with self._answering(), self.filesystem.open_input_file(path) as file:
            return file.read()

    def write(self, path: str, content: bytes) -> None:
        """Write a file; it is there whole or not at all."""
        folder, _, name = path.rpartition("/")
        with self._answering():
            self.filesystem.create_dir(folder, recursive=True)
            whole = f"{folder}/.{name}.tmp" if self.is_local else path  # an object appears when its upload is complete
            with self.filesystem.open_output_stream(whole) as file:
                file.write(content)
            if whole != path:
                self.filesystem.move(whole, path)

    def upload(self, folder: Path, path: str) -> None:
        """Copy a local folder's content into a folder of the storage."""
        with self._answering():
            self.filesystem.create_dir(path, recursive=True)
            fs.copy_files(str(folder), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self.filesystem)

    def delete(self, path: str) -> None:
        """Remove a folder, if it is there."""
        with self._answering():
            if self.filesystem.get_file_info(path).type == fs.FileType.Directory:
                self.filesystem.delete_dir(path)

    def result(self, stage: Stage) -> StageResult | None:
        """Return what a stage says of itself, None if it is not done."""
        path = f"{self._folder(stage)}/{_RESULT_FILE}"
        if not self.has(path):
            return None
        return StageResult(**cast("dict[str, Any]", json.loads(self.read(path))))

    def finish(self, stage: Stage, result: StageResult, folder: Path | None = None) -> None:
        """Keep what a stage has made; it is done when this returns, and not before.

        Args:
            folder: Files to keep with it.
        """
        self.delete(self._folder(stage))
        if folder is not None:
            self.upload(folder, self._folder(stage))
        content = {"metrics": dict(result.metrics), "seconds": result.seconds, "facts": dict(result.facts)}
        self.write(f"{self._folder(stage)}/{_RESULT_FILE}", (json.dumps(content, indent=2) + "\n").encode())

    def made_by(self, stage: Stage) -> ray.train.Checkpoint:
        """Return the files that a stage has kept; `as_directory` fetches them from wherever they are."""
        return ray.train.Checkpoint(self._folder(stage), filesystem=self.filesystem)

    def forget(self, stage: Stage) -> None:
        """Remove what a stage and those after it have made, with Ray Train's checkpoints on the way there."""
        for later in STAGES[STAGES.index(stage) :]:
            self.delete(self._folder(later))
        self.delete(f"{self.root}/train")

    def keep_checkpoints(self, result: ray.train.Result) -> None:
        """Remove all of Ray Train's checkpoints but those of its result: it forgets one whose writer died before reporting it."""
        named = [checkpoint for checkpoint, _ in result.best_checkpoints or []]
        if result.checkpoint is not None:
            named.append(result.checkpoint)
        kept = {PurePosixPath(checkpoint.path).name for checkpoint in named}
        with self._answering():
            listed = self.filesystem.get_file_info(fs.FileSelector(f"{self.root}/train", allow_not_found=True))
        for info in listed:
            if info.type == fs.FileType.Directory and info.base_name.startswith("checkpoint_") and info.base_name not in kept:
                self.delete(info.path)

    def _folder(self, stage: Stage) -> str:
        return f"{self.root}/stages/{stage}"

    @contextmanager
    def _answering(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"storage {self.shared}: {error.strerror or error}") from error


@contextmanager
def scratch() -> Generator[Path]:
    """Yield an empty local folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
