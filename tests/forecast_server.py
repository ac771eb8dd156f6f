"""The shipped model behind the API's own forecast route, without Ray: its schemas, its problems, real sockets."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI

from fxcast.domain.forecaster import predict_together
from fxcast.errors import BadRequest
from fxcast.models.pipeline import LDM4TSPipeline
from fxcast.serving.looking import look
from fxcast.serving.middleware import surround
from fxcast.serving.router import asked_in
from fxcast.serving.schemas import ForecastBody, PredictionBody, prediction_body
from tests.ports import free_port
from tests.waiting import wait_for


@dataclass(kw_only=True)
class ForecastServer:
    """A service of one model that a test can stop and start again at the same address.

    Attributes:
        asked: What it was asked, oldest first.
    """

    pipeline: LDM4TSPipeline
    port: int = field(default_factory=free_port)
    asked: list[ForecastBody] = field(default_factory=list[ForecastBody])

    def __post_init__(self) -> None:
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start to answer."""
        server = uvicorn.Server(uvicorn.Config(self._app(), port=self.port, log_level="critical"))
        self._server, self._thread = server, threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: server.started)

    def stop(self) -> None:
        """End it as when its process is killed."""
        assert self._server is not None
        assert self._thread is not None
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()

    def _app(self) -> FastAPI:
        app = FastAPI()
        surround(app)

        @app.post("/v1/forecast", response_model_exclude_none=True)
        def forecast(body: ForecastBody) -> PredictionBody:
            self.asked.append(body)
            if body.model_version not in (None, self.pipeline.model_version):
                raise BadRequest("model_version", str(body.model_version), self.pipeline.model_version)
            request = asked_in(body).request
            pictures, seen = look(self.pipeline, request, body.futures)
            return prediction_body(predict_together(self.pipeline, [request])[0], pictures=pictures, seen=seen)

        @app.get("/readyz")
        def readyz() -> dict[str, str]:
            return {"status": "ready"}

        del forecast, readyz  # the app has them
        return app
