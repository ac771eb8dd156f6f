"""Run the trading engine: python -m jobs.trade --config configs/trade.yaml [--mode paper | live]."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import ray
from pydantic import Field
from ray.actor import ActorHandle
from rich.console import Console
from rich.live import Live

from actors.engine_settings import LiveSetup, ReplaySetup, Setup
from actors.engine_status import EngineStatus
from actors.market_feed import FeedSettings, find_feed, start_feed
from actors.trading_engine import ENDED, find_engine, start_engine
from fxcast.adapters.brokers.paper import require_unused
from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.serve_driver import is_running, served
from fxcast.config import JobSettings
from fxcast.errors import BadSetting, BadSetup, MustStop
from fxcast.serving.client import ServeForecasts
from fxcast.terminal import new_console, progress_bar
from jobs.engine_calls import call, follow
from jobs.engine_view import StateLines, engine_view
from jobs.entry import run
from jobs.trade_setup import TradeSettings, feed_settings, live_setup, model_folder, model_to_serve, replay_setup, with_params
from jobs.tuned_parameters import Parameters

Look = Callable[[EngineStatus], None]
Show = Callable[[ActorHandle[Any], Look], EngineStatus]

_SERVE_TIMEOUT_S = 120.0


class TradeJob(JobSettings):
    """Start the trading engine of an account, or attach to it if it runs already.

    replay: past candles of the store against the paper broker, as fast as they can be traded; it uses the forecast service of the
    cluster, or deploys it for its own length, and Ctrl-C takes the engine down. paper: a feed's candles as they close, against the
    paper broker. live: the same against a real broker; real money also needs allow_live and the account's id. Paper and live
    engines are left running by Ctrl-C where the cluster was there before. Run again with the same account, an engine goes on
    where it stopped. jobs.control shows it, throws its kill switch and stops it.

    --params best: trade with what is promoted for each symbol and timeframe. It is looked up when an engine is started; one that
    runs keeps what it was started with, whatever is promoted or rolled back.
    """

    mode: Literal["replay", "paper", "live"] = Field(default="replay", description="replay, paper or live")
    engine: TradeSettings = Field(default_factory=TradeSettings, description="what to trade, when and how")
    store: str | None = Field(default=None, description="root of the candle store, where engine.store is not set (FXCAST_STORE)")
    database_url: str | None = Field(
        default=None, repr=False, description="the ledger, where engine.database_url is not set (FXCAST_DATABASE_URL)"
    )
    params: str | None = Field(default=None, description="where engine.params is not set: best, or the name or id of a search")
    serve_config: Path = Field(
        default=REPOSITORY / "serve_configs" / "local.yaml", description="replay: deployed if no service runs"
    )
    port: int = Field(default=8000, ge=1, le=65535, description="HTTP port of that service")

    def settings(self) -> TradeSettings:
        """Return the engine's settings with store, database and `params` filled in, and absolute paths.

        Raises:
            BadSetting: If one of them is given twice, and differently.
            BadSetup: If the database URL can't be read.
        """
        given = {name: value for name in ("store", "database_url", "params") if (value := getattr(self, name)) is not None}
        for name, value in given.items():  # the values are not repeated: a URL may hold a password
            if name in self.engine.model_fields_set and getattr(self.engine, name) != value:
                raise BadSetting(f"{name} and engine.{name} differ; give one of them (FXCAST_{name.upper()} sets the first)")
        return self.engine.model_copy(update=given).absolute()


def replay(setup: ReplaySetup) -> EngineStatus:
    """Start an engine on the connected cluster, show its progress until it ends, and take it down whatever happens.

    Raises:
        BadSetup: If one of the account runs already, or the database is not at the newest schema; or as `engine_calls.watch`.
        MustStop: As `engine_calls.watch`.
    """
    open_database(setup.database_url).dispose()  # refuses an outdated schema here, before anything is started
    engine = start_engine(setup)
    try:
        return _show_replay(engine)
    finally:
        _take_down(engine)


def attach(account: str, engine: ActorHandle[Any], show: Show) -> EngineStatus:
    """Show an engine that runs; one that has not ended is left alone, Ctrl-C or not.

    Raises:
        BadSetup, MustStop: As `engine_calls.watch`.
    """
    new_console().print(f"attached to the engine of account {account!r}; Ctrl-C leaves it running")
    ended = False

    def look(status: EngineStatus) -> None:
        nonlocal ended
        ended = status["state"] in ENDED

    try:
        return show(engine, look)
    finally:
        if ended:
            ray.kill(engine, no_restart=True)  # the next one needs its name


def _check_mode(account: str, engine: ActorHandle[Any], mode: str) -> None:
    """Refuse to show an engine as if it were of another mode.

    Raises:
        BadSetup: If it is.
        MustStop: If the engine does not answer.
    """
    setup = cast("Setup", call(engine.settings.remote()))
    running = "replay" if isinstance(setup, ReplaySetup) else "paper" if setup.broker == "paper" else "live"
    if running != mode:
        raise BadSetup(
            f"the engine of account {account!r} runs in mode {running}, not {mode}; attach with --mode {running}, or stop it first "
            f"with python -m jobs.control --account {account} --stop"
        )


def _take_down(engine: ActorHandle[Any]) -> None:
    """Let the engine give its account back, then remove it; one that does not answer is removed all the same."""
    try:
        call(engine.stop.remote())
    except MustStop:
        pass  # its lease ends by itself
    finally:
        ray.kill(engine, no_restart=True)


def _show_replay(engine: ActorHandle[Any], look: Look = lambda _: None) -> EngineStatus:
    with progress_bar() as progress:
        task = progress.add_task("trading engine: candles", total=None)

        def show(status: EngineStatus) -> None:
            look(status)
            progress.update(task, completed=status["candles_done"], total=status["candles_total"] or None)
            if status["state"] == "waiting":
                progress.console.print(f"the engine waits: {status['problem']}", markup=False)

        return follow(engine, show)


def _show_live(engine: ActorHandle[Any], look: Look = lambda _: None) -> EngineStatus:
    """Show what the engine does until it ends; a market may be closed for days."""
    console = new_console()
    if not console.is_terminal:
        lines = StateLines(console)
        return _follow_live(engine, look, lines)
    with Live(console=console, refresh_per_second=4) as screen:
        return _follow_live(engine, look, lambda status: screen.update(engine_view(status)))


def _follow_live(engine: ActorHandle[Any], look: Look, show: Look) -> EngineStatus:
    def both(status: EngineStatus) -> None:
        look(status)
        show(status)

    return follow(engine, both, patience_s=float("inf"))


def _check_feed(wanted: FeedSettings) -> None:
    """See that the feed, if one runs, brings what the engine needs.

    Raises:
        BadSetup: If it lacks a symbol, or brings other candles or into another store.
    """
    feed = find_feed(wanted.provider)
    if feed is None:
        return
    found = cast("FeedSettings", ray.get(feed.settings.remote()))
    lacking = [symbol for symbol in wanted.symbols if symbol not in found.symbols]
    if lacking or (found.timeframe, found.store) != (wanted.timeframe, wanted.store):
        needed = f"{', '.join(wanted.symbols)} {wanted.timeframe} into {wanted.store}"
        raise BadSetup(
            f"the feed of {wanted.provider} that runs brings {', '.join(found.symbols)} {found.timeframe} into {found.store}; "
            f"needed: {needed}; stop it with python -m jobs.stream --stop, or change the engine"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(TradeJob.parse(arguments)))


def _report(settings: TradeJob) -> int:
    console = new_console()
    engine = settings.settings()
    joins = "RAY_ADDRESS" in os.environ
    show = _show_replay if settings.mode == "replay" else _show_live
    with ray_session(num_cpus=4) as dashboard_url:
        found = find_engine(engine.account)
        if found is not None:
            _check_mode(engine.account, found, settings.mode)
            if engine.params is not None:
                console.print("the engine runs, and keeps the values that it was started with: --params counts at its next start")
            status = attach(engine.account, found, show)
        elif settings.mode == "replay":
            status = _replay(settings, *_with_params(engine, console), console, dashboard_url)
        else:
            setup = live_setup(_with_params(engine, console)[0], settings.mode)
            status = _trade(setup, engine, console, joins=joins)
    _summarise(engine, status, console)
    return 0


def _with_params(engine: TradeSettings, console: Console) -> tuple[TradeSettings, Parameters]:
    """Look up what `params` stands for, and say what will be traded."""
    engine, found = with_params(engine)
    for warning in found.warnings:
        console.print(warning, style="bold red", markup=False)
    for sentence in found.told:
        console.print(sentence, markup=False)
    return engine, found


def _replay(settings: TradeJob, engine: TradeSettings, found: Parameters, console: Console, dashboard_url: str) -> EngineStatus:
    """Replay with the service that runs, or with one deployed for the length of the replay; without LDM4TS with none."""

    def setup_with(model_version: str | None) -> ReplaySetup:
        setup = replay_setup(engine, model_version)
        for warning in found.seen(setup.start, setup.stop):
            console.print(warning, style="bold red", markup=False)
        return setup

    require_unused(engine.broker_file)
    if not engine.trading.use_ldm4ts:
        return replay(setup_with(None))
    if is_running(engine.application):
        return replay(setup_with(ServeForecasts(engine.application).describe(engine.timeframe).model_version))
    setup = setup_with(model_to_serve(engine).model_version)
    with served(
        settings.serve_config,
        args={"model_folder": str(model_folder(engine)), "timeframe": engine.timeframe},
        port=settings.port,
        dashboard_url=dashboard_url,
        timeout_s=_SERVE_TIMEOUT_S,
    ):
        return replay(setup)


def _trade(setup: LiveSetup, engine: TradeSettings, console: Console, *, joins: bool) -> EngineStatus:
    """Start the feed and the engine, and show what it does; on a cluster of others Ctrl-C leaves both running."""
    open_database(setup.database_url).dispose()
    if (setup.trading.use_ldm4ts or setup.trading.opponents) and not is_running(setup.application):
        console.print(
            f"no application {setup.application!r} forecasts on this cluster: nothing is opened before it does (serve run …)",
            markup=False,
        )
    feed = feed_settings(engine)
    _check_feed(feed)
    actor = start_engine(setup)
    if find_feed(feed.provider) is None:
        start_feed(feed)  # after the engine, which then misses none of a replay's candles
    try:
        return _show_live(actor)
    finally:
        if not joins:
            _take_down(actor)


def _summarise(engine: TradeSettings, status: EngineStatus, console: Console) -> None:
    ledger = SqlLedger(open_database(engine.database_url), engine_id=engine.account)
    equity = ledger.equity_curve()
    console.print(
        f"{status['state']} at {status['last_candle']}: {status['candles_done']} candles, {status['forecasts_missed']} forecasts "
        f"missed, {len(ledger.signals())} signals, {len(ledger.orders())} orders, {len(ledger.fills())} fills, "
        f"equity {equity[-1].equity if equity else '—'}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
