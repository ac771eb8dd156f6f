"""The whole path on real candles: ingest, train, serve, trade, measure. python -m jobs.demo, or make demo."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import Field
from rich.console import Console

from actors.engine_settings import ReplaySetup
from fxcast.adapters.storage.database import migrate, open_database
from fxcast.adapters.storage.predictions import resolve_outcomes
from fxcast.adapters.storage.registry import RegisteredModel
from fxcast.cluster.local import REPOSITORY, ray_session, require_free_port
from fxcast.cluster.serve_driver import served
from fxcast.config import JobSettings
from fxcast.data.quality_table import render
from fxcast.data.store import CandleStore
from fxcast.data.windows import window_at
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.instrument import default_instrument
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetup
from fxcast.models.config import preset_config
from fxcast.terminal import new_console
from fxcast.trading.config import CandleSide, PaperMarketConfig, TradingConfig
from fxcast.training.config import TrainingConfig
from jobs.demo_report import DemoResult, write_report
from jobs.entry import run
from jobs.ingest import IngestJob, IngestOutcome, ingest
from jobs.trade import replay
from jobs.train import TrainJob, train

_SYMBOL, _TIMEFRAME = "EURUSD", "1h"
_MARKER = ".fxcast-demo"


class DemoJob(JobSettings):
    """Run everything once on the packaged hourly EUR/USD candles of 2017, and measure it; starts from an empty folder each time."""

    folder: Path = Field(default=Path("runs/demo"), description="everything is written here; what an earlier demo left is removed")
    port: int = Field(default=8000, ge=1, le=65535, description="HTTP port of the forecast service")
    training: TrainingConfig = Field(
        default=TrainingConfig(steps=100, learning_rate=2e-4, warm_up_steps=20, width_steps=300, max_seconds=90.0),
        description="how the shipped model is trained further; time is a safety net for slow machines",
    )
    trading: TradingConfig = Field(
        default=TradingConfig(ldm4ts_horizons=(240, 960, 3840), forecast_interval_bars=5), description="how the engine trades"
    )
    max_candles: int | None = Field(default=None, ge=1, description="replay only the first candles of the test period")
    web: bool = Field(default=False, description="serve the page beside the forecast service, and leave it open until Ctrl-C")


def demo(settings: DemoJob, console: Console) -> DemoResult:
    """Run the steps; what was started is taken down at the end, also after an error."""
    started = time.monotonic()
    require_free_port(settings.port, "--port")  # before minutes of training, not after
    folder = settings.folder.absolute()
    _clear(folder)
    store, database_url = str(folder / "store"), f"sqlite:///{folder / 'fxcast.db'}"

    console.rule("1. Database")
    migrate(database_url)
    console.print(f"created by Alembic: {folder / 'fxcast.db'}")

    console.rule("2. Candles")
    ingested = ingest(IngestJob(store=store))
    console.print(render(ingested.quality))
    series = CandleStore(store).read(_SYMBOL, Timeframe(_TIMEFRAME))

    train_job = TrainJob(
        name="demo",
        store=store,
        database_url=database_url,
        models=folder / "models",
        storage_path=str(folder / "train"),
        start_from="shipped",
        training=settings.training,
    )
    config = preset_config(train_job.preset, train_job.timeframe)
    _, _, test = train_job.periods(series, config)
    setup = ReplaySetup(
        account="demo",
        symbols=(_SYMBOL,),
        timeframe=_TIMEFRAME,
        store=store,
        database_url=database_url,
        broker_file=folder / "paper_broker.db",
        start=test[0],
        stop=_stop(series, test, settings.max_candles),
        trading=settings.trading,
        market=PaperMarketConfig(candle_side=CandleSide.ASK),  # the sample's prices are asks
    )
    with ray_session(num_cpus=4) as dashboard_url:
        console.rule("3. Training of the shipped model on these candles (Ray Train, 2 CPU workers)")
        model = train(train_job)
        _describe(console, model)

        console.rule("4. Forecast service (Ray Serve)")
        with served(
            REPOSITORY / "serve_configs" / ("web.yaml" if settings.web else "local.yaml"),
            args={"model_folder": str(model.folder), "metrics_database_url": database_url},
            others={"web": _page_args(settings, store, database_url, dashboard_url)} if settings.web else {},
            port=settings.port,
            dashboard_url=dashboard_url,
            timeout_s=120.0,
        ) as base_url:
            http_ms = _ask_over_http(console, base_url, series, test[0])
            if settings.web:
                console.print(f"the page: {base_url}/web/")

            console.rule("5. Trading engine (replay of the weeks after the validation period)")
            status = replay(setup)

            console.rule("6. What came of it")
            database = open_database(database_url)
            spread = settings.trading.spread_pips * float(default_instrument(_SYMBOL).pip)
            resolve_outcomes(database, series, spread=spread)
            result = DemoResult(
                folder=folder,
                database=database,
                series=series,
                ingested=_quality(ingested),
                setup=setup,
                status=status,
                model=model,
                http_ms=http_ms,
                seconds=time.monotonic() - started,
            )
            write_report(result, console)
            if settings.web:
                _stay_open(console, f"{base_url}/web/")
    return result


def _page_args(settings: DemoJob, store: str, database_url: str, dashboard_url: str) -> dict[str, Any]:
    api_url = f"http://127.0.0.1:{settings.port}"
    return {"database_url": database_url, "store": store, "api_url": api_url, "dashboard_url": dashboard_url}


def _stay_open(console: Console, url: str) -> None:
    console.print(f"\nthe page stays open at {url}, on this machine only; Ctrl-C ends it")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("closing")


def _clear(folder: Path) -> None:
    """Empty a folder that an earlier demo made.

    Raises:
        BadSetup: If the folder holds something and was not made by a demo.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARKER).is_file():
            message = f"{folder} is not empty and was not made by a demo; choose another with --folder"
            raise BadSetup(message)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text("Made by python -m jobs.demo, which empties this folder when it starts.\n")


