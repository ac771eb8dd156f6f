"""Everything around a runner, put together from an engine's settings: here alone replay, paper and live differ."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import ray
import structlog
from ray.exceptions import ActorDiedError

from actors.checked_forecasts import CheckedForecasts
from actors.engine_settings import EngineSettings, LiveSetup, ReplaySetup, Setup
from actors.market_feed import find_feed
from actors.regime_fitting import TaskRegimeFitter
from actors.subscribed_feed import SubscribedFeed
from actors.subscription import subscribe
from fxcast.adapters.alerts import WebhookAlerts
from fxcast.adapters.brokers.ctrader import CTraderBroker
from fxcast.adapters.brokers.oanda import OandaBroker
from fxcast.adapters.brokers.paper import PaperBroker
from fxcast.adapters.clock import ReplayClock, SystemClock
from fxcast.adapters.feeds.port import FeedCandles
from fxcast.adapters.feeds.replay import ReplayFeed
from fxcast.adapters.storage.database import Database, open_database, show_url
from fxcast.adapters.storage.lease import HeldLease, acquire
from fxcast.adapters.storage.ledger import SqlLedger
from fxcast.adapters.storage.settings_versions import STARTED, SettingsVersions, Terms
from fxcast.data.store import CandleStore
from fxcast.domain.candle import CandleSeries, to_datetime, to_datetime64
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import BadSetting, BadSetup, DatabaseUnavailable, Disconnected, ReconciliationFailed, Refused
from fxcast.serving.client import ServeForecasts
from fxcast.signals.regime import RegimeModel
from fxcast.trading.engine import EngineConfig
from fxcast.trading.ports import Broker, Clock, Feed, MarketObserver, RegimeFitter
from fxcast.trading.regime_fitting import regimes_known_at
from fxcast.trading.runner import Runner
from fxcast.trading.source_list import wanted_timeframes
from fxcast.trading.state import EngineState

log = structlog.get_logger(__name__)

OpenPaper = Callable[[EngineSettings], PaperBroker]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """A runner and what its shell needs besides.

    Attributes:
        terms: The settings that are traded with.
        candles_done: Handled before this start.
        candles_total: Of the replay; 0 where there is no end.
        describe: What is traded, loud where it is real money.
        stop_feed: Ends the runner's candles.
        opened: Closes everything.
    """

    runner: Runner
    clock: Clock
    ledger: SqlLedger
    lease: HeldLease
    alerts: WebhookAlerts
    versions: SettingsVersions
    terms: Terms
    candles_done: int
    candles_total: int
    describe: str
    stop_feed: Callable[[], object]
    opened: ExitStack


def open_paper(setup: EngineSettings) -> PaperBroker:
    """Open the paper broker of an account."""
    return PaperBroker(setup.broker_file, setup.market)


class SettingsRefused(Exception):  # noqa: N818  # no error of its own: it says whose another one is
    """Settings that a person has set, and no engine has traded with yet, do not open; `__cause__` says why."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


def open_parts(setup: Setup, passed_over: Collection[int] = (), open_paper: OpenPaper = open_paper) -> EngineParts:
    """Open everything, the account's lease first, with the settings that are in force.

    Args:
        setup: What to trade, and where everything is.
        passed_over: Versions of the settings that did not open before.
        open_paper: Opens the paper broker.

    Raises:
        SettingsRefused: If what may be the fault of settings that a person has set keeps it from opening.
        AccountTaken: If another engine holds the account.
        BadSetup: If the surroundings are not as they must be.
        BadSetting: If the settings do not go together, or a source can't be loaded.
        ReconciliationFailed: If ledger and paper broker do not belong together.
        Unavailable: If the database or a broker does not answer.
    """
    with ExitStack() as opened:
        now = SystemClock().now()
        database = _database(setup.database_url)
        opened.callback(database.dispose)
        lease = acquire(database, setup.lease_account, _holder(), ttl_s=setup.lease_ttl_s, now=now)
        opened.callback(lease.release)
        ledger = SqlLedger(database, engine_id=setup.account, lease=lease)
        alerts = WebhookAlerts(setup.alerts, engine_id=setup.account)
        opened.callback(alerts.close)
        versions = SettingsVersions(database, setup.account)
        terms = versions.in_force(setup.trading, now, without=passed_over)
        opening = _Opening(
            ledger=ledger, lease=lease, alerts=alerts, versions=versions, terms=terms, opened=opened, open_paper=open_paper
        )
        try:
            return opening.with_terms(setup)
        except Refused as error:
            if may_be_refused(terms):
                raise SettingsRefused(terms.version) from error
            raise


