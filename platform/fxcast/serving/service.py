"""The deployment that holds models and forecasts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from ray import serve

from fxcast import tracing
from fxcast.adapters.clock import SystemClock
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import Forecaster, ForecastRequest, check_request, predict_together
from fxcast.errors import BadModelFolder, BadRequest, Refused
from fxcast.serving.database_urls import database_url
from fxcast.serving.loading import ModelLoads, load_warm
from fxcast.serving.logs import log_to_serve
from fxcast.serving.metrics import InferenceMetrics
from fxcast.serving.names import DEPLOYMENT
from fxcast.serving.prometheus import Gauges, InferenceMeters
from fxcast.serving.schemas import ModelDescription
from fxcast.serving.seen import SeenBody

_FLUSH_TIMEOUT_S = 10.0  # inside graceful_shutdown_timeout_s
_MODELS_IN_MEMORY = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    forecaster: Forecaster
    request: ForecastRequest


def _samples(asked: Sequence[_Asked]) -> int:
    return sum(each.request.num_samples for each in asked)


@serve.deployment(name=DEPLOYMENT)
class LDM4TSInferenceService:
    """Several models, one batch of forecasts at a time; the options of the deployment are in serve_configs/.

    Requests name their model by Serve's multiplexed model id, a `ModelKey` as text.

    A replica whose model can't be loaded fails to start, and Serve tries again and again, while others run that may have the model
    in memory: one that only refuses is always free, and would draw their requests away. Where no other runs it starts all the same,
    for who asks must be told why; then whoever asks has the model loaded once its folder is whole.

    Args:
        warm: Keys of the models to load before the replica is ready.
        threads: Threads of torch.
        max_batch_samples: Monte-Carlo samples of all requests of a batch; bounds the memory. One request for more is refused.
        batch_wait_s: How long a request waits for others to share its batch.
        metrics_database_url: Where minutes of inference are written; nowhere if neither this nor the environment variable
            FXCAST_METRICS_DATABASE_URL, which wins, is set.

    Raises:
        BadModelFolder: If a folder is incomplete, corrupt or not of the timeframe, and other replicas run.
    """

    _metrics: InferenceMetrics | None = None
    _gauges: Gauges | None = None

    async def __init__(  # pyright: ignore[reportGeneralTypeIssues]  # Serve awaits it
        self,
        warm: Sequence[str],
        *,
        threads: int,
        max_batch_samples: int,
        batch_wait_s: float,
        metrics_database_url: str | None = None,
    ) -> None:
        log_to_serve()
        tracing.configure("fxcast-model")
        import torch  # here and not above: what deploys this class needs no torch, and need not wait for it

        # One thread: a model uses `threads` cores by itself, and the event loop stays free for health checks. All of torch
        # runs in it, loading too: a second thread that computes gets OpenMP workers of its own, more than there are cores,
        # and a U-Net step then takes 1.7 times as long (230 against 139 ms for four, on two cores).
        self._executor = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="forecast", initializer=torch.set_num_threads, initargs=(threads,)
        )
        self._max_batch_samples = max_batch_samples
        together = cast("Any", self._together)  # Ray publishes no type for what @serve.batch adds
        together.set_max_batch_size(max_batch_samples)
        together.set_batch_wait_timeout_s(batch_wait_s)
        url = database_url("metrics", metrics_database_url)
        if url is not None:
            self._metrics = InferenceMetrics(url, replica=serve.get_replica_context().replica_tag, clock=SystemClock().now)
            self._metrics.start()
            self._gauges = Gauges({"inference minutes": self._metrics.counts}, {})
            self._gauges.start()
        self._meters = InferenceMeters()
        self._loads = ModelLoads(self._load_counted)
        # Through Serve's cache, which tells the routers which models a replica has: one that it knows nothing of gets no request
        # before the others are full.
        for key in warm:
            try:
                await self._load(key)
            except BadModelFolder:  # Serve has logged why
                if await asyncio.to_thread(_others_run):
                    raise

    def __del__(self) -> None:
        # Serve calls it when a replica is shut down gracefully.
        if self._metrics is not None:
            self._metrics.close(timeout_s=_FLUSH_TIMEOUT_S)
        if self._gauges is not None:
            self._gauges.close()

    async def forecast(self, request: ForecastRequest, traceparent: str | None = None) -> LDM4TSPrediction | BadRequest:
        """Forecast one window, in one batch with others that wait.

        Returns:
            The forecast, or why the model can't answer the request: Serve would log what is raised as an error of the replica.

        Raises:
            BadModelFolder: If the model can't be loaded.
        """
        with tracing.span("forecast", "server", parent=traceparent, symbol=request.window.symbol, samples=request.num_samples):
            try:
                return await self._forecast(request)
            except BadRequest as error:
                return error

    async def _forecast(self, request: ForecastRequest) -> LDM4TSPrediction:
        forecaster = await self._asked_model()
        check_request(forecaster, request)
        if request.num_samples > self._max_batch_samples:
            raise BadRequest(
                "num_samples", str(request.num_samples), f"at most {self._max_batch_samples}, what the service computes at once"
            )
        # A caller that goes away cancels this wait, and Serve leaves it out of the next batch.
        answer = await self._together(_Asked(forecaster, request))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def describe(self) -> ModelDescription:
        """Say what the model is; loads it if it is not in memory."""
        forecaster = await self._asked_model()
        return ModelDescription(
            model_version=forecaster.model_version, timeframe=forecaster.timeframe.name, horizons=forecaster.horizons_minutes
        )

    async def look(self, request: ForecastRequest, futures: int) -> tuple[dict[str, bytes], SeenBody] | BadRequest:
        """Return what the model sees of a window and is told, as `looking.look` does, or that it sees nothing; see `forecast`."""
        from fxcast.serving.looking import look  # torch, as above

        forecaster = await self._asked_model()
        try:
            return await self._in_thread(lambda: look(forecaster, request, futures))
        except BadRequest as error:
            return error

    async def _asked_model(self) -> Forecaster:
        return await self._load(serve.get_multiplexed_model_id())

    async def _load(self, model_id: str) -> Forecaster:
        return await cast("Callable[[str], Awaitable[Forecaster]]", self._model)(model_id)

    @serve.multiplexed(max_num_models_per_replica=_MODELS_IN_MEMORY)
    async def _model(self, model_id: str) -> Forecaster:
        return await self._loads.take(model_id)

    async def _load_counted(self, model_id: str) -> Forecaster:
        try:
            forecaster = await self._in_thread(lambda: load_warm(model_id))
        except BadModelFolder:
            self._meters.loaded(is_whole=False)
            raise
        self._meters.loaded(is_whole=True)
        return forecaster

    @serve.batch(batch_size_fn=_samples)
    async def _together(self, asked: list[_Asked]) -> list[LDM4TSPrediction | Exception]:
        return await self._in_thread(lambda: self._forecast_all(asked))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _forecast_all(self, asked: Sequence[_Asked]) -> list[LDM4TSPrediction | Exception]:
        answers: dict[int, LDM4TSPrediction | Exception] = {}
        alike: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for position, each in enumerate(asked):
            alike[id(each.forecaster), each.request.num_samples].append(position)
        for positions in alike.values():
            answers |= zip(positions, self._forecast_alike([asked[position] for position in positions]), strict=True)
        return [answers[position] for position in range(len(asked))]

    def _forecast_alike(self, asked: Sequence[_Asked]) -> Sequence[LDM4TSPrediction | Exception]:
        forecaster = asked[0].forecaster
        try:
            predictions = predict_together(forecaster, [each.request for each in asked])
        except Exception as error:  # noqa: BLE001  # a model may raise anything, for one window: that one's caller alone is told
            if len(asked) > 1:
                return [answer for each in asked for answer in self._forecast_alike([each])]
            if self._metrics is not None and not isinstance(error, Refused):
                self._metrics.failed(forecaster.model_version)
            return [error]
        self._meters.computed(forecaster.model_version, [each.inference_time_ms for each in predictions], samples=_samples(asked))
        if self._metrics is not None:
            for prediction in predictions:
                self._metrics.answered(forecaster.model_version, prediction.inference_time_ms)
        return predictions


def _others_run() -> bool:
    context = serve.get_replica_context()
    status = serve.status().applications[context.app_name].deployments[context.deployment]
    states = cast("dict[str, int]", status.replica_states)  # by ReplicaState, which is a str
    return states.get("RUNNING", 0) > 0  # not this replica, which only starts
