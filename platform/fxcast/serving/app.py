"""What a Serve config names: `import_path: fxcast.serving.app:build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from ray.serve import Application

from fxcast.adapters.storage.database import absolute_database_url, make_database_url, open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.config import Settings, explain
from fxcast.errors import BadSetting, BadSetup
from fxcast.models.config import Preset
from fxcast.models.summary import check_forecaster
from fxcast.serving.api import ForecastApi
from fxcast.serving.service import LDM4TSInferenceService

_REGISTRY_TIMEFRAME = "1h"


class ServiceArgs(Settings):
    """`args` of the application."""

    model_folder: Path | None = Field(default=None, description="folder of the model; without it, the registry's active model")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")
    symbol: str = Field(default="EURUSD", description="whose active model to serve")
    timeframe: str | None = Field(
        default=None, description="which to serve; by default 1h of the registry, and of a folder the model's main one"
    )
    preset: Preset | None = Field(
        default=None, description="of LDM4TS that the model must be of; by default any forecaster is served"
    )
    threads: int = Field(default=2, ge=1, description="threads of torch in a replica")
    metrics_database_url: str | None = Field(
        default=None,
        description="where minutes of inference are written, nowhere by default; FXCAST_METRICS_DATABASE_URL in the "
        "replica's environment comes first, and keeps a password out of Serve's dashboard",
    )


def build(args: dict[str, Any]) -> Application:
    """Bind the API to the inference service.

    Args:
        args: The `args` of the config; see `ServiceArgs`.

    Raises:
        BadSetting: If an arg is unknown or out of range.
        BadModelFolder: If the model is incomplete, or of another preset or timeframe; nothing is started then.
        BadSetup: If no model is registered as active, or a database URL can't be read. A metrics database that does not answer
            stops nothing.
    """
    # Ray would parse a model given as annotation, but says "1 validation error" where `explain` names the nearest key.
    try:
        settings = ServiceArgs.model_validate(args)
    except ValidationError as error:
        raise BadSetting(f"args of the Serve config: {explain(error, ServiceArgs)}") from None
    folder = settings.model_folder
    if folder is None:
        timeframe = settings.timeframe or _REGISTRY_TIMEFRAME
        model = active_model(open_database(settings.database_url), settings.symbol, timeframe)
        if model is None:
            raise BadSetup(f"no model is active for {settings.symbol} {timeframe}; train one with python -m jobs.train")
        folder = model.folder
    timeframe = check_forecaster(folder, preset=settings.preset, timeframe=settings.timeframe).timeframe
    metrics = settings.metrics_database_url
    if metrics is not None:
        make_database_url(metrics)
        metrics = absolute_database_url(metrics)  # a replica may have another working directory
    service = LDM4TSInferenceService.bind(str(folder), settings.preset, settings.threads, metrics, timeframe)
    return ForecastApi.bind(service)