def may_be_refused(terms: Terms) -> bool:
    """Tell whether an error may be the settings' fault: not of the engine's own, nor of any that it has traded with before."""
    return terms.by != STARTED and not terms.is_taken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """What both kinds of engine have in common, while the rest is put together."""

    ledger: SqlLedger
    lease: HeldLease
    alerts: WebhookAlerts
    versions: SettingsVersions
    terms: Terms
    opened: ExitStack
    open_paper: OpenPaper

    def with_terms(self, setup: Setup) -> EngineParts:
        """Put the rest together for the settings that are in force."""
        changed = setup.model_copy(update={"trading": self.terms.trading})
        return self.replay(changed) if isinstance(changed, ReplaySetup) else self.live(changed)

    def replay(self, setup: ReplaySetup) -> EngineParts:
        periods = setup.candles()
        clock = self._replay_clock(setup.start)
        broker = self.open_paper(setup)
        self.opened.callback(broker.close)
        instruments = broker.instruments(setup.followed)
        config = EngineConfig(trading=setup.trading, instruments=instruments, symbols=setup.symbols)
        feed = ReplayFeed(
            [series for series, _, _ in periods.values()],
            start=setup.start,
            stop=setup.stop,
            clock=clock,
            timeframes=wanted_timeframes(config.sources),
        )
        saved = self._saved()
        if broker.book.sequence < saved.transaction_sequence:  # the runner would wait for fills it believes to have had
            problem = (
                f"the ledger has taken in {saved.transaction_sequence} transactions, and the broker made {broker.book.sequence}"
            )
            raise ReconciliationFailed(problem)
        if broker.book.sequence and self.ledger.load_state() is None:
            raise ReconciliationFailed(
                f"the ledger knows nothing of the account, and the broker made {broker.book.sequence} transactions"
            )
        models: dict[str, RegimeModel] = {}
        for symbol, (series, start, _) in periods.items():
            model = regimes_known_at(series, to_datetime(series.close_times[start - 1])) if start else None
            if model is not None:
                models[symbol] = model
        fitter = TaskRegimeFitter(setup.store, setup.timeframe, waits=True)
        runner = self._runner(setup, config, feed, broker, clock, [broker], fitter, models)
        return self._parts(
            runner,
            clock,
            describe=f"paper account {setup.account}, replaying {', '.join(setup.symbols)} {setup.timeframe}",
            candles_done=sum(_done(setup, symbol, series, start, saved) for symbol, (series, start, _) in periods.items()),
            candles_total=sum(end - start for _, start, end in periods.values()),
            stop_feed=lambda: None,
        )

    def live(self, setup: LiveSetup) -> EngineParts:
        clock: Clock = self._replay_clock(_long_ago()) if setup.provider == "replay" else SystemClock()
        broker, observers, describe = self._broker(setup)
        instruments = broker.instruments(setup.followed)
        config = EngineConfig(trading=setup.trading, instruments=instruments, symbols=setup.symbols)
        timeframe = Timeframe(setup.timeframe)
        feed = SubscribedFeed(
            lambda after: _published(setup.provider, after),
            CandleStore(setup.store),
            setup.followed,
            timeframe,
            timeframes=wanted_timeframes(config.sources),
            begin=setup.begin,
            poll_s=setup.poll_s,
            advance=clock.advance_to if isinstance(clock, ReplayClock) else lambda _: None,
            lost=self._tell_of_lost_feed,
        )
        self.opened.callback(feed.stop)  # also where the engine fails
        fitter = TaskRegimeFitter(setup.store, setup.timeframe, waits=False)
        runner = self._runner(setup, config, feed, broker, clock, observers, fitter, {})
        return self._parts(runner, clock, describe=describe, candles_done=0, candles_total=0, stop_feed=feed.stop)

    def _broker(self, setup: LiveSetup) -> tuple[Broker, Sequence[MarketObserver], str]:
        match setup.broker:
            case "paper":
                paper = self.open_paper(setup)
                self.opened.callback(paper.close)
                return paper, [paper], f"paper account {setup.account}: no real money"
            case "oanda":
                oanda = OandaBroker(setup.oanda, setup.followed)
                self.opened.callback(oanda.close)
                return oanda, [], oanda.describe()
            case "ctrader":
                ctrader = CTraderBroker(setup.ctrader, setup.followed, SystemClock())
                self.opened.callback(ctrader.close)
                return ctrader, [], ctrader.describe()

    def _runner(
        self,
        setup: EngineSettings,
        config: EngineConfig,
        feed: Feed,
        broker: Broker,
        clock: Clock,
        observers: Sequence[MarketObserver],
        regimes: RegimeFitter,
        models: Mapping[str, RegimeModel],
    ) -> Runner:
        asked = setup.trading.use_ldm4ts or setup.trading.opponents
        forecasts = CheckedForecasts(ServeForecasts(setup.application), setup.trading, timeframe=setup.timeframe) if asked else None
        return Runner(
            config,
            feed=feed,
            broker=broker,
            ledger=self.ledger,
            clock=clock,
            forecasts=forecasts,
            observers=observers,
            regime_models=models,
            regimes=regimes,
            alerts=self.alerts,
        )

    def _parts(
        self,
        runner: Runner,
        clock: Clock,
        *,
        describe: str,
        candles_done: int,
        candles_total: int,
        stop_feed: Callable[[], object],
    ) -> EngineParts:
        return EngineParts(
            runner=runner,
            clock=clock,
            ledger=self.ledger,
            lease=self.lease,
            alerts=self.alerts,
            versions=self.versions,
            terms=self.terms,
            candles_done=candles_done,
            candles_total=candles_total,
            describe=describe,
            stop_feed=stop_feed,
            opened=self.opened.pop_all(),
        )

    def _replay_clock(self, start: datetime) -> ReplayClock:
        """Return a clock that stands where the engine stopped: risk events that it finds at a restart are of that time."""
        return ReplayClock(max([start, *self._saved().cursors.values()]))

    def _saved(self) -> EngineState:
        return self.ledger.load_state() or EngineState()

    def _tell_of_lost_feed(self, problem: str) -> None:
        self.alerts.send("disconnect", f"no candles: {problem}", SystemClock().now())


