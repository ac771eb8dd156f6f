"""Applications of the service with other options than those of the configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import serve

from fxcast.serving.api import ForecastApi
from fxcast.serving.backend import ApiSetup
from fxcast.serving.directory import ModelKey
from fxcast.serving.service import LDM4TSInferenceService


def deployed(
    name: str, model_folder: Path, options: dict[str, Any], *, timeout_s: float = 60.0, predictions_database_url: str | None = None
) -> None:
    """Run the application with other options of its inference deployment than those of the configs."""
    key = str(ModelKey(folder=str(model_folder), timeframe="1h"))
    service = LDM4TSInferenceService.options(**options).bind([key], threads=1, max_batch_samples=1000, batch_wait_s=0.005)
    setup = ApiSetup(
        model_folder=model_folder,
        database_url="sqlite:///unused.db",
        default_symbol="EURUSD",
        default_timeframe=None,
        preset=None,
        timeout_s=timeout_s,
        store="unused",
        tokens_database_url=None,
        predictions_database_url=predictions_database_url,
        metrics_database_url=None,
        online_calibration=False,
    )
    api = ForecastApi.options(max_ongoing_requests=500, ray_actor_options={"num_cpus": 0.1})
    serve.run(api.bind(service, setup), name=name, route_prefix=f"/{name}")
