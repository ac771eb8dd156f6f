"""Bring live or replayed candles into the store and to subscribers: python -m jobs.stream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import ray
from pydantic import AwareDatetime, Field, ValidationError
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from actors.market_feed import ENDED, FeedSettings, find_feed, start_feed
from fxcast.adapters.feeds.live import LiveSettings
from fxcast.adapters.feeds.port import FeedState
from fxcast.adapters.feeds.vendors import VendorSettings, open_vendor
from fxcast.cluster.local import ray_session
from fxcast.config import JobSettings, explain
from fxcast.errors import BadSetting, BadSetup, MustStop
from fxcast.terminal import new_console
from jobs.entry import run

_ANSWER_TIMEOUT_S = 30.0  # of one look at the feed
_STOP_TIMEOUT_S = 60.0  # what was handed out is stored first
_PATIENCE_S = 300.0  # with a feed that does not answer: a restart takes half a minute on a slow machine
_NAMED = 5  # the latest candles of a list
_ROWS = {
    "connected_at": "connected since",
    "last_tick": "last tick",
    "lag_s": "lag, s",
    "clock_skew_s": "clock skew, s",
    "last_candle": "last candle closed",
    "candles_emitted": "candles",
    "candles_backfilled": "  of them backfilled",
    "gaps_backfilled": "gaps backfilled",
    "stored": "stored",
    "pending": "waiting for the store",
    "conflicting": "differ from stored ones",
    "late_ticks": "late ticks",
    "malformed": "refused messages",
    "closed_market_ticks": "ticks while closed",
    "lacking": "history lacks",
    "reconnects": "reconnects",
    "problem": "problem",
}

Status = dict[str, Any]


class StreamJob(JobSettings):
    """Bring candles of a vendor, or of another store as if they closed now, into the candle store and to subscribers.

    Run again it goes on after the last stored candle. Credentials come from the environment, FXCAST_OANDA_TOKEN and
    FXCAST_OANDA_ACCOUNT or FXCAST_TIINGO_TOKEN: of this command if it starts Ray itself, else of Ray's processes. Ctrl-C stops a
    feed that this command started, and leaves one that it is attached to.
    """

    provider: Literal["oanda", "tiingo", "replay"] = Field(default="replay", description="one feed each")
    symbols: tuple[str, ...] = Field(default=("EURUSD",), min_length=1, description="base then quote currency each")
    timeframe: str = Field(default="1m", description="length of a candle: 1m, 5m, 15m, 1h, 4h or 1d")
    store: str = Field(default="runs/store", description="root of the candle store that the candles go into")
    source: str | None = Field(default=None, description="replay: root of the candle store that is replayed")
    start: AwareDatetime | None = Field(default=None, description="replay: the first candle opens at or after it")
    until: AwareDatetime | None = Field(default=None, description="replay: candles that open at or after it are not replayed")
    speed: float | None = Field(default=None, gt=0, description="replay: times faster than the market; as fast as possible without")
    vendor: VendorSettings = Field(default=VendorSettings(), description="where the vendors are and how long they may take")
    live: LiveSettings = Field(default=LiveSettings(), description="how a live feed waits, and how patient it is")
    attach: bool = Field(default=False, description="follow the feed of this provider that runs already")
    stop: bool = Field(default=False, description="stop the feed of this provider that runs already, and end")

    def feed(self) -> FeedSettings:
        """Return the feed's settings, with absolute paths.

        Raises:
            BadSetting: If they do not go together.
        """
        given = {name: getattr(self, name) for name in FeedSettings.model_fields if hasattr(self, name)}
        try:
            return FeedSettings.model_validate({**given, "stop": self.until}).absolute()
        except ValidationError as error:
            raise BadSetting(explain(error, FeedSettings)) from None


def watch(
    look: Callable[[], Status], show: Callable[[Status], None], *, poll_s: float = 0.5, patience_s: float = _PATIENCE_S
) -> Status:
    """Look at a feed until it has finished or was stopped; a restart in between, or a slow answer, is waited out.

    Args:
        look: Asks the feed for its status.
        show: Is told each status.
        poll_s: Between two looks.
        patience_s: How long the feed may not answer.

    Raises:
        BadSetup: If the feed was refused (credentials, symbols, settings); says why.
        MustStop: If it failed or is gone, or did not answer for too long.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            status = look()
        except (ActorUnavailableError, GetTimeoutError):
            if time.monotonic() > deadline:
                raise MustStop(f"the feed did not answer for {patience_s:g} s; does the cluster have a CPU left for it?") from None
        except ActorDiedError:
            raise MustStop("the feed is gone; what it had stored is in the store: start it again to go on") from None
        else:
            deadline = time.monotonic() + patience_s
            show(status)
            if status["state"] == FeedState.REFUSED:
                raise BadSetup(status["problem"])
            if status["state"] == FeedState.FAILED:
                raise MustStop(f"the feed failed: {status['problem']}; its log on the cluster says where")
            if status["state"] in ENDED:
                return status
        time.sleep(poll_s)  # nothing announces what another process does: it is looked at again


