"""What a Serve config names: `import_path: fxcast.serving.app:build`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from ray.serve import Application

from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.config import Settings
from fxcast.errors import BadSetup
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


def build(args: ServiceArgs) -> Application:
    """Bind the API to the inference service.

    Raises:
        BadModelFolder: If the model is incomplete or of another preset; nothing is started then.
        BadSetup: If no model is registered as active.
    """
    folder = args.model_folder
    if folder is None:
        model = active_model(open_database(args.database_url), args.symbol, args.timeframe)
        if model is None:
            message = f"no model is active for {args.symbol} {args.timeframe}; train one with python -m jobs.train"
            raise BadSetup(message)
        folder = model.folder
    check_folder(folder, preset=args.preset)
    return ForecastApi.bind(LDM4TSInferenceService.bind(str(folder), args.preset, args.threads))
