"""Find, watch and call an engine that runs on the cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayTaskError

from actors.engine_status import EngineStatus
from actors.trading_engine import ENDED, find_engine
from fxcast.cluster.local import ray_session
from fxcast.errors import BadSetup, FxcastError, MustStop

_ANSWER_TIMEOUT_S = 30.0  # of one look at the engine
PATIENCE_S = 300.0  # candles take seconds, a restart of the engine half a minute on a slow machine
_CALL_TIMEOUT_S = 120.0  # stop and the kill switch wait for the candle in hand, which waits for its forecast


def watch(
    look: Callable[[], EngineStatus],
    progress: Callable[[EngineStatus], None],
    *,
    poll_s: float = 0.5,
    patience_s: float = PATIENCE_S,
) -> EngineStatus:
    """Look at an engine until it has finished or stopped; a restart in between, or a slow answer, is waited out.

    Args:
        look: Asks the engine for its status.
        progress: Is told each status.
        poll_s: Between two looks.
        patience_s: How long the status may stay the same; infinite where the market may be closed.

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
            raise MustStop(gone(error)) from None
        if status is not None and status != last:
            deadline, last = time.monotonic() + patience_s, status
            progress(status)
            if status["state"] == "failed":
                raise (BadSetup if status["refused"] else MustStop)(f"the engine failed: {status['problem']}")
            if status["state"] in ENDED:
                return status
        if time.monotonic() > deadline:
            raise MustStop(_stuck(last, patience_s))
        time.sleep(poll_s)  # an actor can't call this process back: it is asked again


def follow(
    engine: ActorHandle[Any],
    progress: Callable[[EngineStatus], None],
    *,
    poll_s: float = 0.5,
    patience_s: float = PATIENCE_S,
) -> EngineStatus:
    """Wait until an engine has finished or stopped; see `watch`."""
    return watch(lambda: status_of(engine), progress, poll_s=poll_s, patience_s=patience_s)


def status_of(engine: ActorHandle[Any]) -> EngineStatus:
    """Ask an engine for its status; raises what Ray raises."""
    return cast("EngineStatus", ray.get(engine.status.remote(), timeout=_ANSWER_TIMEOUT_S))


def running(account: str) -> ActorHandle[Any]:
    """Return the engine that runs for an account.

    Raises:
        BadSetup: If none runs.
    """
    engine = find_engine(account)
    if engine is None:
        raise BadSetup(
            f"no engine runs for account {account!r} on the cluster at {cluster_address()}; start one with python -m jobs.trade, "
            "or set RAY_ADDRESS to its cluster"
        )
    return engine


def stop(account: str) -> None:
    """Stop the engine that runs for an account, after the candle in hand, and take it down.

    Raises:
        BadSetup: If no engine runs.
        MustStop: If the engine does not answer.
    """
    engine = running(account)
    call(engine.stop.remote())
    ray.kill(engine, no_restart=True)


def call(answer: ObjectRef[Any]) -> object:
    """Wait for an engine's answer and return it; what fxcast raised there is raised here.

    Raises:
        MustStop: If the engine does not answer.
    """
    try:
        return ray.get(answer, timeout=_CALL_TIMEOUT_S)
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
        raise MustStop(gone(error)) from None


def gone(error: ActorDiedError) -> str:
    """Say that an engine is gone, and what to do."""
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


def cluster_address() -> str:
    """Return the address of the cluster that this process is connected to."""
    return str(ray.get_runtime_context().gcs_address)


@contextmanager
def running_cluster() -> Generator[None]:
    """Connect to the cluster of RAY_ADDRESS, or to the one that runs on this machine; never start one.

    Raises:
        BadSetup: If none runs.
    """
    os.environ.setdefault("RAY_ADDRESS", "auto")
    with ray_session():
        yield
