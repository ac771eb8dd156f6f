"""Run the trading engine: python -m jobs.trade --config configs/trade.yaml."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import ray
from pydantic import AwareDatetime, Field
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayTaskError

from actors.trading_engine import ENDED, EngineSettings, EngineStatus, ReplaySetup, find_engine, start_engine
from fxcast.adapters.brokers.paper import require_unused
from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.registry import active_model, registered_model
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.serve_driver import is_running, served
from fxcast.config import JobSettings
from fxcast.data.store import CandleStore
from fxcast.domain.candle import to_datetime
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting, BadSetup, FxcastError, MustStop
from fxcast.models.summary import ForecasterSummary, check_forecaster
from fxcast.serving.client import ServeForecasts
from fxcast.terminal import new_console, progress_bar
from fxcast.trading.state import KillSwitch
from jobs.entry import run

_SERVE_TIMEOUT_S = 120.0
_ANSWER_TIMEOUT_S = 30.0  # of one look at the engine
_PATIENCE_S = 300.0  # candles take seconds, a restart of the engine half a minute on a slow machine
_CALL_TIMEOUT_S = 120.0  # stop and the kill switch wait for the candle in hand, which waits for its forecast


class TradeSettings(EngineSettings):
    """An engine, and the period that it replays where the model and the store don't say it."""

    start: AwareDatetime | None = Field(
        default=None,
        description="the first candle closes at or after it; by default the end of what the model was trained and calibrated on",
    )
    stop: AwareDatetime | None = Field(
        default=None, description="candles that close at or after it are not replayed; by default all of the store are"
    )


class TradeJob(JobSettings):
    """Replay candles of the store through the trading engine and the paper broker.

    It uses the forecast service of the cluster, or deploys it for its own length. Run again with the same account, an engine
    goes on where it stopped. Ctrl-C takes down an engine that this command started, and leaves one that it is attached to.
    """

    engine: TradeSettings = Field(default_factory=TradeSettings, description="what to trade, when and how")
    store: str | None = Field(default=None, description="root of the candle store, where engine.store is not set (FXCAST_STORE)")
    database_url: str | None = Field(
        default=None, repr=False, description="the ledger, where engine.database_url is not set (FXCAST_DATABASE_URL)"
    )
    attach: bool = Field(default=False, description="follow the engine of this account that runs already")
    stop: bool = Field(default=False, description="stop the engine of this account that runs already, and end")
    kill_switch: KillSwitch | None = Field(
        default=None,
        description="set the kill switch of the engine of this account that runs already, and end: active trades, reducing "
        "closes but does not open, halted sends nothing",
    )
    serve_config: Path = Field(default=REPOSITORY / "serve_configs" / "local.yaml", description="deployed if no service runs")
    port: int = Field(default=8000, ge=1, le=65535, description="HTTP port of that service")

    def settings(self) -> TradeSettings:
        """Return the engine's settings with store and database filled in, and absolute paths.

        Raises:
            BadSetting: If the store or the database is given twice, and differently.
            BadSetup: If the database URL can't be read.
        """
        given = {name: value for name in ("store", "database_url") if (value := getattr(self, name)) is not None}
        for name, value in given.items():  # the values are not repeated: a URL may hold a password
            if name in self.engine.model_fields_set and getattr(self.engine, name) != value:
                raise BadSetting(f"{name} and engine.{name} differ; give one of them (FXCAST_{name.upper()} sets the first)")
        return self.engine.model_copy(update=given).absolute()


def watch(
    look: Callable[[], EngineStatus],
    progress: Callable[[EngineStatus], None],
    *,
    poll_s: float = 0.5,
    patience_s: float = _PATIENCE_S,
) -> EngineStatus:
    """Look at an engine until it has finished or stopped; a restart in between, or a slow answer, is waited out.

    Args:
        look: Asks the engine for its status.
        progress: Is told each status.
        poll_s: Between two looks.
        patience_s: How long the status may stay the same.

    Raises:
        BadSetup: If the engine failed because its input is wrong; says what.
        MustStop: If it failed otherwise or is gone, or nothing changed for too long; says why.
    """
    last: EngineStatus | None = None
    deadline = time.monotonic() + patience_s
    while True:
        try:
            status = look()
        except (ActorUnavailableError, GetTimeoutError):
            status = last  # Ray is restarting it, or the machine is slow
        except ActorDiedError as error:
            raise MustStop(_gone(error)) from None
        if status is not None and status != last:
            deadline, last = time.monotonic() + patience_s, status
            progress(status)
            if status["state"] == "failed":
                raise (BadSetup if status["refused"] else MustStop)(f"the engine failed: {status['problem']}")
            if status["state"] in ENDED:
                return status
        if time.monotonic() > deadline:
            raise MustStop(_stuck(last, patience_s))
        time.sleep(poll_s)  # nothing announces what another process does: it is looked at again


