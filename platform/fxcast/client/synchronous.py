"""The client for callers that wait."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx
from tenacity import Retrying

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


class ForecastClient:
    """Ask a running service; one client serves any number of threads, and keeps its connections open.

    What got no answer, or a 429, 503 or 504, is asked again, after a random pause that grows, and no sooner than the answer's
    Retry-After. What was refused is not: it would be refused again. Methods raise what `fxcast.client` lists.

    Args:
        base_url: Where the API is, as in `http://127.0.0.1:8000`; FXCAST_URL by default.
        token: A token of `python -m jobs.token`; FXCAST_TOKEN by default, `""` for none.
        timeout_s: For how long a call may last, with all its attempts and pauses.
        attempt_timeout_s: For how long an attempt may wait for its answer; then the next one starts, if the call has time left.
        retries: How often a call asks again at most.
        ssl_context: Which certificates are trusted; those of certifi by default.

    Raises:
        BadSetting: If there is no address, or an argument is wrong.
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
        self._http = httpx.Client(**http_arguments(base_url, token, ssl_context))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def forecast(self, window: CandleSeries, **options: Unpack[ForecastChoices]) -> PredictionBody:
        """Forecast from the last 100 closed candles."""
        return self._ask(questions.forecast(window, options))

    def forecasts(self, windows: Sequence[Window], **options: Unpack[ForecastChoices]) -> list[PredictionBody | Problem]:
        """Forecast from up to 64 windows; each is answered or refused for itself, in their order.

        Args:
            windows: Each alone, or with options that win over the common ones: `(window, {"seed": 7})`.
            options: For all of them.
        """
        return self._ask(questions.forecasts(windows, options))

    def latest_forecast(self, symbol: str, timeframe: str, **options: Unpack[ForecastChoices]) -> PredictionBody:
        """Forecast from the last 100 candles of the service's own store that have closed."""
        return self._ask(questions.latest_forecast(symbol, timeframe, options))

    def models(self) -> list[ModelBody]:
        """List the models of the registry, newest first."""
        return self._ask(questions.models())

    def activate(self, version: str) -> ModelBody:
        """Put a model to use in place of the one that is active for its pair and timeframe; needs a token with the scope admin."""
        return self._ask(questions.activate(version))

    def predictions(self, **wanted: Unpack[PredictionsWanted]) -> list[StoredPredictionBody]:
        """List stored forecasts, newest first, with their outcomes where those are known."""
        return self._ask(questions.predictions(wanted))

    def inference_metrics(self, **wanted: Unpack[RowsWanted]) -> list[InferenceMinuteBody]:
        """List minutes of inference, newest first."""
        return self._ask(questions.inference_metrics(wanted))

    def health(self) -> Health:
        """Say that the API is alive, whatever its models do."""
        return self._ask(questions.health())

    def ready(self) -> ModelDescription:
        """Say which model is loaded and warm; while none is, ask again as any call does."""
        return self._ask(questions.ready())

    def _ask(self, question: Question[Answer]) -> Answer:
        call = Call(question, self._patience)
        retrying = Retrying(stop=call.stop, wait=call.wait, retry=call.retry, reraise=True)
        return retrying(lambda: self._attempt(call))

    def _attempt(self, call: Call[Answer]) -> Answer:
        body = bytearray()
        try:
            response = self._http.send(call.start_attempt(self._http), stream=True)
            try:
                for chunk in response.iter_bytes():
                    body += chunk
                    call.check_time()
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise call.lost(error) from error
        return call.read(response, bytes(body))
