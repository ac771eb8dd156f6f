"""The client for callers on an event loop."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx
from tenacity import AsyncRetrying

from fxcast.client import questions
from fxcast.client.calls import Call, Patience, http_arguments
from fxcast.client.options import ForecastChoices, PredictionsWanted, RowsWanted
from fxcast.client.questions import Answer, Question, Window
from fxcast.domain.candle import CandleSeries
from fxcast.serving.schemas import (
    Health,
    InferenceMinuteBody,
    ModelBody,
    ModelDescription,
    PredictionBody,
    Problem,
    StoredPredictionBody,
)


class AsyncForecastClient:
    """Ask a running service; one client serves any number of tasks of one event loop, and keeps its connections open.

    Arguments, retries and errors are those of `ForecastClient`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        attempt_timeout_s: float = 30.0,  # the service gives a forecast up after 20 s
        retries: int = 4,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._patience = Patience(timeout_s=timeout_s, attempt_timeout_s=attempt_timeout_s, retries=retries)
        self._http = httpx.AsyncClient(**http_arguments(base_url, token, ssl_context))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def forecast(self, window: CandleSeries, **options: Unpack[ForecastChoices]) -> PredictionBody:
        """Forecast from the last 100 closed candles."""
        return await self._ask(questions.forecast(window, options))

    async def forecasts(self, windows: Sequence[Window], **options: Unpack[ForecastChoices]) -> list[PredictionBody | Problem]:
        """Forecast from up to 64 windows; each is answered or refused for itself, in their order.

        Args:
            windows: Each alone, or with options that win over the common ones: `(window, {"seed": 7})`.
            options: For all of them.
        """
        return await self._ask(questions.forecasts(windows, options))

    async def latest_forecast(self, symbol: str, timeframe: str, **options: Unpack[ForecastChoices]) -> PredictionBody:
        """Forecast from the last 100 candles of the service's own store that have closed."""
        return await self._ask(questions.latest_forecast(symbol, timeframe, options))

    async def models(self) -> list[ModelBody]:
        """List the models of the registry, newest first."""
        return await self._ask(questions.models())

    async def activate(self, version: str) -> ModelBody:
        """Put a model to use in place of the one that is active for its pair and timeframe; needs a token with the scope admin."""
        return await self._ask(questions.activate(version))

    async def predictions(self, **wanted: Unpack[PredictionsWanted]) -> list[StoredPredictionBody]:
        """List stored forecasts, newest first, with their outcomes where those are known."""
        return await self._ask(questions.predictions(wanted))

    async def inference_metrics(self, **wanted: Unpack[RowsWanted]) -> list[InferenceMinuteBody]:
        """List minutes of inference, newest first."""
        return await self._ask(questions.inference_metrics(wanted))

    async def health(self) -> Health:
        """Say that the API is alive, whatever its models do."""
        return await self._ask(questions.health())

    async def ready(self) -> ModelDescription:
        """Say which model is loaded and warm; while none is, ask again as any call does."""
        return await self._ask(questions.ready())

    async def _ask(self, question: Question[Answer]) -> Answer:
        call = Call(question, self._patience)
        retrying = AsyncRetrying(stop=call.stop, wait=call.wait, retry=call.retry, reraise=True)
        return await retrying(self._attempt, call)

    async def _attempt(self, call: Call[Answer]) -> Answer:
        body = bytearray()
        try:
            response = await self._http.send(call.start_attempt(self._http), stream=True)
            try:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    call.check_time()
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise call.lost(error) from error
        return call.read(response, bytes(body))
