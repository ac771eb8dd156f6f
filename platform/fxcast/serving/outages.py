"""Tell a service that is not there from one that is wrong: the first is to be asked again, the second is our bug."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException, ReplicaUnavailableError

from fxcast.errors import ForecastUnavailable, Refused, Unavailable

_OUTAGES = (RayError, RayServeException, TimeoutError, ConnectionError, Unavailable)


@contextmanager
def outages(asked: str) -> Generator[None]:
    """Turn what Ray raises for a service that is not there into one error.

    A dead replica or node, a full queue, a time-out and a lost connection are outages. What the service itself raised is not:
    it arrives as a RayTaskError, and passes unless its cause is one of these.

    Args:
        asked: What was asked for; starts the message.

    Raises:
        ForecastUnavailable: Instead of an outage.
    """
    try:
        yield
    except Refused:
        raise
    except RayTaskError as error:
        cause = cause_of(error)
        # A cause that does not pickle arrives as a plain RayError.
        if not isinstance(cause, _OUTAGES) or type(cause) is RayError:
            raise
        raise _named(cause, asked) from error
    except ForecastUnavailable:
        raise
    except _OUTAGES as error:
        raise ForecastUnavailable(f"{asked}: {_words(error)}") from error


def _named(cause: Exception, asked: str) -> ForecastUnavailable:
    kind = type(cause) if isinstance(cause, ForecastUnavailable) else ForecastUnavailable
    return kind(f"{asked}: {_words(cause)}")


def cause_of(error: Exception) -> Exception:
    """Return what a replica raised, as it raised it: the text of what arrives is the replica's traceback."""
    cause = error
    while isinstance(cause, RayTaskError):
        cause = cause.cause
    return cause


def _words(error: Exception) -> str:
    match error:
        case BackPressureError():
            return "the queue is full"
        case TimeoutError():
            return "no answer in time"
        case RayActorError() | ReplicaUnavailableError():
            return "the replica that held the request died"
        case _:
            return (str(error) or type(error).__name__).splitlines()[0]
