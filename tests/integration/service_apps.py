"""Applications of the service with other options than those of the configs, and what tests look at of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import ray
from ray import serve
from ray.util.state import list_actors

from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.registry import RegisteredModel, activate, register_model
from fxcast.domain.timeframe import Timeframe
from fxcast.models.baselines.folder import save_opponent
from fxcast.models.baselines.garch import Garch, GarchParameters
from fxcast.serving.api import ForecastApi
from fxcast.serving.backend import ApiSetup
from fxcast.serving.directory import ModelKey
from fxcast.serving.service import LDM4TSInferenceService


def deployed(
    name: str,
    model_folder: Path,
    options: dict[str, Any],
    *,
    timeout_s: float = 60.0,
    registry_url: str | None = None,
    predictions_database_url: str | None = None,
    metrics_database_url: str | None = None,
) -> None:
    """Run the application with other options of its inference deployment than those of the configs.

    Args:
        model_folder: The one model that is served; with a registry the one that is loaded at the start.
        registry_url: Whose models are served instead.
    """
    key = str(ModelKey(folder=str(model_folder), timeframe="1h"))
    service = LDM4TSInferenceService.options(**options).bind(
        [key], threads=1, max_batch_samples=1000, batch_wait_s=0.005, metrics_database_url=metrics_database_url
    )
    setup = ApiSetup(
        model_folder=model_folder if registry_url is None else None,
        database_url=registry_url or "sqlite:///unused.db",
        default_symbol="EURUSD",
        default_timeframe=None,
        preset=None,
        timeout_s=timeout_s,
        store="unused",
        tokens_database_url=None,
        predictions_database_url=predictions_database_url,
        metrics_database_url=metrics_database_url,
        online_calibration=False,
    )
    api = ForecastApi.options(max_ongoing_requests=500, ray_actor_options={"num_cpus": 0.1})
    serve.run(api.bind(service, setup), name=name, route_prefix=f"/{name}")


def make_registry(url: str, folders: Mapping[str, Path], *, symbol: str, active: str) -> None:
    """Create a registry of hourly models of one pair, by version."""
    migrate(url)
    database = open_database(url)
    for version, folder in folders.items():
        model = RegisteredModel(
            version=version,
            preset="tiny",
            symbol=symbol,
            timeframe="1h",
            folder=folder,
            config={},
            data_hash="ab",
            data_start=datetime(2017, 1, 1, tzinfo=UTC),
            data_end=datetime(2017, 6, 1, tzinfo=UTC),
            metrics={},
        )
        register_model(database, model)
    activate(database, active)


def save_garch_that_fails_on(symbol: str, folder: Path) -> None:
    """Save a model that forecasts any pair but one: there its prices overflow, which is a bug to the service."""
    usual = GarchParameters(scale=1e-3, omega=0.1, alpha=0.05, beta=0.85, log_likelihood=0.0, returns=1000)
    garch = Garch(
        timeframe=Timeframe("1h"),
        horizons_minutes=(240, 960, 3840),
        by_symbol={symbol: usual.model_copy(update={"scale": 1e6})},
        pooled=usual,
    )
    save_opponent(garch, folder, seen=None, card="# garch\n")


def session_folder() -> Path:
    """Return the folder of the cluster's session on this machine; its logs are below."""
    (node,) = (node for node in ray.nodes() if node["NodeID"] == ray.get_runtime_context().get_node_id())
    return Path(node["ObjectStoreSocketName"]).parents[1]  # SESSION/sockets/plasma_store


def processes(name: str) -> list[int]:
    """Return the processes of the actors whose name holds another."""
    address = ray.get_runtime_context().gcs_address  # of several clusters on a machine it would take the newest
    actors = cast("list[Any]", list_actors(address, filters=[("state", "=", "ALIVE")]))
    return [actor.pid for actor in actors if name in (actor.name or "")]
