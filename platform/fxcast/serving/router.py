"""Route a request to the model that answers it, or to the one that answers in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from fxcast import tracing
from fxcast.domain.candle import CandleSeries
from fxcast.domain.forecast import LDM4TSPrediction
from fxcast.domain.forecaster import ForecastRequest, predict_together
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadModelFolder, BadRequest, ForecastLate, ModelUnavailable, Refused, Unavailable
from fxcast.models.baselines.random_walk import RandomWalk
from fxcast.models.config import preset_config
from fxcast.serving.directory import ModelDirectory, ModelKey
from fxcast.serving.outages import cause_of, outages
from fxcast.serving.prometheus import NO_MODEL, ForecastCounts, outcome_of
from fxcast.serving.schemas import (
    Fallback,
    ForecastBody,
    ForecastOptions,
    ModelDescription,
    PredictionBody,
    check_futures,
    check_levels,
    prediction_body,
)
from fxcast.serving.seen import SeenBody

_MOST_BARS = 1000  # that a fallback looks ahead; no model looks as far


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A forecast request with what the answer is to show.

    Attributes:
        levels: Of further quantiles.
        futures: How many of the samples are shown as charts, with `vision`.
        model_version: Which model is asked; the active one by default.
        fallback: Who answers when it is missing or broken.
    """

    request: ForecastRequest
    levels: tuple[float, ...] = ()
    paths: bool = False
    vision: bool = False
    futures: int = 0
    model_version: str | None = None
    fallback: Fallback = "none"

    @property
    def is_kept(self) -> bool:
        """Whether the forecast is stored: one that somebody looks at never takes the place of one that is traded."""
        return not (self.vision or self.futures)


class ForecastRouter:
    """Hand requests to the models that they are for.

    Args:
        service: The deployment that forecasts.
        directory: Says which model answers.
        width_factors: Says by how much the online calibration widens a model's forecast of a window, by horizon.
        timeout_s: How long a forecast may take, its pictures included; then its caller is told, and it is cancelled.
    """

    def __init__(
        self,
        service: DeploymentHandle[Any],
        directory: ModelDirectory,
        *,
        width_factors: Callable[[ModelKey, CandleSeries], Mapping[int, float]],
        timeout_s: float,
    ) -> None:
        self._service = service
        self._directory = directory
        self._width_factors = width_factors
        self._timeout_s = timeout_s
        self._counts = ForecastCounts()

    async def answer(self, asked: Asked) -> tuple[LDM4TSPrediction, PredictionBody]:
        """Forecast; return the prediction, and the same as the API answers it.

        Raises:
            BadRequest: If the model can't answer the request.
            ModelUnavailable: If the model is missing or broken, and no fallback is allowed.
            ForecastLate: If it took too long.
            ForecastUnavailable: If the service is overloaded or away.
        """
        try:
            prediction, body = await self._answer(asked)
        except Exception as error:  # a failure of any kind is counted, and raised again as it is
            self._counts.count(self._version_for(asked), outcome_of(error))
            raise
        if body.fallback_reason is None:
            self._counts.count(prediction.model_version, "answered")
        else:
            self._counts.count(self._version_for(asked), "fallback")
        return prediction, body

    async def predict(self, request: ForecastRequest, model_version: str | None = None) -> LDM4TSPrediction:
        """Forecast with a model of the registry, or with the active one; raises as `answer`."""
        return (await self.answer(Asked(request=request, model_version=model_version)))[0]

    async def describe(self, key: ModelKey) -> ModelDescription:
        """Load a model if need be, and say what it is; raises as `answer`."""
        return await self._in_time(self._asking(key).describe.remote(), self._deadline())

    async def _answer(self, asked: Asked) -> tuple[LDM4TSPrediction, PredictionBody]:
        check_levels(asked.levels, asked.request.num_samples)
        check_futures(asked.futures, asked.request.num_samples, with_vision=asked.vision)
        pictures: Mapping[str, bytes] | None = None
        seen: SeenBody | None = None
        reason: str | None = None
        request, deadline = asked.request, self._deadline()
        try:
            key = self._directory.find(request.window.symbol, request.window.timeframe.name, asked.model_version)
            request = replace(request, width_factors=self._width_factors(key, request.window))
            made = self._asking(key).forecast.remote(request, tracing.traceparent())
            prediction: LDM4TSPrediction = await self._in_time(made, deadline)
            if asked.vision:
                pictures, seen = await self._in_time(self._asking(key).look.remote(request, asked.futures), deadline)
        except ModelUnavailable as error:
            if asked.fallback == "none":
                raise
            reason = str(error)
            request = asked.request
            prediction = walk_forecast(request)
        body = prediction_body(
            prediction,
            levels=asked.levels,
            with_samples=asked.paths,
            width_factors=request.width_factors,
            pictures=pictures,
            seen=seen,
            fallback_reason=reason,
        )
        return prediction, body

    def _version_for(self, asked: Asked) -> str:
        window = asked.request.window
        try:
            key = self._directory.find(window.symbol, window.timeframe.name, asked.model_version)
            return self._directory.version_of(key)
        except (Refused, Unavailable):
            return NO_MODEL

    def _asking(self, key: ModelKey) -> DeploymentHandle[Any]:
        return self._service.options(multiplexed_model_id=str(key))

    def _deadline(self) -> float:
        """Return until when what is asked for now may take, by the loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout_s

    async def _in_time(self, response: DeploymentResponse[Any] | DeploymentResponseGenerator[Any], deadline: float) -> Any:  # noqa: ANN401 (of what was asked)
        assert isinstance(response, DeploymentResponse), "a generator is what only a handle of a stream gives"
        with outages("no forecast"):
            try:
                answer = await asyncio.wait_for(response, deadline - asyncio.get_running_loop().time())
            except TimeoutError:
                response.cancel()
                raise ForecastLate(f"no forecast within {self._timeout_s:g} s") from None
            except BadModelFolder as error:
                raise ModelUnavailable(str(cause_of(error))) from error
        if isinstance(answer, BadRequest):  # see LDM4TSInferenceService.forecast
            raise answer
        return answer


def walk_forecast(request: ForecastRequest) -> LDM4TSPrediction:
    """Forecast with a random walk, at the horizons that were asked for or those of the timeframe's preset.

    Raises:
        BadRequest: If a horizon is no multiple of the timeframe, or so far that prices overflow.
    """
    timeframe: Timeframe = request.window.timeframe
    horizons = request.horizons_minutes or preset_config("tiny", timeframe.name).horizons_minutes
    furthest = _MOST_BARS * timeframe.minutes
    for minutes in horizons:
        if not 0 < minutes <= furthest or minutes % timeframe.minutes:
            raise BadRequest("horizons", str(minutes), f"multiples of {timeframe.minutes} up to {furthest} minutes")
    return predict_together(RandomWalk(timeframe=timeframe, horizons_minutes=tuple(horizons)), [request])[0]


def asked_in(body: ForecastBody) -> Asked:
    """Return what a body asks; raises BadCandles as `ForecastBody.window`."""
    return asked_with(body, body.window())


def asked_with(options: ForecastOptions, window: CandleSeries) -> Asked:
    """Return what some options ask of a window."""
    request = ForecastRequest(window=window, horizons_minutes=options.horizons, num_samples=options.num_samples, seed=options.seed)
    return Asked(
        request=request,
        levels=options.quantiles,
        paths=options.paths,
        vision=options.vision,
        futures=options.futures,
        model_version=options.model_version,
        fallback=options.fallback,
    )
