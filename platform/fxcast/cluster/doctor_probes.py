"""What the doctor does on a node: each function runs there in a task of its own."""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import ray
from pyarrow import fs

from fxcast.errors import BadSetup

_HTTP_S = 5.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Ray puts its object store


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Room on a node: `session_path` is where Ray writes logs and spilled objects."""

    session_path: str
    free_bytes: int
    total_bytes: int
    shared_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A port of the head.

    Attributes:
        is_open: Whether something listens at all.
        outward: The address at which other machines reach it, if nothing before it stops them; None if only this machine can.
        status: What a request without a token is answered, for a port that speaks HTTP.
    """

    port: int
    is_open: bool
    outward: str | None
    status: int | None = None


def clock() -> float:
    """Return the node's time, as a Unix timestamp."""
    return time.time()


def machine() -> Machine:
    """Measure the node's room."""
    from ray._private.worker import global_worker  # the session's folder has no public name

    path = str(global_worker.node.get_session_dir_path()) if global_worker.node is not None else "/tmp/ray"  # noqa: S108 - Ray's
    disk = shutil.disk_usage(path)
    memory = shutil.disk_usage(_SHARED_MEMORY).total if _SHARED_MEMORY.is_dir() else 0
    return Machine(session_path=path, free_bytes=disk.free, total_bytes=disk.total, shared_memory_bytes=memory)


def unset_variables(names: Sequence[str]) -> list[str]:
    """Return which of some environment variables the node's workers lack."""
    return [name for name in names if not os.environ.get(name)]


def gpu_names() -> list[str]:
    """Use every GPU that Ray gave to this task, and return their names."""
    import torch

    for number in range(torch.cuda.device_count()):
        torch.ones(1, device=f"cuda:{number}").sum().item()
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def leave_sign(root: str, name: str, content: bytes) -> None:
    """Write a small file for the other nodes to find.

    Raises:
        BadSetup: If the root is no place that `pyarrow.fs` knows, or can't be written; says why.
    """
    filesystem, folder = _place(root)
    try:
        with filesystem.open_output_stream(f"{folder}/{name}") as file:
            file.write(content)
    except OSError as error:  # pyarrow.ArrowException of I/O is one too
        raise BadSetup(f"{root} can't be written ({_words(error)})") from None


def remove_sign(root: str, name: str) -> None:
    """Delete that file."""
    filesystem, folder = _place(root)
    filesystem.delete_file(f"{folder}/{name}")


def use_storage(root: str, sign: str, content: bytes) -> bool:
    """Write, read back and delete a small file, and look for the sign that another node left; return whether it is there.

    Raises:
        BadSetup: If one of these can't be done; says which.
    """
    name = f".fxcast-doctor-{uuid.uuid4().hex}"
    leave_sign(root, name, content)
    filesystem, folder = _place(root)
    try:
        with filesystem.open_input_stream(f"{folder}/{name}") as file:
            found = file.read()
        filesystem.delete_file(f"{folder}/{name}")
    except OSError as error:
        raise BadSetup(f"{root} can be written, but not read or deleted ({_words(error)})") from None
    if found != content:
        raise BadSetup(f"{root}: what was read back differs from what was written")
    try:
        with filesystem.open_input_stream(f"{folder}/{sign}") as file:
            return bool(file.read() == content)
    except OSError:  # not there: this node sees another place
        return False


def try_port(port: int, path: str | None) -> Door:
    """Knock at a port of this machine, from inside and at its outer address; with a path, ask by HTTP and without a token."""
    outer = _outer_address()
    outward = outer if outer is not None and _connects(outer, port) else None
    inside = "127.0.0.1" if _connects("127.0.0.1", port) else outward
    status: int | None = None
    if inside is not None and path is not None:
        try:
            status = httpx.get(f"http://{inside}:{port}{path}", timeout=_HTTP_S, trust_env=False).status_code
        except httpx.HTTPError:
            status = None  # it does not speak HTTP
    return Door(port=port, is_open=inside is not None, outward=outward, status=status)


def ports_of_head() -> tuple[int, int]:
    """Return the ports of the dashboard and of the control store (GCS), in the driver: a worker is told the default."""
    from ray._private.worker import get_dashboard_url  # ray.init's answer has it too, but not for who came later

    dashboard = str(get_dashboard_url() or "").rpartition(":")[2]
    control = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    return int(dashboard or 0), int(control)


def _place(root: str) -> tuple[Any, str]:  # pyarrow publishes no types
    if "://" not in root:
        folder = Path(root)
        if not folder.is_dir():
            raise BadSetup(f"{root}: there is no such folder")
        return fs.LocalFileSystem(), folder.as_posix()
    try:
        filesystem, folder = fs.FileSystem.from_uri(root)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise BadSetup(f"{root.partition('?')[0]}: {_words(error)}") from None
    return filesystem, folder.rstrip("/")


def _outer_address() -> str | None:
    """Return the address by which other machines know this one: what would stand in a packet to them (none is sent)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
        try:
            unsent.connect(("192.0.2.1", 9))  # RFC 5737: nobody's
        except OSError:
            return None  # no network
        address = str(unsent.getsockname()[0])
    return None if address.startswith("127.") else address


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2.0).close()
    except OSError:
        return False
    return True


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
