"""Files of a backup, and of what is backed up: in a folder or in an object store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from fxcast.errors import BadSetting, BadSetup, Conflict, Unavailable

_CHUNK = 4 << 20


class Place:
    """A folder, or a URI that `pyarrow.fs` knows, as in `s3://bucket/backups`; files in it are named by their path below it.

    Args:
        root: The folder or URI.
        name: What it is to a person: "store", "models", "backup".

    Raises:
        BadSetting: If the URI's scheme is unknown, or it holds a key.
        Unavailable: By every method, if the disk is full or the object store does not answer.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        self.name = name
        self._filesystem: fs.FileSystem
        if isinstance(root, str) and "://" in root:
            if urlsplit(root).username is not None:
                raise BadSetting(f"{name}: found a URI with a key in it; allowed: keys in the environment, as AWS_ACCESS_KEY_ID")
            try:
                self._filesystem, path = fs.FileSystem.from_uri(root)
            except (pa.ArrowException, ValueError) as error:
                raise BadSetting(f"{name} {root.split('?')[0]!r}: {error}") from None
            self.root = path.rstrip("/")
        else:
            self._filesystem, self.root = fs.LocalFileSystem(), Path(root).expanduser().absolute().as_posix()
        self._local = isinstance(self._filesystem, fs.LocalFileSystem)

    def require(self) -> None:
        """Refuse a folder that is not there: most likely a typing error, and a backup without what it was made for.

        Raises:
            BadSetup: If there is none. In an object store there are no folders; there nothing is refused.
        """
        if self._local and not Path(self.root).is_dir():
            raise BadSetup(f"{self.name} {self.root}: there is no such folder; leave it out with --only")

    def files(self) -> tuple[str, ...]:
        """Return the names of all files in order; none that begins with a dot: locks, and what is being written."""
        selector = fs.FileSelector(self.root, allow_not_found=True, recursive=True)
        with self._answering():
            for _ in range(20):
                try:
                    found = self._filesystem.get_file_info(selector)
                    break
                except FileNotFoundError:  # a local listing trips over a file that goes meanwhile
                    continue
            else:
                raise Unavailable(f"{self.name} {self.root}: it changes faster than it can be listed; try again")
        names = [info.path.removeprefix(self.root).lstrip("/") for info in found if info.type == fs.FileType.File]
        return tuple(sorted(name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts)))

    def folders(self) -> tuple[str, ...]:
        """Return the names of the folders directly in it, in order."""
        with self._answering():
            found = self._filesystem.get_file_info(fs.FileSelector(self.root, allow_not_found=True))
        return tuple(sorted(info.base_name for info in found if info.type == fs.FileType.Directory))

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None if there is none."""
        with self._answering():
            info: Any = self._filesystem.get_file_info(self._path(name))
        return info.size if info.type == fs.FileType.File else None

    def digest(self, name: str) -> tuple[str, int] | None:
        """Return a file's SHA-256 and size, None if there is none."""
        summed, size = hashlib.sha256(), 0
        with self._answering():
            try:
                with self._filesystem.open_input_stream(self._path(name), compression=None) as file:
                    while chunk := file.read(_CHUNK):
                        summed.update(chunk)
                        size += len(chunk)
            except OSError:  # of another kind on each file system, if the file is gone
                if self.size(name) is not None:
                    raise
                return None
        return summed.hexdigest(), size

    def copy(self, name: str, to: Place, to_name: str, *, sha256: str) -> None:
        """Copy a file to another place, where it is whole or not there at all.

        Raises:
            Conflict: If it is gone, or has another SHA-256 than was said: then it is not copied.
        """
        summed = hashlib.sha256()
        with to.writing(to_name) as sink:
            if self.size(name) is None:
                raise Conflict(f"{self.name} {self.root}/{name}: it is there no more")
            with self._answering(), self._filesystem.open_input_stream(self._path(name), compression=None) as file:
                while chunk := file.read(_CHUNK):
                    summed.update(chunk)
                    sink.write(chunk)
            if summed.hexdigest() != sha256:
                raise Conflict(f"{self.name} {self.root}/{name}: found SHA-256 {summed.hexdigest()}, expected {sha256}")

    def read(self, name: str) -> bytes | None:
        """Return what a small file holds, None if there is none."""
        with self._answering():
            if self.size(name) is None:
                return None
            with self._filesystem.open_input_stream(self._path(name), compression=None) as file:
                return file.read()

    @contextmanager
    def reading(self, name: str) -> Generator[Any]:
        """Open a file to be read in any order."""
        with self._answering(), self._filesystem.open_input_file(self._path(name)) as file:
            yield file

    @contextmanager
    def writing(self, name: str) -> Generator[Any]:
        """Open a file to be written; it appears, whole, when the block ends without an error."""
        path = self._path(name)
        with self._answering():
            if not self._local:  # an object appears when its upload is complete
                try:
                    with self._filesystem.open_output_stream(path, compression=None) as file:
                        yield file
                except BaseException:  # closing the stream has completed the upload of what was written until then
                    if self.size(name) is not None:
                        self._filesystem.delete_file(path)
                    raise
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            try:
                with temporary.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def _answering(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"{self.name} {self.root}: {error.strerror or error}") from error


def shown(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
