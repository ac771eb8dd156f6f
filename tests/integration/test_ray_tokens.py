"""A cluster with a token: who does not show it joins with no driver, submits no job, adds no node. On a head of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from fxcast.cluster.local import REPOSITORY
from jobs.entry import REFUSED
from tests.ports import free_port
from tests.waiting import wait_for

_RAY = Path(sys.executable).parent / "ray"
_JOIN = """
import sys, ray
from fxcast.cluster.local import ray_session
from fxcast.cluster.serve_driver import served
from fxcast.errors import BadSetup
from jobs.entry import run
from pathlib import Path

def join() -> int:
    with ray_session() as dashboard_url:
        print("a task answered", ray.get(ray.remote(lambda: 6 * 7).remote()))
        # A config that Serve refuses, once it has let the caller in.
        bad = Path(sys.argv[1]); bad.write_text("applications: [{name: a, import_path: nowhere, args: {}}]\\nhttp_options: {}\\n")
        with served(bad, args={}, port=int(sys.argv[2]), dashboard_url=dashboard_url, timeout_s=60):
            pass
    return 0

sys.exit(run(join))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A head that was started for these tests.

    Attributes:
        folder: Where its session is.
        token: What it asks for.
        gcs: Where drivers and nodes join.
        dashboard: Where jobs are submitted.
    """

    folder: Path
    token: str
    gcs: str
    dashboard: str

    def environment(self, token: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of somebody who shows this token, or none."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        quick = {"RAY_NUM_REDIS_GET_RETRIES": "2"}  # refusals are tried again, 20 times by default
        return {**kept, **quick, "HOME": str(self.folder), "PYTHONPATH": f"platform{os.pathsep}.", **token}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="fxt-"))  # short: Ray's sockets lie below it
    token = secrets.token_hex(32)
    gcs, dashboard = free_port(), free_port()
    here = {"dashboard-agent-listen-port", "runtime-env-agent-port", "metrics-export-port", "ray-client-server-port"}
    ports = [argument for option in here for argument in (f"--{option}", str(free_port()))]
    made = Cluster(folder=folder, token=token, gcs="", dashboard=f"http://127.0.0.1:{dashboard}")
    command = [
        *(str(_RAY), "start", "--head", "--block", "--port", str(gcs), "--num-cpus", "1", "--object-store-memory", "100000000"),
        *("--include-dashboard", "true", "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--temp-dir", str(folder / "ray"), "--disable-usage-stats", *ports),
    ]
    environment = made.environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token})
    with (folder / "head").open("w+") as told:
        head = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=told, stderr=subprocess.STDOUT)
        try:

            def is_up() -> bool:
                assert head.poll() is None, (folder / "head").read_text()
                return re.search(r"--address='([^']+)'", (folder / "head").read_text()) is not None

            wait_for(is_up)
            found = re.search(r"--address='([^']+)'", (folder / "head").read_text())
            assert found is not None
            yield Cluster(folder=folder, token=token, gcs=found[1], dashboard=made.dashboard)
        finally:
            head.terminate()
            head.wait(60)
            shutil.rmtree(folder, ignore_errors=True)  # the last processes of the session may still write to it


def _run(environment: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, env=dict(environment), capture_output=True, text=True, timeout=300, check=False)


def _driver(cluster: Cluster) -> tuple[str, ...]:
    return (sys.executable, "-c", _JOIN, str(cluster.folder / "serve.yaml"), str(free_port()))


def _join(cluster: Cluster, token: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return _run({**cluster.environment(token), "RAY_ADDRESS": cluster.gcs}, *_driver(cluster))


def _submit(cluster: Cluster, token: Mapping[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return _run(cluster.environment(token), str(_RAY), "job", "submit", "--address", cluster.dashboard, "--", *command)


def _add_node(cluster: Cluster, token: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = (str(_RAY), "start", "--address", cluster.gcs, "--num-cpus", "1", "--object-store-memory", "100000000")
    return _run(cluster.environment(token), *command)


def test_without_the_right_token_nobody_joins_submits_or_adds_a_node(cluster: Cluster) -> None:
    nothing = {"RAY_AUTH_MODE": "disabled"}
    another = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    mode_forgotten = {"RAY_AUTH_TOKEN": cluster.token}
    token_forgotten = {"RAY_AUTH_MODE": "token"}
    with ThreadPoolExecutor() as pool:  # most of their time they wait before they try again
        drivers = [pool.submit(_join, cluster, token) for token in (another, mode_forgotten, token_forgotten)]
        submit = pool.submit(_submit, cluster, nothing, "echo", "ran")
        node = pool.submit(_add_node, cluster, nothing)
    told = [driver.result() for driver in drivers]
    for refused in told:
        assert refused.returncode == REFUSED, refused.stderr
        (sentence,) = [line for line in refused.stderr.splitlines() if "gcs_client.cc" not in line]  # Ray's core tells each try
        assert sentence.startswith("error: no Ray cluster to join: ")
        assert "RAY_AUTH_TOKEN" in sentence
        assert refused.stdout == ""
        assert cluster.token not in refused.stderr
    assert "set RAY_AUTH_MODE=token (found disabled)" in told[1].stderr
    assert submit.result().returncode != 0
    assert "AuthenticationError" in submit.result().stderr
    assert node.result().returncode != 0
    assert "InvalidAuthToken" in node.result().stderr


def test_with_the_token_a_submitted_job_runs_tasks_and_speaks_with_serve(cluster: Cluster) -> None:
    shown = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": cluster.token}
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in ("platform", "."))
    submitted = _submit(cluster, shown, "env", f"PYTHONPATH={path}", f"FXCAST_HOME={cluster.folder}", *_driver(cluster))
    told = submitted.stdout + submitted.stderr
    assert "a task answered 42" in told
    assert "Serve refused the config" in told, "the dashboard has let it in"
    assert submitted.returncode != 0, "as the job's own"
    assert cluster.token not in told


def test_without_the_token_the_dashboard_tells_nothing(cluster: Cluster) -> None:
    with httpx.Client(base_url=cluster.dashboard, trust_env=False) as client:
        for path in ("/api/jobs/", "/api/actors", "/api/v0/logs", "/api/serve/applications/", "/nodes", "/metrics"):
            assert client.get(path).status_code == 401, path
        assert client.get("/api/jobs/", headers={"Authorization": "Bearer " + "0" * 64}).status_code == 403
        assert client.get("/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"}).status_code == 200


def test_the_token_stands_in_no_file_of_the_session(cluster: Cluster) -> None:
    files = [file for file in (cluster.folder / "ray").rglob("*") if file.is_file()]
    assert any("gcs_server" in file.name for file in files)
    assert [str(file) for file in files if cluster.token.encode() in file.read_bytes()] == []
