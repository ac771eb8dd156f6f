"""What the doctor looks at; a new check is a function and a line in `CHECKS`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from fxcast.adapters.storage.probe import DatabaseProbe, probe_database
from fxcast.cluster import doctor_probes as probes
from fxcast.cluster.doctor import Check, Finding, Needs, State, failed, in_words, passed, skipped
from fxcast.cluster.nodes import Node, ask_nodes
from fxcast.cluster.versions import compare, local_versions, read_versions

_GB = 10**9
_CLOCK_READINGS = 3
_RAY_STOPS_AT = 0.95  # share of the disk: Ray makes no more objects then (its local_fs_capacity_threshold)
_SILENT = "look whether the node is overloaded, or its raylet's log in /tmp/ray/session_latest/logs"


def versions(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Look for packages that differ from the driver's."""
    for node, answer in read_versions(nodes, needs.timeout_s).items():
        if isinstance(answer, Exception):
            yield failed(in_words(answer), _SILENT, node.name)
            continue
        skews = compare(local_versions(), {node.name: answer})
        for skew in skews:
            yield failed(f"{skew.package}: found {skew.found}, the driver has {skew.expected}", skew.advice, node.name)
        if not skews:
            found = f"Python {answer['python']}, Ray {answer['ray']}, torch {answer['torch']}, fxcast {answer['fxcast']}"
            yield passed(found, node.name)