def _quality(ingested: IngestOutcome) -> dict[str, object]:
    return ingested.quality.to_dict()


def _stop(series: CandleSeries, test: tuple[datetime, datetime], max_candles: int | None) -> datetime:
    """Return the close time of the first candle that is not replayed."""
    in_test = series.close_times[series.close_times >= to_datetime64(test[0])]
    if max_candles is None or max_candles >= len(in_test):
        return test[1] + series.timeframe.duration
    return to_datetime(in_test[max_candles])


def _describe(console: Console, model: RegisteredModel) -> None:
    metrics = model.metrics
    console.print(
        f"{metrics['train_windows']:,} training windows; {metrics['step']} steps, stopped by {metrics['stopped_by']}, "
        f"best validation loss {metrics['best_loss']:.4f} at step {metrics['best_step']}; {metrics['seconds']:.0f} s"
    )
    for name, value in metrics.items():
        if name.startswith("width_"):
            minutes = name.removeprefix("width_")
            weight = metrics[f"mean_weight_{minutes}"]
            console.print(f"calibration at {minutes} minutes: samples widened {value:.2f} times, mean kept at {weight:.0%}")


def _ask_over_http(console: Console, base_url: str, series: CandleSeries, moment: datetime) -> list[float]:
    """Ask the HTTP API for a few forecasts as a client would; returns the milliseconds that each took."""
    window = window_at(series, moment)
    names = ("open", "high", "low", "close", "volume")
    candles = [
        {"time": to_datetime(time_).isoformat(), **dict(zip(names, row, strict=True))}
        for time_, row in zip(window.open_times, window.values.tolist(), strict=True)
    ]
    body = {"symbol": window.symbol, "timeframe": window.timeframe.name, "candles": candles, "num_samples": 50, "seed": 1}
    taken: list[float] = []
    answer: dict[str, Any] = {}
    with httpx.Client(base_url=base_url, timeout=30.0, trust_env=False) as client:
        ready = client.get("/readyz").raise_for_status().json()
        for _ in range(10):
            asked = time.perf_counter()
            answer = client.post("/v1/forecast", json=body).raise_for_status().json()
            taken.append((time.perf_counter() - asked) * 1000.0)
    console.print(f"GET {base_url}/readyz: model {ready['model_version']}; OpenAPI at {base_url}/docs")
    for minutes, horizon in answer["horizons"].items():
        console.print(
            f"POST {base_url}/v1/forecast: {minutes:>4} minutes ahead of {answer['price']:.5f}: q05 {horizon['q05']:.5f}, "
            f"q50 {horizon['q50']:.5f}, q95 {horizon['q95']:.5f}, uncertainty {horizon['uncertainty_pct']:.3f} %"
        )
    return taken


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo."""
    signal.signal(signal.SIGTERM, _interrupt)  # `kill` takes down what was started, as Ctrl-C does
    return run(lambda: _report(DemoJob.parse(arguments)))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _report(settings: DemoJob) -> int:
    demo(settings, new_console())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
