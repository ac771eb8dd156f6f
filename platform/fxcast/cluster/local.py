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
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only; a cluster sets its own
    # Entry points of submitted jobs find `python` by PATH, and it must be the one that has fxcast's packages.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if "RAY_ADDRESS" in os.environ:
        context = ray.init(log_to_driver=False, logging_level=logging.WARNING)
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
        yield _dashboard_url(context)
    finally:
        ray.shutdown()


def _dashboard_url(context: BaseContext) -> str:
    address = context.dashboard_url
    if not address:
        raise BadSetup("the cluster has no dashboard, and Serve is deployed through it; start Ray with --include-dashboard=true")
    return f"http://{address}"
