"""What a Serve config names: `import_path: fxcast.serving.app:build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from ray.serve import Application

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.config import Settings, explain
from fxcast.errors import BadSetting, BadSetup
from fxcast.models.config import Preset
from fxcast.models.folder import check_folder
from fxcast.serving.api import ForecastApi
from fxcast.serving.service import LDM4TSInferenceService


class ServiceArgs(Settings):
    """`args` of the application."""

    model_folder: Path | None = Field(default=None, description="folder of the model; without it, the registry's active model")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")
    symbol: str = Field(default="EURUSD", description="whose active model to serve")
    timeframe: str = Field(default="1h", description="of which timeframe")
    preset: Preset = "tiny"
    threads: int = Field(default=2, ge=1, description="threads of torch in a replica")


def build(args: dict[str, Any]) -> Application:
    """Bind the API to the inference service.

    Args:
        args: The `args` of the config; see `ServiceArgs`.

    Raises:
        BadSetting: If an arg is unknown or out of range.
        BadModelFolder: If the model is incomplete or of another preset; nothing is started then.
        BadSetup: If no model is registered as active.
    """
    # Ray would parse a model given as annotation, but says "1 validation error" where `explain` names the nearest key.
    try:
        settings = ServiceArgs.model_validate(args)
    except ValidationError as error:
        raise BadSetting(f"args of the Serve config: {explain(error, ServiceArgs)}") from None
    folder = settings.model_folder
    if folder is None:
        model = active_model(open_database(settings.database_url), settings.symbol, settings.timeframe)
        if model is None:
            message = f"no model is active for {settings.symbol} {settings.timeframe}; train one with python -m jobs.train"
            raise BadSetup(message)
        folder = model.folder
    check_folder(folder, preset=settings.preset)
    return ForecastApi.bind(LDM4TSInferenceService.bind(str(folder), settings.preset, settings.threads))
