"""What a Serve config names: `import_path: fxcast.serving.app:build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from ray.serve import Application

from fxcast.adapters.storage.database import absolute_database_url, make_database_url, open_database
from fxcast.adapters.storage.registry import active_model
from fxcast.config import Settings, explain
from fxcast.domain.forecast import MAX_SAMPLES
from fxcast.errors import BadSetting, BadSetup
from fxcast.models.config import Preset
from fxcast.models.summary import check_forecaster
from fxcast.serving.api import ForecastApi
from fxcast.serving.backend import ApiSetup
from fxcast.serving.directory import DEFAULT_TIMEFRAME, ModelKey
from fxcast.serving.service import LDM4TSInferenceService


class ServiceArgs(Settings):
    """`args` of the application.

    Serve's dashboard shows them; so FXCAST_TOKENS_DATABASE_URL, FXCAST_PREDICTIONS_DATABASE_URL and FXCAST_METRICS_DATABASE_URL
    in the environment of the nodes come before the URLs that are given here.
    """

    model_folder: Path | None = Field(
        default=None, description="folder of the one model to serve; without it, those of the registry, as they are activated"
    )
    database_url: str = Field(default="sqlite:///runs/fxcast.db", description="database of the model registry")
    symbol: str = Field(default="EURUSD", description="whose active model answers for a pair that has none of its own")
    timeframe: str | None = Field(
        default=None, description="of which candles the default model is: 1h of the registry, and of a folder its main one"
    )
    preset: Preset | None = Field(
        default=None, description="of LDM4TS that a model must be of; by default any forecaster is served"
    )
    store: str = Field(default="runs/store", description="candle store, for GET /v1/forecast/{symbol}/{timeframe}")
    threads: int = Field(default=1, ge=1, description="threads of torch in a replica; more replicas make better use of the cores")
    max_batch_samples: int = Field(
        default=MAX_SAMPLES,
        ge=1,
        description="Monte-Carlo samples computed at once, those of several requests together; bounds a replica's memory, and a "
        "request for more is refused",
    )
    batch_wait_ms: float = Field(default=5.0, ge=0, description="how long a request waits for others to share its batch")
    timeout_s: float = Field(default=20.0, gt=0, description="a forecast that takes longer is given up, and answered 504")
    tokens_database_url: str | None = Field(
        default=None,
        description="where the access tokens of python -m jobs.token are; without it everybody may ask, from this machine only",
    )
    predictions_database_url: str | None = Field(
        default=None, description="where forecasts are kept, for their outcomes and for online calibration; nowhere by default"
    )
    metrics_database_url: str | None = Field(default=None, description="where minutes of inference are kept, nowhere by default")
    online_calibration: bool = Field(
        default=True,
        description="where forecasts are kept, let their widths follow what python -m jobs.outcomes learned of earlier ones",
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
    folder, timeframe = settings.model_folder, settings.timeframe
    database_url = absolute_database_url(settings.database_url)  # a replica may have another working directory
    if folder is None:
        timeframe = timeframe or DEFAULT_TIMEFRAME
        model = active_model(open_database(database_url), settings.symbol, timeframe)
        if model is None:
            raise BadSetup(f"no model is active for {settings.symbol} {timeframe}; train one with python -m jobs.train")
        folder = model.folder
    main = check_forecaster(folder, preset=settings.preset, timeframe=timeframe)
    setup = ApiSetup(
        model_folder=None if settings.model_folder is None else folder.absolute(),
        database_url=database_url,
        default_symbol=settings.symbol,
        default_timeframe=timeframe,
        preset=settings.preset,
        timeout_s=settings.timeout_s,
        store=_absolute(settings.store),
        tokens_database_url=_database(settings.tokens_database_url),
        predictions_database_url=_database(settings.predictions_database_url),
        metrics_database_url=_database(settings.metrics_database_url),
        online_calibration=settings.online_calibration,
    )
    service = LDM4TSInferenceService.bind(
        [str(ModelKey(folder=str(folder.absolute()), timeframe=main.timeframe))],
        threads=settings.threads,
        max_batch_samples=settings.max_batch_samples,
        batch_wait_s=settings.batch_wait_ms / 1000.0,
        metrics_database_url=setup.metrics_database_url,
    )
    return ForecastApi.bind(service, setup)


def _database(url: str | None) -> str | None:
    if url is None:
        return None
    make_database_url(url)
    return absolute_database_url(url)


def _absolute(root: str) -> str:
    return root if "://" in root else str(Path(root).absolute())