def stream(settings: FeedSettings) -> Status:
    """Start a feed on the connected cluster, show it until it ends, and take it down whatever happens.

    Raises:
        BadSetup: If one of the provider runs already; or as `watch`.
        MustStop: As `watch`.
    """
    feed = start_feed(settings)
    try:
        return _follow(feed)
    except KeyboardInterrupt:
        _end(feed)
        raise
    finally:
        ray.kill(feed, no_restart=True)


def attach(provider: str) -> Status:
    """Show the feed of a provider that runs; one that has not ended is left alone, Ctrl-C or not.

    Raises:
        BadSetup: If none runs; or as `watch`.
        MustStop: As `watch`.
    """
    feed = _running(provider)
    new_console().print(f"attached to the feed of {provider}; Ctrl-C leaves it running")
    try:
        status = _follow(feed)
    except BadSetup:
        ray.kill(feed, no_restart=True)
        raise
    ray.kill(feed, no_restart=True)
    return status


def stop(provider: str) -> None:
    """Stop the feed of a provider that runs, after what it has handed out is stored, and take it down.

    Raises:
        BadSetup: If none runs.
    """
    feed = _running(provider)
    _end(feed)
    ray.kill(feed, no_restart=True)


def _end(feed: ActorHandle[Any]) -> None:
    try:
        ray.get(feed.stop.remote(), timeout=_STOP_TIMEOUT_S)
    except (ActorUnavailableError, ActorDiedError, GetTimeoutError):
        return  # what it could not store comes again with the next start


def _running(provider: str) -> ActorHandle[Any]:
    feed = find_feed(provider)
    if feed is None:
        address = ray.get_runtime_context().gcs_address
        raise BadSetup(
            f"no feed of {provider} runs on the cluster at {address}; start one without --attach and --stop, or set RAY_ADDRESS to "
            "its cluster"
        )
    return feed


def _follow(feed: ActorHandle[Any]) -> Status:
    def look() -> Status:
        return cast("Status", ray.get(feed.status.remote(), timeout=_ANSWER_TIMEOUT_S))

    console = new_console()
    if not console.is_terminal:
        return watch(look, StateLines(console))
    with Live(console=console, refresh_per_second=4) as screen:
        return watch(look, lambda status: screen.update(table(status)))


class StateLines:
    """Prints a line whenever a feed's state or problem is another than before, and one for each candle that its history lacks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ("", "")
        self._lacking: list[str] = []

    def __call__(self, status: Status) -> None:
        now = (status["state"], status["problem"])
        if now != self._last:
            self._last = now
            said = f"{status['provider']}: {status['state']}, {status['candles_emitted']:,} candles, {status['stored']:,} stored"
            self._console.print(said + (f": {status['problem']}" if status["problem"] else ""), markup=False)
        for candle in status["lacking"]:
            if candle not in self._lacking:
                self._console.print(f"{status['provider']}: history lacks {candle}, of which ticks were seen", markup=False)
        self._lacking = status["lacking"]


def table(status: Status) -> Table:
    """Return what a feed says of itself as a table; what it does not know is left out."""
    shown = Table(title=f"{status['provider']}: {status['state']}", show_header=False, title_justify="left")
    shown.add_row("symbols", " ".join(status["symbols"]))
    for name, title in _ROWS.items():
        value = status[name]
        if value not in (None, "", []):
            shown.add_row(title, _text(value))
    return shown


def _text(value: float | str | list[str]) -> str:
    match value:
        case float():
            return f"{value:,.3f}"
        case int():
            return f"{value:,}"
        case str():
            return value
        case _:
            before = [f"and {len(value) - _NAMED} before"] if len(value) > _NAMED else []
            return "\n".join([*value[-_NAMED:], *before])


@contextmanager
def _cluster(settings: StreamJob) -> Generator[None]:
    """Connect to Ray; for a feed that runs already that is its cluster, never a new one."""
    if settings.attach or settings.stop:
        os.environ.setdefault("RAY_ADDRESS", "auto")
    with ray_session(num_cpus=2):
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; 0 if a replay is through or the feed was stopped, 2 if it was refused."""
    return run(lambda: _report(StreamJob.parse(arguments)))


def _report(settings: StreamJob) -> int:
    console = new_console()
    if settings.stop:
        with _cluster(settings):
            stop(settings.provider)
        console.print(f"feed of {settings.provider} stopped; what it handed out is in the store")
        return 0
    if settings.attach:
        with _cluster(settings):
            status = attach(settings.provider)
    else:
        feed = settings.feed()
        if feed.provider != "replay" and "RAY_ADDRESS" not in os.environ:
            open_vendor(feed.provider, feed.vendor)  # the feed will have this environment: say at once what it lacks
        with _cluster(settings):
            status = stream(feed)
    console.print(
        f"{status['state']}: {status['candles_emitted']:,} candles, {status['stored']:,} stored, "
        f"{status['conflicting']:,} differ from stored ones, last closed at {status['last_candle'] or '—'}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