def _gone(error: ActorDiedError) -> str:
    return (
        f"the engine is gone: {str(error).strip().splitlines()[-1].strip()} The ledger and the broker have kept everything; "
        "start it again to go on"
    )


def _stuck(last: EngineStatus | None, patience_s: float) -> str:
    start = f"nothing new from the engine for {patience_s:g} s"
    if last is None:
        return f"{start}: it did not answer once; does the cluster have a CPU left for it?"
    problem = f", {last['problem']}" if last["problem"] else ""
    return f"{start}: it is {last['state']} at candle {last['candles_done']} of {last['candles_total']}{problem}"


def follow(engine: ActorHandle[Any], progress: Callable[[EngineStatus], None], *, poll_s: float = 0.5) -> EngineStatus:
    """Wait until an engine has finished or stopped; see `watch`."""

    def look() -> EngineStatus:
        return cast("EngineStatus", ray.get(engine.status.remote(), timeout=_ANSWER_TIMEOUT_S))

    return watch(look, progress, poll_s=poll_s)


def replay(setup: ReplaySetup) -> EngineStatus:
    """Start an engine on the connected cluster, show its progress until it ends, and take it down whatever happens.

    Raises:
        BadSetup: If one of the account runs already, or the database is not at the newest schema; or as `watch`.
        MustStop: As `watch`.
    """
    open_database(setup.database_url).dispose()  # refuses an outdated schema here, before anything is started
    engine = start_engine(setup)
    try:
        return _show(engine)
    finally:
        ray.kill(engine, no_restart=True)


def attach(account: str) -> EngineStatus:
    """Show the progress of the engine that runs for an account; one that has not ended is left alone, Ctrl-C or not.

    Raises:
        BadSetup: If none runs; or as `watch`.
        MustStop: As `watch`.
    """
    engine = _running(account)
    new_console().print(f"attached to the engine of account {account!r}; Ctrl-C leaves it running")
    ended = False

    def look(status: EngineStatus) -> None:
        nonlocal ended
        ended = status["state"] in ENDED

    try:
        return _show(engine, look)
    finally:
        if ended:
            ray.kill(engine, no_restart=True)


def _show(engine: ActorHandle[Any], look: Callable[[EngineStatus], None] = lambda _: None) -> EngineStatus:
    with progress_bar() as progress:
        task = progress.add_task("trading engine: candles", total=None)

        def show(status: EngineStatus) -> None:
            look(status)
            progress.update(task, completed=status["candles_done"], total=status["candles_total"] or None)
            if status["state"] == "waiting":
                progress.console.print(f"the engine waits: {status['problem']}")

        return follow(engine, show)


def throw_kill_switch(account: str, kill_switch: KillSwitch) -> None:
    """Set the kill switch of the engine that runs for an account; it counts from the next candle on, also after a restart.

    Raises:
        BadSetup: If no engine runs, or it has not started yet.
        MustStop: If the engine does not answer.
    """
    _call(_running(account).set_kill_switch.remote(kill_switch.value))


def stop(account: str) -> None:
    """Stop the engine that runs for an account, after the candle in hand, and take it down.

    Raises:
        BadSetup: If no engine runs.
        MustStop: If the engine does not answer.
    """
    engine = _running(account)
    _call(engine.stop.remote())
    ray.kill(engine, no_restart=True)


def _running(account: str) -> ActorHandle[Any]:
    engine = find_engine(account)
    if engine is None:
        raise BadSetup(
            f"no engine runs for account {account!r} on the cluster at {_cluster_address()}; start one without --attach, --stop "
            "and --kill-switch, or set RAY_ADDRESS to its cluster"
        )
    return engine


def _cluster_address() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _call(answer: ObjectRef[Any]) -> None:
    """Wait for an engine's answer; what fxcast raised there is raised here."""
    try:
        ray.get(answer, timeout=_CALL_TIMEOUT_S)
    except RayTaskError as error:
        if isinstance(error.cause, FxcastError):
            raise error.cause from None
        raise
    except (ActorUnavailableError, GetTimeoutError):
        message = (
            f"the engine did not answer within {_CALL_TIMEOUT_S:g} s, or is restarting; whether it heard is unknown: ask again"
        )
        raise MustStop(message) from None
    except ActorDiedError as error:
        raise MustStop(_gone(error)) from None


@contextmanager
def _cluster(settings: TradeJob) -> Generator[str]:
    """Connect to Ray; for an engine that runs already that is its cluster, never a new one."""
    if settings.attach or settings.stop or settings.kill_switch is not None:
        os.environ.setdefault("RAY_ADDRESS", "auto")
    with ExitStack() as stack:
        try:
            dashboard_url = stack.enter_context(ray_session(num_cpus=4))
        except ConnectionError as error:
            raise BadSetup(f"no Ray cluster to join: {error}; set RAY_ADDRESS, or start the engine first") from None
        yield dashboard_url


