"""A cluster of its own on this machine, whose autoscaler adds and removes nodes of a cluster file's types.

Ray's fake multi-node provider stands in for the cloud: a node is `ray start` on this machine, its GPUs are declared and not there.
`ray.cluster_utils.AutoscalingCluster` does the same, but begins and ends with `ray stop --force`, which ends other clusters too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from ray._private.ray_constants import LABELS_ENVIRONMENT_VARIABLE, RESOURCES_ENVIRONMENT_VARIABLE
from ray._private.services import get_node_ip_address  # where the head takes its address from, if it is given none
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE, FakeMultiNodeProvider
from ray.autoscaler._private.util import fillout_defaults
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import ClusterStatus
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import ResourceRequestUtil

from fxcast.cluster.local import REPOSITORY
from tests.ports import free_port
from tests.waiting import wait_for

_OBJECT_STORE_BYTES = 100_000_000
_PROGRAMS = Path(sys.executable).parent


class LocalNodes(FakeMultiNodeProvider):
    """Ray's fake provider, with nodes that know their memory and have a folder each; the autoscaler's config names it.

    Ray's own makes nodes in the autoscaler's process, one after the other, and refuses types that say how much memory they have.
    """

    def _create_node_with_resources_and_labels(
        self, node_config: object, tags: dict[str, str], count: int, resources: dict[str, float], labels: dict[str, str]
    ) -> None:
        del node_config, count  # called once for each node
        with self.lock:
            node_id: str = self._next_hex_node_id()
            environment = {
                "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id,
                "RAY_CLOUD_INSTANCE_ID": node_id,
                "RAY_NODE_TYPE_NAME": tags["ray-user-node-type"],
                RESOURCES_ENVIRONMENT_VARIABLE: json.dumps(resources),
                LABELS_ENVIRONMENT_VARIABLE: json.dumps(labels),
            }
            # In the head's folder, two that start at once would take the same sockets.
            folder = Path(self.provider_config["folder"], str(self._next_node_id))
            command = [*_start(folder), "--address", str(self._gcs_address)]
            node = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self._nodes[node_id] = {"tags": tags, "node": node}  # pyright: ignore[reportArgumentType] - Ray's dict has no annotation

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Return the nodes that have not ended by themselves either: the autoscaler replaces those."""
        with self.lock:
            for node_id in [each for each in self._nodes if each != self._head_node_id]:
                if self._nodes[node_id]["node"].poll() is not None:  # pyright: ignore[reportAttributeAccessIssue] - as above
                    del self._nodes[node_id]
            return super().non_terminated_nodes(tag_filters)

    def _terminate_node(self, node: dict[str, Any]) -> None:
        node["node"].terminate()
        node["node"].wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaledCluster:
    """A head that runs.

    Attributes:
        gcs_address: What RAY_ADDRESS is for its drivers.
        dashboard_url: Where jobs are submitted and Serve is deployed.
        config: What its autoscaler has been given.
    """

    gcs_address: str
    dashboard_url: str
    config: Mapping[str, Any]

    def status(self) -> ClusterStatus:
        """Return what `ray status` shows."""
        return get_cluster_status(self.gcs_address)

    def nodes(self) -> Mapping[str, str]:
        """Return the type of each node that has joined, by its id; without the head."""
        status = self.status()
        joined = (*status.active_nodes, *status.idle_nodes)
        return {str(node.node_id): node.ray_node_type_name for node in joined if node.ray_node_type_name != FAKE_HEAD_NODE_TYPE}

    def counts(self) -> Counter[str]:
        """Return how many nodes of each type there are."""
        return Counter(self.nodes().values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an autoscaler would do.

    Attributes:
        nodes: How many of each type it would start.
        impossible: How many requests no node that it may start has room for.
    """

    nodes: Mapping[str, int]
    impossible: int


def planned(file: Path, asked: Sequence[Mapping[str, float]]) -> Plan:
    """Ask Ray's autoscaler for its plan for a cluster with no nodes but the head; nothing is started.

    Args:
        asked: Resources of tasks or actors that wait.
    """
    config = AutoscalingConfig(local_config(file, gcs_address="", folder=Path(), idle_timeout_s=1.0), skip_content_hash=True)
    requests = [ResourceRequestUtil.make(dict(each)) for each in asked]
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(requests),
    )
    reply = ResourceDemandScheduler(None).schedule(request)
    nodes = {launch.instance_type: launch.count for launch in reply.to_launch}
    return Plan(nodes=nodes, impossible=len(reply.infeasible_resource_requests))


def local_config(file: Path, *, gcs_address: str, folder: Path, idle_timeout_s: float) -> dict[str, Any]:
    """Return a cluster file's settings with nodes of this machine instead of the cloud's, for Ray's autoscaler.

    Args:
        folder: Of the nodes' files.
        idle_timeout_s: Instead of the file's `idle_timeout_minutes`; those of single node types are scaled alike.
    """
    config = fillout_defaults(yaml.safe_load(file.read_text()))
    faster = idle_timeout_s / (60 * config["idle_timeout_minutes"])
    node_types: dict[str, Any] = {}
    for name, found in config["available_node_types"].items():
        node_type = {**found, "node_config": {}}
        if "idle_timeout_s" in found:
            node_type["idle_timeout_s"] = faster * found["idle_timeout_s"]
        node_types[FAKE_HEAD_NODE_TYPE if name == config["head_node_type"] else name] = node_type
    return {
        **{key: [] if key.endswith("_commands") else value for key, value in config.items()},
        "idle_timeout_minutes": idle_timeout_s / 60,
        "provider": {
            # With type `fake_multinode` autoscaler v2 would look for a file of defaults, which Ray's wheel lacks.
            "type": "external",
            "module": f"{LocalNodes.__module__}.{LocalNodes.__name__}",
            "gcs_address": gcs_address,
            "folder": str(folder),
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,  # they would set nodes up by SSH
            "disable_launch_config_check": True,
        },
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": node_types,
    }


@contextmanager
def autoscaled(file: Path, *, idle_timeout_s: float, environment: Mapping[str, str]) -> Generator[AutoscaledCluster]:
    """Start a head with a cluster file's node types; at the end its processes are gone, and no others.

    Args:
        environment: Of the cluster's processes, besides this one's.
    """
    port, dashboard_port = free_port(), free_port()
    gcs_address = f"{get_node_ip_address()}:{port}"
    folder = Path(tempfile.mkdtemp(prefix="scaled-", dir="/tmp"))  # paths of sockets must be short
    config = local_config(file, gcs_address=gcs_address, folder=folder, idle_timeout_s=idle_timeout_s)
    resources = config["available_node_types"][FAKE_HEAD_NODE_TYPE]["resources"]
    (folder / "autoscaling.yaml").write_text(yaml.safe_dump(config))
    command = [
        *_start(folder / "head"),
        *("--head", "--port", str(port), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard_port)),
        *("--num-cpus", str(resources.get("CPU", 0)), "--num-gpus", str(resources.get("GPU", 0))),
        *("--ray-client-server-port", str(free_port()), "--disable-usage-stats"),
        *("--autoscaling-config", str(folder / "autoscaling.yaml")),
    ]
    log = folder / "head.log"
    with log.open("wb") as output:
        head = subprocess.Popen(command, env=_environment(environment), stdout=output, stderr=subprocess.STDOUT)
    try:
        cluster = AutoscaledCluster(
            gcs_address=gcs_address,
            dashboard_url=f"http://127.0.0.1:{dashboard_port}",
            config=config,
        )
        wait_for(lambda: _answers(cluster, head, log), timeout_s=300)
        yield cluster
    finally:
        _end(head)
        shutil.rmtree(folder)


def _start(folder: Path) -> list[str]:
    """Return what starts a node beside others on this machine."""
    own = ("--temp-dir", str(folder), "--dashboard-agent-listen-port", str(free_port()))
    small = ("--object-store-memory", str(_OBJECT_STORE_BYTES), "--include-log-monitor", "false")
    return [str(_PROGRAMS / "ray"), "start", "--block", *own, *small]


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{_PROGRAMS}{os.pathsep}{os.environ['PATH']}",  # jobs find python there
        "PYTHONPATH": f"{REPOSITORY / 'platform'}{os.pathsep}{REPOSITORY}",  # and the autoscaler `LocalNodes` here
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",  # as `ray up` sets it, with the two that follow
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",  # 5 by default
        "AUTOSCALER_METRIC_PORT": str(free_port()),
        **own,
    }


def _answers(cluster: AutoscaledCluster, head: subprocess.Popen[bytes], log: Path) -> bool:
    assert head.poll() is None, log.read_text()
    try:
        is_up = httpx.get(f"{cluster.dashboard_url}/api/version", trust_env=False).is_success
    except httpx.TransportError:  # not yet
        return False
    status = cluster.status()
    return is_up and bool(status.active_nodes or status.idle_nodes)  # the head itself


def _end(head: subprocess.Popen[bytes]) -> None:
    """Kill the head and all that it has started: the nodes are its autoscaler's children. None has anything to save."""
    while head.poll() is None and (started := psutil.Process(head.pid).children(recursive=True)):
        for process in started:
            process.kill()  # does nothing to another process that has got its number
        psutil.wait_procs(started, timeout=30)
    head.kill()
    head.wait()
