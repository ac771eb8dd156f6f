"""One Ray cluster, one small model and one running service for all integration tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import ray
import torch
import yaml
from sqlalchemy import Engine

from fxcast import __version__
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.serve_driver import served
from fxcast.data.packaged import read_packaged_sample
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries
from fxcast.models.autoencoder import SHIPPED_TINY_VAE, load_autoencoder
from fxcast.models.config import preset_config
from fxcast.models.folder import save_pretrained
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.models.text import SENTENCES
from tests.cluster_nodes import joined
from tests.databases import DATABASES, new_database
from tests.ports import free_port
from tests.state import job_store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the Ray cluster: there is room for one, and the rest runs two at once (see the Makefile)."""
    for item in items:
        if isinstance(item, pytest.Function) and "dashboard_url" in item.fixturenames:
            item.add_marker("ray")


@pytest.fixture(scope="session")
def dashboard_url() -> Iterator[str]:
    """A Ray cluster on this machine, with its dashboard; shut down at the end."""
    with ray_session(num_cpus=4) as url:
        yield url


@pytest.fixture(scope="session")
def series() -> CandleSeries:
    """The packaged hourly EUR/USD candles of 2017."""
    return read_packaged_sample().series


@pytest.fixture(scope="session")
def store(series: CandleSeries, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A candle store that holds the sample."""
    root = job_store(tmp_path_factory.mktemp("store"))
    CandleStore(root).append(series)
    return root


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the shipped autoencoder and otherwise random weights: fast, and its forecasts are as good as noise."""
    torch.manual_seed(7)
    config = preset_config("tiny", "1h").model_copy(update={"sampler_steps": 2})
    pipeline = LDM4TSPipeline.untrained(config, load_autoencoder(SHIPPED_TINY_VAE), torch.randn(len(SENTENCES), 16))
    folder = tmp_path_factory.mktemp("models") / "random"
    save_pretrained(dataclasses.replace(pipeline, model_version="random"), folder, card="# random\n", fxcast_version=__version__)
    return folder


@pytest.fixture(scope="session")
def service_url(dashboard_url: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The forecast service, deployed from serve_configs/local.yaml; its base URL.

    It stays for all tests that follow, so it is one replica that takes next to no CPU from them: a search or a training which waits
    for the CPUs that a second replica holds would wait until that is given up, minutes later.
    """
    config = yaml.safe_load((REPOSITORY / "serve_configs" / "local.yaml").read_text())
    inference, _ = config["applications"][0]["deployments"]
    inference["autoscaling_config"]["max_replicas"] = 1
    inference["ray_actor_options"] = {"num_cpus": 0.1}
    path = tmp_path_factory.mktemp("serve_configs") / "local.yaml"
    path.write_text(yaml.safe_dump(config))
    with served(
        path,
        args={"model_folder": str(model_folder)},
        port=free_port(),
        dashboard_url=dashboard_url,
        timeout_s=600.0,
    ) as url:
        yield url


@pytest.fixture
def gpu_node(dashboard_url: str) -> Generator[str]:
    """Let a machine with two GPUs, which are not there, join the cluster; its id."""
    assert dashboard_url
    with joined(cpus=2, gpus=2) as node:
        yield node.node_id


@pytest.fixture(autouse=True, scope="session")
def _never_outside() -> None:
    assert not ray.is_initialized(), "a test connected to Ray before the shared cluster was started"


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, at the newest schema."""
    url = new_database(request.param, tmp_path)
    migrate(url)
    return url


@pytest.fixture
def database(url: str) -> Generator[Engine]:
    engine = open_database(url)
    yield engine
    engine.dispose()
