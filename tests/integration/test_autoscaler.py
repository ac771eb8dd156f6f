"""The node types of the cluster files under Ray's autoscaler: GPU nodes come for a training and for replicas, and go when idle."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fxcast.adapters.storage.database import migrate
from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.serve_driver import load_serve_config
from fxcast.domain.candle import CandleSeries
from tests.autoscaling import AutoscaledCluster, autoscaled, planned
from tests.http import body_of
from tests.integration.training_run import SHORT
from tests.ports import free_port
from tests.waiting import wait_for

AWS, GOOGLE = REPOSITORY / "cluster.yaml", REPOSITORY / "deploy" / "gcp.yaml"
GPU_CONFIG = REPOSITORY / "serve_configs" / "gpu.yaml"
WORKER = {"CPU": 1.0, "GPU": 1.0}  # of a training
SERVICE = "LDM4TSInferenceService"


def replica() -> dict[str, float]:
    """Return what a replica of gpu.yaml asks for."""
    (application,) = yaml.safe_load(GPU_CONFIG.read_text())["applications"]
    options = next(each for each in application["deployments"] if each["name"] == SERVICE)["ray_actor_options"]
    return {"CPU": options["num_cpus"], "GPU": options["num_gpus"], "memory": options["memory"]}


@pytest.mark.parametrize(
    ("file", "asked", "nodes"),
    [
        (AWS, [{"CPU": 1.0}], {"cpu_spot": 1}),
        (AWS, [{"CPU": 1.0}] * 128, {"cpu_spot": 4, "cpu_on_demand": 4}),
        (AWS, [{"CPU": 1.0}] * 129, {"cpu_spot": 4, "cpu_on_demand": 4, "gpu_1_spot": 1}),
        (AWS, [{"CPU": 17.0}], {"gpu_8_spot": 1}),
        (AWS, [WORKER] * 2, {"gpu_1_spot": 2}),
        (AWS, [WORKER] * 4, {"gpu_1_spot": 4}),
        (AWS, [WORKER] * 5, {"gpu_8_spot": 1}),
        (AWS, [WORKER] * 8, {"gpu_8_spot": 1}),
        (AWS, [{"CPU": 1.0, "GPU": 8.0}], {"gpu_8_spot": 1}),
        (AWS, [replica()] * 4, {"gpu_1_spot": 1}),
        (AWS, [replica()] * 5, {"gpu_1_spot": 2}),
        (AWS, [replica()] * 16, {"gpu_1_spot": 4}),
        (GOOGLE, [{"CPU": 1.0}] * 128, {"cpu_spot": 4, "cpu_on_demand": 4}),
        (GOOGLE, [WORKER] * 2, {"gpu_1_spot": 2}),
        (GOOGLE, [WORKER] * 4, {"gpu_4_spot": 1}),
        (GOOGLE, [replica()] * 5, {"gpu_1_spot": 2}),
    ],
)
def test_an_idle_cluster_grows_by_the_nodes_that_fit_best(file: Path, asked: list[dict[str, float]], nodes: dict[str, int]) -> None:
    plan = planned(file, asked)
    assert plan.nodes == nodes
    assert plan.impossible == 0


@pytest.mark.parametrize("file", [AWS, GOOGLE])
def test_no_demand_brings_more_nodes_than_allowed_and_what_fits_on_no_node_brings_none(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    plan = planned(file, [WORKER] * 1000)
    assert plan.impossible > 0
    assert sum(plan.nodes.values()) <= config["max_workers"]
    for name, count in plan.nodes.items():
        assert count <= config["available_node_types"][name]["max_workers"]
    plan = planned(file, [{"CPU": 1.0, "GPU": 16.0}])
    assert (plan.nodes, plan.impossible) == ({}, 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[AutoscaledCluster]:
    # Load is heard of each second instead of every tenth, and a proxy without replicas leaves its node after 3 s instead of 30.
    impatient = {f"RAY_SERVE_{name}_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1" for name in ("HANDLE", "REPLICA")}
    impatient["RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S"] = "3"
    with autoscaled(AWS, idle_timeout_s=6.0, environment=impatient) as cluster:
        yield cluster


class Watch:
    """Looks at a cluster again and again, and holds it against its limits.

    Attributes:
        most: The most nodes of each type that there have been at once.
    """

    def __init__(self, cluster: AutoscaledCluster) -> None:
        self._cluster = cluster
        self.most = Counter[str]()

    def look(self) -> Counter[str]:
        """Return how many nodes of each type there are, not more than their `max_workers`."""
        counts = self._cluster.counts()
        types = self._cluster.config["available_node_types"]
        assert all(count <= types[name]["max_workers"] for name, count in counts.items()), counts
        assert counts.total() <= self._cluster.config["max_workers"]
        self.most |= counts
        return counts

    def is_idle(self) -> bool:
        """Tell whether there are as many nodes as `min_workers` says, and no more."""
        types = self._cluster.config["available_node_types"]
        return dict(self.look()) == {name: each["min_workers"] for name, each in types.items() if each.get("min_workers")}


def submit(cluster: AutoscaledCluster, home: Path, said: Path, *arguments: str, watching: Callable[[], object]) -> int:
    """Submit a job and wait for its end; return its exit code.

    Args:
        home: Its FXCAST_HOME.
        said: File for what it says.
        watching: Called while it runs.
    """
    ray = Path(sys.executable).parent / "ray"
    command = [str(ray), "job", "submit", "--address", cluster.dashboard_url, "--runtime-env", "jobs/runtime_env.yaml"]
    command += ["--", "env", f"FXCAST_HOME={home}", "python", "-m", *arguments]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    with (
        said.open("wb") as output,
        subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT) as job,
    ):

        def is_over() -> bool:
            watching()
            return job.poll() is not None

        try:
            wait_for(is_over, timeout_s=600)
        finally:
            job.kill()  # if `watching` has raised; what it has submitted ends with the cluster
    return job.returncode


@pytest.mark.long
def test_a_training_brings_a_gpu_for_each_worker_and_idleness_takes_them_down(
    cluster: AutoscaledCluster, store: Path, tmp_path: Path
) -> None:
    database_url = f"sqlite:///{tmp_path / 'registry.db'}"
    migrate(database_url)
    training = SHORT.model_dump(mode="json") | {"window_stride_bars": 40}
    settings = {"name": "scaled", "store": str(store), "database_url": database_url, "training": training}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({**settings, "use_gpu": True, "workers": "2"}))
    watch = Watch(cluster)
    wait_for(watch.is_idle)
    said = tmp_path / "said"
    code = submit(cluster, tmp_path, said, "jobs.train", "--config", str(tmp_path / "train.yaml"), watching=watch.look)
    assert code == 0, said.read_text()
    assert "model scaled in" in said.read_text()
    gpu_nodes = {name: count for name, count in watch.most.items() if name.startswith("gpu")}
    assert gpu_nodes == {"gpu_1_spot": 2}, "the small kind, and one for each worker"
    wait_for(watch.is_idle)


@pytest.mark.long
def test_replicas_fill_a_gpu_then_bring_another_which_goes_after_the_load(
    cluster: AutoscaledCluster, model_folder: Path, series: CandleSeries, tmp_path: Path
) -> None:
    config = served_config(model_folder, tmp_path)
    url = f"http://127.0.0.1:{config['http_options']['port']}"
    watch = Watch(cluster)
    with httpx.Client(base_url=cluster.dashboard_url, trust_env=False, timeout=60.0) as client:

        def application() -> dict[str, Any]:
            return client.get("/api/serve/applications/").json()["applications"].get("fxcast", {})

        def replicas() -> Counter[str]:
            """Return how many replicas run on each node."""
            found = application()["deployments"][SERVICE]["replicas"]
            return Counter(each["node_id"] for each in found if each["state"] == "RUNNING")

        def is_running() -> bool:
            watch.look()
            return application().get("status") == "RUNNING"

        full = Counter[str]()

        def is_full() -> bool:
            nonlocal full
            watch.look()
            full = replicas()
            return full.total() == 5

        client.put("/api/serve/applications/", json=config).raise_for_status()
        wait_for(is_running, timeout_s=300)
        assert list(replicas().values()) == [1]
        answers = asyncio.run(asked(url, series, is_full))
        assert set(answers) == {200}
        assert len(full) == 2, "a GPU has four shares, and the fifth replica brought another"
        assert max(full.values()) <= 4
        assert watch.most["gpu_1_spot"] == 2
        wait_for(lambda: watch.look()["gpu_1_spot"] == 1, timeout_s=200)
        assert set(asyncio.run(asked(url, series, lambda: True))) == {200}, "the service still answers"
        client.delete("/api/serve/applications/").raise_for_status()


def served_config(model_folder: Path, folder: Path) -> dict[str, Any]:
    """Return gpu.yaml with a model on this machine instead of databases, and with less patience."""
    nothing = dict.fromkeys(("tokens_database_url", "predictions_database_url", "metrics_database_url"))
    # Requests that wait for each other are load that takes no CPU.
    args = {**nothing, "model_folder": str(model_folder), "database_url": "sqlite:///unused.db", "batch_wait_ms": 2000}
    config = load_serve_config(GPU_CONFIG, args={**args, "store": str(folder)}, port=free_port())
    config["http_options"]["host"] = "127.0.0.1"
    (application,) = config["applications"]
    for deployment in application["deployments"]:
        deployment["autoscaling_config"] |= {"upscale_delay_s": 1, "downscale_delay_s": 2, "look_back_period_s": 4}
        if deployment["name"] == SERVICE:
            deployment["autoscaling_config"] |= {"max_replicas": 5, "target_ongoing_requests": 2}
    return config


async def asked(url: str, series: CandleSeries, until: Callable[[], bool]) -> Mapping[int, int]:
    """Ask from sixteen clients at once, again and again until a condition holds; count the status codes."""
    answers = Counter[int]()
    is_over = False

    async def client(http: httpx.AsyncClient, number: int) -> None:
        while not is_over:
            body = body_of(series.slice(number, number + 100), seed=number, num_samples=1)
            answers[(await http.post(f"{url}/v1/forecast", json=body)).status_code] += 1

    async with httpx.AsyncClient(timeout=120.0, trust_env=False) as http:
        clients = [asyncio.create_task(client(http, number)) for number in range(16)]
        deadline = time.monotonic() + 240
        while not await asyncio.to_thread(until) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)  # between looks at what other processes do
        is_over = True
        await asyncio.gather(*clients)
    return answers
