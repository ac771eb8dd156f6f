"""The deployment that holds a model and forecasts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ray import serve

from fxcast.adapters.clock import SystemClock
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import CONTEXT_BARS, LDM4TSPrediction
from fxcast.domain.forecaster import predict
from fxcast.errors import Refused
from fxcast.models.config import Preset
from fxcast.serving.metrics import InferenceMetrics, metrics_url
from fxcast.serving.names import DEPLOYMENT
from fxcast.serving.schemas import Health

_FLUSH_TIMEOUT_S = 10.0  # inside graceful_shutdown_timeout_s


@serve.deployment(name=DEPLOYMENT)
class LDM4TSInferenceService:
    """One model, one forecast at a time; the options of the deployment are in serve_configs/.

    Args:
        model_folder: Folder of the model.
        preset: The preset of LDM4TS it must be of; with None the folder may hold any forecaster.
        threads: Threads of torch.
        metrics_database_url: Where minutes of inference are written; nowhere if neither this nor the environment variable
            FXCAST_METRICS_DATABASE_URL, which wins, is set.
        timeframe: Which to forecast, of those that the model was trained on; by default its main one.

    Raises:
        BadModelFolder: If the folder is incomplete, corrupt, or of another preset or timeframe.
    """

    _metrics: InferenceMetrics | None = None

    def __init__(
        self,
        model_folder: str,
        preset: Preset | None,
        threads: int,
        metrics_database_url: str | None = None,
        timeframe: str | None = None,
    ) -> None:
        import torch  # here and not above: what deploys this class needs no torch, and need not wait for it

        from fxcast.models.load import load_forecaster

        # One thread: the model uses `threads` cores by itself, and the event loop stays free for health checks. All of torch
        # runs in it, loading too: a second thread that computes gets OpenMP workers of its own, more than there are cores,
        # and a U-Net step then takes 1.7 times as long (230 against 139 ms for four, on two cores).
        self._executor = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="forecast", initializer=torch.set_num_threads, initargs=(threads,)
        )
        loading = self._executor.submit(load_forecaster, Path(model_folder), preset=preset, timeframe=timeframe)
        self._forecaster = loading.result()
        self._executor.submit(self._warm_up).result()
        url = metrics_url(metrics_database_url)
        if url is not None:
            self._metrics = InferenceMetrics(
                url,
                model_version=self._forecaster.model_version,
                replica=serve.get_replica_context().replica_tag,
                clock=SystemClock().now,
            )
            self._metrics.start()

    def __del__(self) -> None:
        # Serve calls it when a replica is shut down gracefully.
        if self._metrics is not None:
            self._metrics.close(timeout_s=_FLUSH_TIMEOUT_S)

    def _warm_up(self) -> None:
        forecaster = self._forecaster
        minutes = forecaster.timeframe.minutes
        values = np.ones((CONTEXT_BARS, 5))
        times = np.datetime64("2017-01-03T00:00:00", "s") + np.arange(CONTEXT_BARS) * np.timedelta64(minutes * 60, "s")
        window = CandleSeries(symbol="EURUSD", timeframe=forecaster.timeframe, open_times=times, values=values)
        predict(forecaster, window, horizons_minutes=forecaster.horizons_minutes, num_samples=50, seed=0)

    async def forecast(
        self, window: CandleSeries, horizons_minutes: Sequence[int] | None, num_samples: int, seed: int
    ) -> LDM4TSPrediction:
        """Forecast one window; all the model's horizons when None.

        Raises:
            BadRequest: If the model can't answer it.
        """
        horizons = self._forecaster.horizons_minutes if horizons_minutes is None else horizons_minutes
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self._forecast_and_count, window, horizons, num_samples, seed
        )

    def _forecast_and_count(self, window: CandleSeries, horizons: Sequence[int], num_samples: int, seed: int) -> LDM4TSPrediction:
        try:
            prediction = predict(self._forecaster, window, horizons_minutes=horizons, num_samples=num_samples, seed=seed)
        except Refused:
            raise
        except Exception:  # counted and raised again
            if self._metrics is not None:
                self._metrics.failed()
            raise
        if self._metrics is not None:
            self._metrics.answered(prediction.inference_time_ms)
        return prediction

    async def describe(self) -> Health:
        """Say which model this is."""
        return Health(
            status="ok",
            model_version=self._forecaster.model_version,
            timeframe=self._forecaster.timeframe.name,
            horizons=self._forecaster.horizons_minutes,
        )
