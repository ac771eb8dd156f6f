"""Join the cluster that runs, or start one on this machine."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._private.worker import BaseContext  # the public name of what ray.init returns is missing
from ray.exceptions import AuthenticationError

from fxcast.cluster.versions import explained_refusal, require_equal_versions
from fxcast.errors import BadSetup

REPOSITORY = Path(__file__).parents[3]


def require_free_port(port: int, option: str) -> None:
    """Raise BadSetup if something listens on a loopback port; `option` is what the user sets to choose another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            message = f"port {port} is in use; stop what listens there, or choose another with {option}"
            raise BadSetup(message) from error


@contextmanager
def ray_session(*, num_cpus: int | None = None) -> Generator[str]:
    """Connect to Ray for the length of the block, and yield the URL of the cluster's dashboard.

    Inside a submitted job, or with RAY_ADDRESS set, it joins that cluster and leaves it running; otherwise it starts one on
    this machine and shuts it down at the end, also after an error.

    Raises:
        BadSetup: If no cluster answers at RAY_ADDRESS, it refuses this process for want of the right token, or a node of it has
            other versions than this process.
    """
    # For a cluster that is started here, on loopback. One with a token is joined with RAY_AUTH_MODE=token in the environment: Ray
    # has read the mode by now, and takes it from nowhere else.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # Entry points of submitted jobs find `python` by PATH, and it must be the one that has fxcast's packages.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if "RAY_ADDRESS" in os.environ:
        context = _join()
    else:
        python_path = os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)])
        # "local": without it Ray would join whatever cluster `ray start` left on this machine.
        context = ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": {"PYTHONPATH": python_path}},
        )
    try:
        if "RAY_ADDRESS" in os.environ:
            require_equal_versions()
        yield _dashboard_url(context)
    finally:
        ray.shutdown()


def _join() -> BaseContext:
    """Connect to the cluster of RAY_ADDRESS."""
    try:
        with explained_refusal():
            return ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except AuthenticationError as error:
        address = os.environ["RAY_ADDRESS"]
        raise BadSetup(f"no Ray cluster to join: the one at {address} asks for a token, RAY_AUTH_TOKEN: {error.message}") from None
    except ConnectionError as error:
        # Ray says the same of a cluster that is not there and of one that refuses the token.
        mode = os.environ["RAY_AUTH_MODE"]
        raise BadSetup(
            f"no Ray cluster to join: {error}; set RAY_ADDRESS to one that runs; if it asks for a token, set RAY_AUTH_MODE=token "
            f"(found {mode}) and RAY_AUTH_TOKEN to its own"
        ) from None


def _dashboard_url(context: BaseContext) -> str:
    address = context.dashboard_url
    if not address:
        raise BadSetup("the cluster has no dashboard, and Serve is deployed through it; start Ray with --include-dashboard=true")
    return f"http://{address}"
