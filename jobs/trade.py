"""Run the trading engine: python -m jobs.trade --config configs/trade.yaml."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import ray
from pydantic import Field
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError
from rich.console import Console

from actors.trading_engine import EngineStatus, ReplaySetup, find_engine, start_engine
from fxcast.adapters.storage.database import open_database
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.cluster.local import REPOSITORY, ray_session
from fxcast.cluster.serve_driver import is_running, served
from fxcast.config import JobSettings
from fxcast.errors import BadSetup, MustStop
from fxcast.progress import progress_bar
from jobs.entry import run

_SERVE_TIMEOUT_S = 120.0


class TradeJob(JobSettings):
    """Replay candles of the store through the trading engine and the paper broker.

    It uses the forecast service of the cluster, or deploys it for its own length. Run again with the same account, an engine
    goes on where it stopped.
    """

    engine: ReplaySetup = Field(description="what to trade, when and how")
    attach: bool = Field(default=False, description="follow the engine of this account that runs already")
    stop: bool = Field(default=False, description="stop the engine of this account that runs already, and end")
    serve_config: Path = Field(default=REPOSITORY / "serve_configs" / "local.yaml", description="deployed if no service runs")
    port: int = Field(default=8000, ge=1, le=65535, description="HTTP port of that service")


def follow(engine: ActorHandle[Any], progress: Callable[[EngineStatus], None], *, poll_s: float = 0.5) -> EngineStatus:
    """Wait until an engine has finished or stopped; a restart in between is waited out.

    Raises:
        MustStop: If the engine failed; says why.
    """
    while True:
        try:
            status = cast("EngineStatus", ray.get(engine.status.remote(), timeout=30))
        except ActorUnavailableError:
            time.sleep(poll_s)  # Ray is restarting it
            continue
        progress(status)
        if status["state"] == "failed":
            raise MustStop(f"the engine failed: {status['problem']}")
        if status["state"] in {"finished", "stopped"}:
            return status
        time.sleep(poll_s)  # between looks at another process


def replay(setup: ReplaySetup, *, attach: bool = False) -> EngineStatus:
    """Start an engine on the connected cluster, show its progress until it ends, and take it down.

    Raises:
        BadSetup: If one runs already and `attach` is false, or none does and it is true.
        MustStop: If it failed.
    """
    open_database(setup.database_url).dispose()  # refuses an outdated schema here, before anything is started
    engine = find_engine(setup.account) if attach else start_engine(setup)
    if engine is None:
        raise BadSetup(f"no engine runs for account {setup.account!r}; start one without --attach")
    try:
        with progress_bar() as progress:
            task = progress.add_task("trading engine: candles", total=None)
            return follow(
                engine,
                lambda status: progress.update(task, completed=status["candles_done"], total=status["candles_total"] or None),
            )
    finally:
        ray.kill(engine, no_restart=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _report(TradeJob.parse(arguments)))


def _report(settings: TradeJob) -> int:
    console = Console(highlight=False)
    setup = settings.engine.absolute()
    with ray_session(num_cpus=4) as dashboard_url:
        if settings.stop:
            engine = find_engine(setup.account)
            if engine is None:
                raise BadSetup(f"no engine runs for account {setup.account!r}")
            ray.get(engine.stop.remote())
            ray.kill(engine, no_restart=True)
            console.print(f"engine of account {setup.account!r} stopped; what is open stays open, protected at the broker")
            return 0
        needs_service = setup.trading.use_ldm4ts and not settings.attach and not is_running(setup.application)
        service = (
            served(
                settings.serve_config,
                args={"database_url": setup.database_url, "symbol": setup.symbol, "timeframe": setup.timeframe},
                port=settings.port,
                dashboard_url=dashboard_url,
                timeout_s=_SERVE_TIMEOUT_S,
            )
            if needs_service
            else nullcontext()
        )
        with service:
            status = replay(setup, attach=settings.attach)
    ledger = SqlLedger(open_database(setup.database_url), engine_id=setup.account)
    equity = ledger.equity_curve()
    console.print(
        f"{status['state']} at {status['last_candle']}: {status['candles_done']} candles, {len(ledger.signals())} signals, "
        f"{len(ledger.orders())} orders, {len(ledger.fills())} fills, equity {equity[-1].equity if equity else '—'}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
