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
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled  # it has no public name
from ray.serve.config import HTTPOptions

from fxcast.cluster.local import REPOSITORY, require_free_port
from fxcast.errors import BadSetting, BadSetup
from fxcast.terminal import progress_bar

_POLL_S = 0.5
_EVERY_INTERFACE = ("0.0.0.0", "::", "")  # noqa: S104  # compared with, not bound to


def load_serve_config(
    path: Path, *, args: Mapping[str, Any], port: int, others: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Read a Serve config, with the args of its applications and the port set.

    Args:
        args: Of the first application, on top of those that the config gives.
        others: The same of further ones, by their names.

    Raises:
        BadSetting: If the file is missing, is not a Serve config, or has no application of a name.
    """
    try:
        config = yaml.safe_load(path.read_text())
        by_name = {application["name"]: application for application in config["applications"]}
        given = {config["applications"][0]["name"]: args, **(others or {})}
        for name, its in given.items():
            by_name[name]["args"] = {**(by_name[name].get("args") or {}), **its}
        for application in by_name.values():
            # Relative in the file, for `serve run` from the repository root; absolute here, wherever this process runs.
            application["runtime_env"] = {"env_vars": {"PYTHONPATH": str(REPOSITORY / "platform")}}
        config["http_options"]["port"] = port
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise BadSetting(f"{path} is not a Serve config: {error!r}") from error
    return config


def is_running(application: str) -> bool:
    """Tell whether the connected cluster has an application that runs."""
    found = serve.status().applications.get(application)
    return found is not None and found.status == "RUNNING"


@contextmanager
def served(
    path: Path,
    *,
    args: Mapping[str, Any],
    port: int,
    dashboard_url: str,
    timeout_s: float,
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> Generator[str]:
    """Deploy a Serve config for the length of the block; yields the base URL of the HTTP API.

    Serve deploys a config by removing every application that is not in it, so a cluster that serves something is refused. At
    the end the application is deleted; Serve itself is shut down if this call started it and nothing else came to run there.

    Args:
        args: Of the config's first application.
        port: Where to listen; if Serve runs already, it listens where it does, and the URL says where.
        others: Args of the config's further applications, by their names.

    Raises:
        BadSetting: As `load_serve_config`.
        BadSetup: If another application, or this one, runs already; if the port is in use, the deployment fails, or it does
            not run in time; says why.
    """
    config = load_serve_config(path, args=args, port=port, others=others)
    applications: set[str] = {application["name"] for application in config["applications"]}
    headers = get_auth_headers_if_auth_enabled({})  # the dashboard of a cluster with a token asks for it
    with httpx.Client(timeout=timeout_s, trust_env=False, headers=headers) as client:
        api = _ServeApi(client, dashboard_url)
        before = api.details()
        _require_nothing_served(before["applications"])
        running = before.get("http_options")  # absent unless Serve runs
        if running is None:
            require_free_port(port, "--port")
        elif before.get("proxy_location") == "Disabled":
            raise BadSetup("Serve runs on this cluster without HTTP; stop it with `serve shutdown`, or use another cluster")
        try:
            api.deploy(config, timeout_s=timeout_s)
            yield base_url(config["http_options"] if running is None else running)
        finally:
            _take_down(applications, started_serve=running is None)


class _ServeApi:
    """Serve's part of the REST API of Ray's dashboard."""

    def __init__(self, client: httpx.Client, dashboard_url: str) -> None:
        self._client = client
        self._dashboard_url = dashboard_url

    def details(self) -> dict[str, Any]:
        """Return what runs; without `http_options` if Serve does not."""
        return self._ask("GET").json()

    def deploy(self, config: Mapping[str, Any], *, timeout_s: float) -> None:
        """Deploy a config and wait, with a progress bar, until its applications run."""
        waiting = [application["name"] for application in config["applications"]]
        deadline = time.monotonic() + timeout_s
        with progress_bar() as progress:
            task = progress.add_task("starting the service", total=len(waiting))
            answer = self._ask("PUT", json=dict(config))
            if answer.is_error:
                raise BadSetup(f"Serve refused the config: {answer.text}")
            while time.monotonic() < deadline:
                states = self.details()["applications"]
                for name in tuple(waiting):
                    state = states.get(name, {})
                    status = str(state.get("status", "NOT_STARTED"))
                    if status == "DEPLOY_FAILED":
                        raise BadSetup(f"the application {name!r} failed to deploy: {state.get('message', '')}")
                    if status == "RUNNING":
                        waiting.remove(name)
                        progress.update(task, advance=1)
                if not waiting:
                    return
                time.sleep(_POLL_S)  # Serve announces no change of state over REST: it is asked again
        raise BadSetup(f"the application {waiting[0]!r} did not run within {timeout_s:g} s")

    def _ask(self, method: str, json: object = None) -> httpx.Response:
        try:
            answer = self._client.request(method, f"{self._dashboard_url}/api/serve/applications/", json=json)
            if method == "GET":
                answer.raise_for_status()
        except httpx.HTTPError as error:
            raise BadSetup(f"the cluster's dashboard at {self._dashboard_url} does not answer: {error!r}") from error
        return answer


def _require_nothing_served(applications: Mapping[str, Mapping[str, Any]]) -> None:
    found = sorted(name for name, state in applications.items() if state.get("status") != "DELETING")
    if found:
        raise BadSetup(
            f"Serve runs {', '.join(repr(name) for name in found)} on this cluster, and deploying would remove it; take it down "
            "with `serve shutdown` if nobody needs it, or use another cluster"
        )


def base_url(http_options: Mapping[str, Any]) -> str:
    """Return where Serve listens; what its options leave out is its default, and a wildcard is reached by loopback."""
    options = HTTPOptions()
    host, port = str(http_options.get("host") or options.host), http_options.get("port") or options.port
    return f"http://{'127.0.0.1' if host in _EVERY_INTERFACE else host}:{port}{http_options.get('root_path') or ''}"


def _take_down(applications: set[str], *, started_serve: bool) -> None:
    served_now = serve.status().applications  # empty if Serve does not run
    if started_serve and served_now.keys() <= applications:
        serve.shutdown()
        return
    for application in applications & served_now.keys():
        serve.delete(application)
