"""Ask every node of the cluster the same thing at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_HEAD = "node:__internal_head__"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that is alive.

    Attributes:
        id: Ray's, in hexadecimal.
        address: Its IP address.
        machine: Its host name: several nodes can run on one machine, and share its disk.
        is_head: Whether the control store and the dashboard run on it.
        gpus: How many it declares to Ray.
        object_store_bytes: Size of its object store.
        agent_port: Where its agent takes jobs that are submitted; None if it has found no port.
    """

    id: str
    address: str
    machine: str
    is_head: bool = False
    gpus: int = 0
    object_store_bytes: int = 0
    agent_port: int | None = None

    @property
    def name(self) -> str:
        """How people tell it from others: two nodes on one machine have one address."""
        return f"{self.address} ({self.id[:6]})"


def alive_nodes() -> tuple[Node, ...]:
    """Return the nodes of the cluster that are alive, the head first."""
    nodes = [
        Node(
            id=str(node["NodeID"]),
            address=str(node["NodeManagerAddress"]),
            machine=str(node["NodeManagerHostname"]),
            is_head=_HEAD in node["Resources"],
            gpus=int(node["Resources"].get("GPU", 0)),
            object_store_bytes=int(node["Resources"].get("object_store_memory", 0)),
            agent_port=port if (port := int(node["DashboardAgentListenPort"])) > 0 else None,
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(sorted(nodes, key=lambda node: (not node.is_head, node.address, node.id)))


def ask_nodes(
    nodes: Sequence[Node],
    function: Callable[..., T],
    *arguments: object,
    timeout_s: float,
    gpus: Callable[[Node], int] | None = None,
) -> dict[Node, T | Exception]:
    """Call a function on every one of some nodes, all at once.

    Args:
        nodes: Where.
        function: What; takes the arguments, and returns something that can be pickled.
        arguments: The same on every node.
        timeout_s: For all of them together.
        gpus: How many GPUs the call takes on a node; it waits until they are free.

    Returns:
        By node what it returned, or what went wrong instead: what the function raised, an error of Ray's (the node is gone, the
        worker died), or TimeoutError.
    """
    remote = ray.remote(max_retries=0, num_cpus=0)(cast("Any", function))  # takes no CPU: also a node whose CPUs are busy answers
    references: dict[Node, Any] = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
        options = {"scheduling_strategy": here, "num_gpus": 0 if gpus is None else gpus(node)}
        references[node] = remote.options(**options).remote(*arguments)
    ray.wait(list(references.values()), num_returns=len(references), timeout=timeout_s) if references else None
    return {node: _answer(reference, timeout_s) for node, reference in references.items()}


def _answer(reference: Any, timeout_s: float) -> Any:  # noqa: ANN401 - whatever the caller's function returns
    try:
        return ray.get(reference, timeout=0)
    except GetTimeoutError:
        ray.cancel(reference, force=True)  # or it would go on waiting for what it lacks
        return TimeoutError(f"no answer in {timeout_s:g} s")
    except RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else error
    except RayError as error:
        return error