def model_to_serve(engine: EngineSettings) -> ForecasterSummary:
    """Return what is known of the model that a service for this engine gets: the one the settings name, or the active one.

    Raises:
        BadModelFolder: If its folder is incomplete, or of another timeframe.
        BadSetting: If it has not the horizons that the settings name.
        BadSetup: If the settings name no model and none is active.
    """
    folder = model_folder(engine)
    found = check_forecaster(folder, timeframe=engine.timeframe)
    known = list(found.horizons_minutes)
    unknown = sorted(set(engine.trading.ldm4ts_horizons) - set(known))
    if unknown:
        raise BadSetting(f"engine.trading.ldm4ts_horizons: found {unknown}; allowed: those of model {found.model_version}, {known}")
    return found


def model_folder(engine: EngineSettings) -> Path:
    """Return the folder of the model that the settings name, or of the active one.

    Raises:
        BadSetup: If the settings name no model and none is active.
    """
    if engine.trading.ldm4ts_checkpoint_path is not None:
        return engine.trading.ldm4ts_checkpoint_path
    database = open_database(engine.database_url)
    model = active_model(database, engine.symbol, engine.timeframe)
    database.dispose()
    if model is None:
        raise BadSetup(f"no model is active for {engine.symbol} {engine.timeframe}; train one with python -m jobs.train")
    return model.folder


def replay_setup(engine: TradeSettings, model_version: str | None) -> ReplaySetup:
    """Return the engine's settings with a period: what the settings leave open, the model and the store say.

    Args:
        model_version: Of the model that forecasts, None without one.

    Raises:
        BadSetting: If no start is given and the registry does not know the model, or if the start lies in the period that the
            model was trained or calibrated on: it would know its own future.
        BadCandles: If the store holds no candle of the period.
    """
    model = None
    if model_version is not None:
        database = open_database(engine.database_url)
        model = registered_model(database, model_version)
        database.dispose()
    start = engine.start
    if model is not None and start is not None and start < model.data_end:
        raise BadSetting(
            f"engine.start: found {start.isoformat()}; allowed: {model.data_end.isoformat()} or later, for model {model.version} "
            "was trained and calibrated on the candles before and would know its own future"
        )
    if start is None and model is None:
        raise BadSetting("engine.start: missing; no model of the registry forecasts that would say where its training data end")
    start = start or (None if model is None else model.data_end)
    stop = engine.stop
    if stop is None:
        series = CandleStore(engine.store).read(engine.symbol, Timeframe(engine.timeframe))
        stop = to_datetime(series.close_times[-1]) + series.timeframe.duration
    setup = ReplaySetup.model_validate({**dict(engine), "start": start, "stop": stop})
    setup.candles()
    return setup


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(TradeJob.parse(arguments)))


def _report(settings: TradeJob) -> int:
    console = new_console()
    engine = settings.settings()
    starts = not (settings.attach or settings.stop or settings.kill_switch)
    if starts:
        require_unused(engine.broker_file)
    with _cluster(settings) as dashboard_url:
        if settings.kill_switch is not None:
            throw_kill_switch(engine.account, settings.kill_switch)
            console.print(
                f"kill switch of account {engine.account!r}: {settings.kill_switch.value} (cluster at {_cluster_address()})"
            )
            return 0
        if settings.stop:
            stop(engine.account)
            console.print(f"engine of account {engine.account!r} stopped; what is open stays open, protected at the broker")
            return 0
        status = attach(engine.account) if settings.attach else _trade(settings, engine, dashboard_url)
    ledger = SqlLedger(open_database(engine.database_url), engine_id=engine.account)
    equity = ledger.equity_curve()
    console.print(
        f"{status['state']} at {status['last_candle']}: {status['candles_done']} candles, {status['forecasts_missed']} forecasts "
        f"missed, {len(ledger.signals())} signals, {len(ledger.orders())} orders, {len(ledger.fills())} fills, "
        f"equity {equity[-1].equity if equity else '—'}"
    )
    return 0


def _trade(settings: TradeJob, engine: TradeSettings, dashboard_url: str) -> EngineStatus:
    """Replay with the service that runs, or with one deployed for the length of the replay; without LDM4TS with none."""
    if not engine.trading.use_ldm4ts:
        return replay(replay_setup(engine, None))
    if is_running(engine.application):
        return replay(replay_setup(engine, ServeForecasts(engine.application).describe(engine.timeframe).model_version))
    setup = replay_setup(engine, model_to_serve(engine).model_version)
    with served(
        settings.serve_config,
        args={"model_folder": str(model_folder(engine)), "timeframe": engine.timeframe},
        port=settings.port,
        dashboard_url=dashboard_url,
        timeout_s=_SERVE_TIMEOUT_S,
    ):
        return replay(setup)


if __name__ == "__main__":
    raise SystemExit(main())