def gpus(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Use each GPU that Ray says is there."""
    having = [node for node in nodes if node.gpus]
    if not having:
        yield skipped("no node declares a GPU")
    for node, names in ask_nodes(having, probes.gpu_names, timeout_s=needs.timeout_s, gpus=lambda node: node.gpus).items():
        if isinstance(names, TimeoutError):
            yield skipped(
                f"its {node.gpus} GPUs were not free within {needs.timeout_s:g} s", "ask again when nothing runs on them", node.name
            )
        elif isinstance(names, Exception):
            yield failed(in_words(names), "look at nvidia-smi on the node: driver and torch's CUDA must fit", node.name)
        elif len(names) != node.gpus:
            advice = "use an image with NVIDIA's driver and a CUDA build of torch, or start the node with the GPUs that it has"
            yield failed(f"Ray declares {node.gpus} GPUs, torch sees {len(names)}", advice, node.name)
        else:
            yield passed(", ".join(names), node.name)


def storage(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Write to every store from every node, and look whether all of them see the same place."""
    if not needs.folders:
        yield skipped("no store is given")
    for purpose, root in needs.folders.items():
        for finding in _one_storage(root, nodes, needs.timeout_s):
            yield Finding(node=finding.node, state=finding.state, found=f"{purpose}: {finding.found}", advice=finding.advice)


def _one_storage(root: str, nodes: Sequence[Node], timeout_s: float) -> Iterator[Finding]:
    if "://" in root and urlsplit(root).username is not None:
        yield failed("the URI holds a key", "leave keys to the environment of the nodes, as AWS_ACCESS_KEY_ID")
        return
    advice = (
        "check the URI, the endpoint and the node's credentials (AWS_ACCESS_KEY_ID, or its instance profile)"
        if "://" in root
        else "make the folder, writable for who runs Ray"
    )
    sign, content = f".fxcast-doctor-{uuid.uuid4().hex}", uuid.uuid4().bytes
    ((first, left),) = ask_nodes(nodes[:1], probes.leave_sign, root, sign, content, timeout_s=timeout_s).items()
    try:
        for node, sees in ask_nodes(nodes, probes.use_storage, root, sign, content, timeout_s=timeout_s).items():
            if isinstance(sees, Exception):
                yield failed(in_words(sees), advice, node.name)
            elif not sees and not isinstance(left, Exception):
                shared = "mount one folder on all nodes at this path, or use an object store (s3://…)"
                yield failed(f"{root} is not what node {first.name} sees at this path", shared, node.name)
            else:
                yield passed(f"{root.partition('?')[0]} can be read and written", node.name)
    finally:
        if not isinstance(left, Exception):
            ask_nodes([first], probes.remove_sign, root, sign, timeout_s=timeout_s)


def database(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Write to the database from every node, and compare its clock with the node's."""
    if needs.database_url is None:
        yield skipped("no database is given")
        return
    for node, probe in ask_nodes(nodes, probe_database, needs.database_url, timeout_s=needs.timeout_s).items():
        if isinstance(probe, Exception):
            found, _, advice = in_words(probe).partition("; ")  # fxcast's own sentences end with the remedy
            reach = "start it, and open its port to this node; the URL must be right as seen from the node"
            yield failed(found, advice or reach, node.name)
        else:
            yield database_finding(probe, node, machines=len({each.machine for each in nodes}), limit_s=needs.max_clock_skew_s)


def database_finding(probe: DatabaseProbe, node: Node, *, machines: int, limit_s: float) -> Finding:
    """Judge a database that answered; a file is no database for several machines."""
    if probe.is_file and machines > 1:
        found = f"{probe.shown} is a file, and the cluster has {machines} machines"
        return failed(found, "use PostgreSQL: every node must reach the same database", node.name)
    found = f"{probe.shown} can be written, schema {probe.revision}"
    if probe.clock_offset_s is None:
        return passed(found, node.name)
    clock = clock_finding(probe.clock_offset_s, probe.clock_error_s, limit_s, "the database's clock against the node's", node)
    return passed(f"{found}; {clock.found}", node.name) if clock.state is State.PASSED else clock


def clocks(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Compare the nodes' clocks with the driver's."""
    for node in nodes:
        readings: list[tuple[float, float]] = []  # half of the round trip, offset
        problem: Exception | None = None
        for _ in range(_CLOCK_READINGS):
            before = time.time()
            (there,) = ask_nodes([node], probes.clock, timeout_s=needs.timeout_s).values()
            after = time.time()
            if isinstance(there, Exception):
                problem = there
                break
            readings.append(((after - before) / 2, there - (before + after) / 2))
        if problem is not None:
            yield failed(in_words(problem), _SILENT, node.name)
        else:
            error_s, offset_s = min(readings)  # the quickest answer tells most
            yield clock_finding(offset_s, error_s, needs.max_clock_skew_s, "against the driver's", node)


def clock_finding(offset_s: float, error_s: float, limit_s: float, what: str, node: Node) -> Finding:
    """Judge a clock by what is certain of it: the question takes time too."""
    found = f"{what}: {offset_s * 1000:+.0f} ms ± {error_s * 1000:.0f} ms"
    if abs(offset_s) - error_s > limit_s:
        advice = (
            f"start chrony or NTP on both; {limit_s:g} s is allowed, and an engine's lease (lease_ttl_s) needs its clocks to agree"
        )
        return failed(found, advice, node.name)
    if error_s > limit_s:
        return skipped(f"{found}, which can't tell", "ask again when the cluster is less busy", node.name)
    return passed(found, node.name)


def room(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Look for room on disk, and for shared memory that holds the object store."""
    for node, machine in ask_nodes(nodes, probes.machine, timeout_s=needs.timeout_s).items():
        if isinstance(machine, Exception):
            yield failed(in_words(machine), _SILENT, node.name)
            continue
        used = 1 - machine.free_bytes / machine.total_bytes
        disk = f"{machine.free_bytes / _GB:.1f} GB of {machine.total_bytes / _GB:.0f} GB free at {machine.session_path}"
        store = f"object store {node.object_store_bytes / _GB:.1f} GB in {machine.shared_memory_bytes / _GB:.1f} GB of /dev/shm"
        if machine.free_bytes < needs.min_free_gb * _GB or used > _RAY_STOPS_AT:
            advice = f"free {needs.min_free_gb:g} GB (old /tmp/ray/session_*), or start Ray with --temp-dir on another disk"
            yield failed(disk, f"{advice}; Ray makes no more objects from {_RAY_STOPS_AT:.0%} on", node.name)
        elif node.object_store_bytes > machine.shared_memory_bytes:
            advice = "give the container --shm-size (docker) or a memory-backed /dev/shm (Kubernetes): Ray uses the disk instead"
            yield failed(store, advice, node.name)
        else:
            yield passed(f"{disk}; {store}", node.name)


def ports(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Look which of the head's ports others reach, and whether a token is asked for there."""
    (node,) = (node for node in nodes if node.is_head)
    dashboard, control = (
        _door(node, port, path, needs) for port, path in zip(probes.ports_of_head(), ("/api/version", None), strict=True)
    )
    if dashboard.status is None:
        yield failed(f"dashboard at port {dashboard.port} does not answer", "start Ray with --include-dashboard=true", node.name)
    outside = [
        f"{name} at {door.outward}:{door.port}" for name, door in (("dashboard", dashboard), ("GCS", control)) if door.outward
    ]
    reached = f"reached from outside: {', '.join(outside) or 'nothing'}"
    asks = dashboard.status in {401, 403}
    if asks:
        yield passed(f"a token is asked for; {reached}", node.name)
    elif not outside:
        yield passed(f"no token is asked for; {reached}", node.name)
    elif not needs.require_token:
        yield passed(f"no token is asked for, which was allowed; {reached}", node.name)
    else:
        advice = (
            "start Ray with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN on every node (docs/security.md), since who reaches these ports "
            "can run code; or close them with a firewall and say --no-require-token"
        )
        yield failed(f"no token is asked for; {reached}", advice, node.name)


def jobs(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Look whether the head's agent is there, which starts submitted jobs."""
    del needs
    for node in nodes:
        if node.is_head and node.agent_port is None:
            advice = "another Ray on that machine holds its port: start one of them with another --dashboard-agent-listen-port"
            yield failed("the head's agent has no port, and no job can be submitted", advice, node.name)
        elif node.is_head:
            yield passed(f"the head takes jobs, by its agent at port {node.agent_port}", node.name)


def service(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Look whether Serve's port is free for it, or Serve's."""
    heads = [node for node in nodes if node.is_head]
    (node,) = heads
    door = _door(node, needs.serve_port, "/-/healthz", needs)
    if not door.is_open:
        yield passed(f"port {door.port} is free", node.name)
    elif door.status in {200, 503}:  # what Serve's proxy answers there, the latter while it drains or has no routes
        yield passed(f"Serve answers at port {door.port}" + (f", also at {door.outward}" if door.outward else ""), node.name)
    else:
        yield failed(
            f"something that is not Serve listens at port {door.port}",
            "stop it, or give Serve another port (http_options.port)",
            node.name,
        )


def _door(node: Node, port: int, path: str | None, needs: Needs) -> probes.Door:
    (door,) = ask_nodes([node], probes.try_port, port, path, timeout_s=needs.timeout_s).values()
    if isinstance(door, Exception):
        raise door
    return door


def variables(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Look whether the workers have the secrets that jobs take from the environment; their values are not shown."""
    if not needs.variables:
        yield skipped("no variable is asked for", "name them: --variables '[\"FXCAST_OANDA_TOKEN\"]'")
        return
    for node, unset in ask_nodes(nodes, probes.unset_variables, needs.variables, timeout_s=needs.timeout_s).items():
        if isinstance(unset, Exception):
            yield failed(in_words(unset), _SILENT, node.name)
        elif unset:
            advice = "set them where Ray is started on the node (ray start's environment, a Kubernetes secret), and start it anew"
            yield failed(f"not set: {', '.join(unset)}", advice, node.name)
        else:
            yield passed(f"set: {', '.join(needs.variables)}", node.name)


CHECKS = (
    Check(name="versions", look=versions),
    Check(name="GPUs", look=gpus),
    Check(name="storage", look=storage),
    Check(name="database", look=database),
    Check(name="clocks", look=clocks),
    Check(name="room", look=room),
    Check(name="token", look=ports),
    Check(name="jobs", look=jobs),
    Check(name="service", look=service),
    Check(name="variables", look=variables),
)
