"""See what an engine does, throw its kill switch, stop it: python -m jobs.control --account paper."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence

from pydantic import Field
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError
from rich.console import Console

from actors.trading_engine import find_engine
from fxcast.adapters.clock import SystemClock
from fxcast.adapters.storage.controls import request_kill_switch
from fxcast.adapters.storage.database import open_database
from fxcast.config import JobSettings
from fxcast.errors import BadSetting, BadSetup, DatabaseUnavailable, FxcastError, MustStop
from fxcast.terminal import new_console
from fxcast.trading.state import KillSwitch
from jobs.engine_calls import call, running, running_cluster, status_of, stop
from jobs.engine_view import engine_view
from jobs.entry import run


class ControlJob(JobSettings):
    """Show the engine of an account, throw its kill switch, or stop it.

    The kill switch is asked for in the database, where the engine finds it before it does anything else, and at once if it runs;
    so it can be thrown while the engine, its cluster or the database is away, as long as one of engine and database answers.
    """

    account: str = Field(default="paper", description="the engine's account")
    database_url: str = Field(default="sqlite:///runs/fxcast.db", repr=False, description="the ledger (FXCAST_DATABASE_URL)")
    kill_switch: KillSwitch | None = Field(
        default=None,
        description="active trades, reducing closes but does not open, halted sends nothing (stops stay at the broker)",
    )
    by: str | None = Field(default=None, description="who throws it; by default the user of this machine")
    reason: str = Field(default="", description="why; kept with the request")
    stop: bool = Field(default=False, description="stop the engine after the candle in hand; what is open stays open, protected")
    as_json: bool = Field(default=False, alias="json", description="the status as JSON")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job."""
    return run(lambda: _control(ControlJob.parse(arguments)))


def _control(settings: ControlJob) -> int:
    console = new_console()
    if settings.stop and settings.kill_switch is not None:
        raise BadSetting("--stop and --kill-switch: found both; allowed: one at a time")
    if settings.kill_switch is not None:
        return _throw(settings, settings.kill_switch, console)
    with running_cluster():
        if settings.stop:
            stop(settings.account)
            console.print(f"engine of account {settings.account!r} stopped; what is open stays open, protected at the broker")
            return 0
        try:
            status = status_of(running(settings.account))
        except (ActorUnavailableError, GetTimeoutError, ActorDiedError) as error:
            raise MustStop(f"the engine of account {settings.account!r} does not answer: {type(error).__name__}") from None
        if settings.as_json:
            print(json.dumps(status, indent=2))
        else:
            console.print(engine_view(status))
    return 0


def _throw(settings: ControlJob, kill_switch: KillSwitch, console: Console) -> int:
    """Ask in the database and at the engine; one of the two is enough."""
    by = settings.by or getpass.getuser()
    account, value = settings.account, kill_switch.value
    database_problem = _ask_database(settings, kill_switch, by)
    engine_problem = _tell_engine(settings, kill_switch, by, in_database=not database_problem)
    if database_problem and engine_problem:
        raise MustStop(f"the kill switch of account {account!r} was NOT thrown: {database_problem}; {engine_problem}")
    console.print(f"kill switch of account {account!r}: {value}, by {by}")
    if database_problem:
        console.print(f"the engine has it, and the database not: {database_problem}")
    if engine_problem:
        console.print(f"it counts as soon as the engine looks into the database: {engine_problem}")
    return 0


def _ask_database(settings: ControlJob, kill_switch: KillSwitch, by: str) -> str:
    """Leave the request in the database; say what was wrong, empty if nothing was."""
    try:
        database = open_database(settings.database_url)
        try:
            request_kill_switch(database, settings.account, kill_switch, by, settings.reason, SystemClock().now())
        finally:
            database.dispose()
    except (BadSetup, DatabaseUnavailable) as error:
        return str(error)
    return ""


def _tell_engine(settings: ControlJob, kill_switch: KillSwitch, by: str, *, in_database: bool) -> str:
    """Have the engine look, or tell it where the database could not be told; say what was wrong, empty if nothing was."""
    try:
        with running_cluster():
            engine = find_engine(settings.account)
            if engine is None:
                return f"no engine runs for account {settings.account!r}"
            call(engine.look.remote() if in_database else engine.set_kill_switch.remote(kill_switch.value, by, settings.reason))
    except FxcastError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
