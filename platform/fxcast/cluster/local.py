"""Join the cluster that runs, or start one on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

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
def ray_session(*, num_cpus: int | None = None, include_dashboard: bool = False) -> Iterator[None]:
    """Connect to Ray for the length of the block.

    Inside a submitted job, or with RAY_ADDRESS set, it joins that cluster and leaves it running; otherwise it starts one and
    shuts it down at the end, also after an error.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only; a cluster sets its own
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
    python_path = os.pathsep.join([str(REPOSITORY / "platform"), str(REPOSITORY)])
    environment = {"env_vars": {"PYTHONPATH": python_path, "RAY_AUTH_MODE": os.environ["RAY_AUTH_MODE"]}}
    if "RAY_ADDRESS" in os.environ or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        ray.init(log_to_driver=False)
    else:
        ray.init(
            num_cpus=num_cpus,
            include_dashboard=include_dashboard,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level="warning",
            runtime_env=environment,
        )
    try:
        yield
    finally:
        ray.shutdown()
