"""Deploy a Serve config to the connected cluster, through Ray's REST API, and wait until it runs."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from ray import serve

from fxcast.cluster.local import REPOSITORY, require_free_port
from fxcast.errors import BadSetting, BadSetup
from fxcast.progress import progress_bar

_POLL_S = 0.5


def load_serve_config(path: Path, *, args: Mapping[str, Any], port: int) -> dict[str, Any]:
    """Read a Serve config, with the application's args and the port set.

    Raises:
        BadSetting: If the file is missing or is not a Serve config of one application.
    """
    try:
        config = yaml.safe_load(path.read_text())
        application = config["applications"][0]
        application["args"] = {**(application.get("args") or {}), **args}
        config["http_options"]["port"] = port
        # Relative in the file, for `serve run` from the repository root; absolute here, wherever this process runs.
        application["runtime_env"] = {"env_vars": {"PYTHONPATH": str(REPOSITORY / "platform")}}
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise BadSetting(f"{path} is not a Serve config: {error!r}") from error
    return config


def deploy(config: Mapping[str, Any], *, dashboard_url: str, timeout_s: float) -> str:
    """Deploy a config and wait, with a progress bar, until its application runs.

    Returns:
        The base URL of the HTTP API.

    Raises:
        BadSetup: If the port is in use, the deployment fails, or it does not run in time; says why.
    """
    http_options, application = config["http_options"], config["applications"][0]["name"]
    endpoint = f"{dashboard_url}/api/serve/applications/"
    require_free_port(http_options["port"], "--port")
    deadline = time.monotonic() + timeout_s
    try:
        with httpx.Client(timeout=timeout_s, trust_env=False) as client, progress_bar() as progress:
            progress.add_task("starting the service", total=None)
            answer = client.put(endpoint, json=dict(config))
            if answer.is_error:
                raise BadSetup(f"Serve refused the config: {answer.text}")
            while time.monotonic() < deadline:
                state = client.get(endpoint).raise_for_status().json()["applications"].get(application, {})
                status = str(state.get("status", "NOT_STARTED"))
                if status == "RUNNING":
                    return f"http://{http_options['host']}:{http_options['port']}"
                if status == "DEPLOY_FAILED":
                    raise BadSetup(f"the application {application!r} failed to deploy: {state.get('message', '')}")
                time.sleep(_POLL_S)  # between polls of another process's state
    except httpx.HTTPError as error:
        raise BadSetup(f"the cluster's dashboard at {dashboard_url} does not answer: {error!r}") from error
    raise BadSetup(f"the application {application!r} did not run within {timeout_s:g} s")


def is_running(application: str) -> bool:
    """Tell whether the connected cluster has an application that runs."""
    found = serve.status().applications.get(application)
    return found is not None and found.status == "RUNNING"


@contextmanager
def served(path: Path, *, args: Mapping[str, Any], port: int, dashboard_url: str, timeout_s: float) -> Generator[str]:
    """Deploy a Serve config for the length of the block; yields the base URL of the HTTP API, and takes Serve down at the end.

    Raises:
        BadSetting: As `load_serve_config`.
        BadSetup: As `deploy`.
    """
    config = load_serve_config(path, args=args, port=port)
    try:
        yield deploy(config, dashboard_url=dashboard_url, timeout_s=timeout_s)
    finally:
        serve.shutdown()
