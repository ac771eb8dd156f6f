"""Nodes of a Ray cluster as processes of this machine that a test can kill, and a head whose records are in Redis."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray

from fxcast.cluster.local import REPOSITORY
from tests.ports import free_port
from tests.waiting import wait_for

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")

_RAY = str(Path(sys.executable).parent / "ray")
_STARTS = 4  # Ray gives up a node that took 30 seconds to start, which on a busy machine it may
_ON_LOOPBACK = ("--node-ip-address", "127.0.0.1", "--num-gpus", "0", "--block")
_QUIET = {
    "RAY_AUTH_MODE": "disabled",  # loopback only
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",  # after a minute without its head a node would end itself
    "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)]),
}


def agent_ports() -> tuple[str, ...]:
    """Return options that give a node's agents ports: for those that find their own it waits 15 seconds, and then gives up."""
    options = ("--dashboard-agent-grpc-port", "--dashboard-agent-listen-port", "--runtime-env-agent-port", "--metrics-export-port")
    return tuple(word for option in options for word in (option, str(free_port())))


def kill_tree(root: psutil.Process) -> None:
    """Kill all processes of a machine at once, as when its power fails."""
    for each in (*root.children(recursive=True), root):
        try:
            os.kill(each.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended with its parent


@dataclass(frozen=True, kw_only=True)
class JoinedNode:
    """A machine that has joined the shared cluster."""

    node_id: str
    process: psutil.Process

    def lose(self) -> None:
        """Kill all its processes at once."""
        kill_tree(self.process)

    @property
    def alive(self) -> bool:
        """Whether the cluster believes that it is there."""
        return any(node["Alive"] for node in ray.nodes() if node["NodeID"] == self.node_id)


@contextmanager
def joined(*, cpus: int, gpus: int = 0, resources: str = "{}") -> Generator[JoinedNode]:
    """Let a machine join the shared cluster for the length of the block; at the end the cluster has noticed that it is gone.

    Args:
        gpus: That it says it has; none is there.
        resources: Custom ones, as JSON.
    """
    context = ray.get_runtime_context()
    before = {node["NodeID"] for node in ray.nodes()}
    (head,) = (node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    command = [
        *(_RAY, "start", "--address", context.gcs_address, "--node-ip-address", head["NodeManagerAddress"], "--block"),
        *("--num-cpus", str(cpus), "--num-gpus", str(gpus), "--resources", resources, "--object-store-memory", "100000000"),
        *agent_ports(),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        found: list[str] = []

        def has_joined() -> bool:
            assert process.poll() is None, "ray start has ended"
            found[:] = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in before]
            return bool(found)

        node: JoinedNode | None = None
        try:
            wait_for(has_joined, timeout_s=300)
            node = JoinedNode(node_id=found[0], process=psutil.Process(process.pid))
            yield node
        finally:
            process.terminate()
            process.wait()
            if node is not None:
                wait_for(lambda: not node.alive)


class ClusterWithRedis:
    """A cluster of its own: a head that does no work and keeps its records in Redis, and one node that does all of it.

    Args:
        folder: For everything; its path is short, for there is a limit of about 100 characters to that of a Unix socket.
        opened: Ends its processes.
        worker_http_port: Where Serve's proxy on the working node listens; the head's has the port that Serve is given.
    """

    def __init__(self, folder: Path, opened: ExitStack, *, worker_http_port: int) -> None:
        self._folder, self._opened = folder, opened
        self._redis_port, self._port = free_port(), free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._environment = {**os.environ, **_QUIET, "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(worker_http_port)}
        self._environment.pop("RAY_ADDRESS", None)
        redis = ("redis-server", "--port", str(self._redis_port), "--bind", "127.0.0.1", "--dir", str(folder))
        self._start("redis", *redis, "--appendonly", "yes")
        wait_for(lambda: listens(self._redis_port))
        self.head = self._start_head()
        joins = ("start", "--address", self.address, "--num-cpus", "4", "--object-store-memory", "200000000")
        self.worker = self._start("worker", _RAY, *joins, *_ON_LOOPBACK, *agent_ports())

    def start_head(self) -> None:
        """Start the head again: at the same address, with what Redis holds."""
        # Ray refuses a head where it finds both this and a process of the same cluster: another machine would have neither.
        (self._folder / "ray" / "ray_current_cluster").unlink()
        self.head = self._start_head()

    def _start_head(self) -> subprocess.Popen[bytes]:
        starts = ("start", "--head", "--port", str(self._port), "--num-cpus", "0", "--object-store-memory", "100000000")
        options = ("--temp-dir", str(self._folder / "ray"), "--include-dashboard", "false", *_ON_LOOPBACK)
        log = self._folder / "head.log"
        for _ in range(_STARTS):
            before = log.stat().st_size if log.exists() else 0
            head = self._start("head", _RAY, *starts, *options, *agent_ports(), RAY_REDIS_ADDRESS=f"127.0.0.1:{self._redis_port}")
            wait_for(partial(_has_started, head, log, before))
            if head.poll() is None:
                return head
        raise AssertionError(log.read_text())

    def lose_head(self) -> None:
        """Kill all processes of the head at once: GCS, raylet, Serve's controller and its proxy there."""
        kill_tree(psutil.Process(self.head.pid))
        self.head.wait()

    def run(self, module: str, *arguments: str) -> str:
        """Run a program as a driver of the cluster, and return the last line that it printed."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=REPOSITORY,
            env={**self._environment, "RAY_ADDRESS": self.address},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    def _start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        output = self._opened.enter_context((self._folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(command, env={**self._environment, **environment}, stdout=output, stderr=output)
        self._opened.callback(_end, process)
        return process


@contextmanager
def cluster_with_redis(*, worker_http_port: int) -> Generator[ClusterWithRedis]:
    """Run a cluster of its own for the length of the block; its logs are gone with it."""
    with tempfile.TemporaryDirectory(prefix="fxh", dir="/tmp", ignore_cleanup_errors=True) as folder, ExitStack() as opened:
        yield ClusterWithRedis(Path(folder), opened, worker_http_port=worker_http_port)


def _has_started(head: subprocess.Popen[bytes], log: Path, said_before: int) -> bool:
    """Whether a head has started, which it says once its raylet is known to the GCS, or given up."""
    return head.poll() is not None or b"Ray runtime started" in log.read_bytes()[said_before:]


def listens(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        kill_tree(psutil.Process(process.pid))
    process.wait()