def apart(setup: ReplaySetup, problem: str) -> str:
    """Say that the ledger and the paper broker's file tell different stories."""
    return (
        f"ReconciliationFailed: the ledger {show_url(setup.database_url)} of account {setup.account!r} and the paper broker's "
        f"file {setup.broker_file} do not belong together: {problem}; set engine.broker_file to the file that this account was "
        "traded with, or begin anew with another engine.account and its own file"
    )


def _database(url: str) -> Database:
    """Open the ledger's database; who started this engine has made sure of its schema, so that what is wrong now will pass."""
    try:
        return open_database(url)
    except BadSetup as error:
        raise DatabaseUnavailable(str(error)) from None


def _holder() -> str:
    """Return the name under which this engine holds its account: an actor that is restarted keeps it."""
    actor = ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None
    return f"actor {actor}" if actor else f"process {uuid.uuid4().hex}"


def _published(provider: str, after: Mapping[str, datetime]) -> Iterator[FeedCandles]:
    feed = find_feed(provider)
    if feed is None:
        raise Disconnected(f"no feed of {provider} runs: start one with python -m jobs.stream --provider {provider}")
    try:
        yield from subscribe(feed, after=after)
    except ActorDiedError as error:
        raise Disconnected(f"the feed of {provider} is gone") from error


def _long_ago() -> datetime:
    return SystemClock().now() - timedelta(days=365 * 100)


def _done(setup: ReplaySetup, symbol: str, series: CandleSeries, start: int, saved: EngineState) -> int:
    """Return how many candles of the replay were handled before.

    Raises:
        BadSetting: If candles between the last one handled and the first one to come would be left out.
    """
    handled = saved.cursors.get(symbol)
    if handled is None:
        return 0
    done = int(np.searchsorted(series.close_times, to_datetime64(handled), side="right")) - start
    if done < 0:
        raise BadSetting(
            f"engine.start: found {setup.start.isoformat()}; account {setup.account!r} has traded up to {handled.isoformat()}, and "
            f"{-done} candles of {symbol} in between would be left out, with what they do to its orders and stops; go on "
            "with an earlier start, or begin anew with another engine.account"
        )
    return done
