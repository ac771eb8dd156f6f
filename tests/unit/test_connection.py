"""When a live feed trusts quotes, when it asks for the past, and when it waits; in simulated time, without sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from fxcast.adapters.feeds.live import LiveFeed, LiveSettings
from fxcast.adapters.feeds.port import CandleFeed, FeedState, Heartbeat
from fxcast.domain.tick import Tick
from fxcast.domain.timeframe import Timeframe
from fxcast.errors import Disconnected
from tests.factories import NOON
from tests.vendors.following import SimulatedClock
from tests.vendors.quoting import Collector, QuotingVendor, Step, run_until

MINUTE = timedelta(minutes=1)
FRIDAY = datetime(2017, 3, 10, 22, tzinfo=UTC)  # the week closes; New York's clock changes before it opens
SUNDAY = datetime(2017, 3, 12, 21, tzinfo=UTC)


def eur(seconds: float, bid: float = 1.1, ask: float = 1.2, *, start: datetime = NOON) -> Tick:
    return Tick("EURUSD", start + timedelta(seconds=seconds), bid, ask)


def jpy(seconds: float) -> Tick:
    return Tick("USDJPY", NOON + timedelta(seconds=seconds), 110.0, 110.1)


def minutes(*numbers: int) -> list[datetime]:
    return [NOON + number * MINUTE for number in numbers]


class Scene:
    """A vendor, a clock and a feed of both symbols."""

    def __init__(
        self,
        *connections: Sequence[Step],
        past: dict[str, list[datetime]] | None = None,
        refusals: dict[str, list[Exception]] | None = None,
        now: datetime = NOON,
        moves: bool = False,
        settings: LiveSettings | None = None,
        last: Callable[[str], datetime | None] = lambda _: NOON,
        failures: Sequence[Exception] = (),
    ) -> None:
        self.clock = SimulatedClock(now, moves=moves)
        self.vendor = QuotingVendor(connections, past, refusals)
        self.emit = Collector(failures)
        self.feed: CandleFeed = LiveFeed(
            self.vendor,
            ("EURUSD", "USDJPY"),
            Timeframe("1m"),
            last,
            clock=self.clock,
            settings=LiveSettings(settle_s=0) if settings is None else settings,
            sleep=self.clock.sleep,
        )

    @property
    def state(self) -> FeedState:
        return self.feed.status().state

    def origins(self, symbol: str = "EURUSD") -> list[tuple[str, str]]:
        return self.emit.origins(symbol)

    def run_until(self, is_enough: Callable[[], bool]) -> None:
        run_until(self.feed, self.emit, is_enough)

    def run_until_handed_out(self, count: int, symbol: str = "EURUSD") -> list[tuple[str, str]]:
        self.run_until(lambda: len(self.origins(symbol)) >= count)
        return self.origins(symbol)


def test_the_candle_under_way_on_connecting_comes_from_history() -> None:
    scene = Scene([eur(30), eur(61), eur(125)], past={"EURUSD": minutes(0, 1, 2)})
    assert scene.run_until_handed_out(2) == [("12:00", "backfill"), ("12:01", "live")]


def test_so_does_each_symbol_s_candle_of_its_first_quote() -> None:
    # On connecting at 12:02:10 the vendor repeats the latest quotes: the euro's is old, but the yen had others at 12:02.
    quotes = [eur(5), jpy(129), eur(131), jpy(190), eur(191), jpy(250), eur(251)]
    scene = Scene(quotes, past={"EURUSD": minutes(0, 2), "USDJPY": minutes(0, 1, 2)})
    assert scene.run_until_handed_out(4, "USDJPY") == [
        ("12:00", "backfill"),
        ("12:01", "backfill"),
        ("12:02", "backfill"),
        ("12:03", "live"),
    ]


def test_a_candle_that_is_stored_already_does_not_come_again() -> None:
    scene = Scene([eur(30), eur(61), eur(125), eur(185)], past={"EURUSD": minutes(0)}, last=lambda _: NOON + 2 * MINUTE)
    assert scene.run_until_handed_out(1) == [("12:02", "live")]


def test_what_closed_before_does_not_wait_for_the_candle_under_way() -> None:
    scene = Scene([eur(190)], past={"EURUSD": minutes(0, 1, 2)})
    assert scene.run_until_handed_out(3) == [("12:00", "backfill"), ("12:01", "backfill"), ("12:02", "backfill")]
    assert scene.state is FeedState.STOPPED


def test_a_candle_waits_for_the_allowance() -> None:
    seen: list[int] = []
    scene = Scene([eur(30), eur(61), eur(121.9), lambda: seen.append(len(scene.origins())), eur(122)], past={"EURUSD": minutes(0)})
    scene.run_until_handed_out(2)
    assert seen == [1]


def test_a_heartbeat_with_a_time_closes_a_candle() -> None:
    scene = Scene([eur(30), eur(61), Heartbeat(time=NOON + timedelta(seconds=122))], past={"EURUSD": minutes(0)})
    assert scene.run_until_handed_out(2)[-1] == ("12:01", "live")


def test_a_heartbeat_without_a_time_closes_a_candle_by_our_clock_less_the_slowest_quote() -> None:
    clock_at: list[datetime] = []

    def pass_seconds(seconds: float) -> Callable[[], None]:
        return lambda: scene.clock.advance(timedelta(seconds=seconds))

    def look() -> None:
        if len(scene.origins()) == 2:
            clock_at.append(scene.clock.now())

    beats = [step for _ in range(60) for step in (pass_seconds(1), Heartbeat(time=None), look)]
    quotes = [eur(30), pass_seconds(33), eur(63), pass_seconds(3), eur(63.5), *beats]
    scene = Scene(quotes, past={"EURUSD": minutes(0)}, now=NOON + timedelta(seconds=30))
    scene.run_until(lambda: bool(clock_at))
    # The slowest quote took 2.5 s, the allowance is 2 s.
    assert clock_at[0] == NOON + timedelta(seconds=125)


@pytest.mark.parametrize("skew", [timedelta(hours=-3), timedelta(0), timedelta(hours=3)])
def test_a_clock_that_is_wrong_changes_no_candle(skew: timedelta) -> None:
    def arrive(second: float) -> Callable[[], None]:
        return lambda: scene.clock.advance(NOON + timedelta(seconds=second) + skew - scene.clock.now())

    steps: list[Step] = [arrive(30.1), eur(30), arrive(61.1), eur(61), arrive(70.3), eur(70), Heartbeat(time=None)]
    steps += [arrive(122.4), eur(122)]
    scene = Scene(steps, past={"EURUSD": minutes(0)}, now=NOON + skew)
    assert scene.run_until_handed_out(2) == [("12:00", "backfill"), ("12:01", "live")]
    status = scene.feed.status()
    assert status.clock_skew_s == pytest.approx(skew.total_seconds() + 0.1)
    assert status.lag_s == pytest.approx(0.3)


def test_history_that_lacks_a_candle_for_ever_leaves_a_gap_in_the_end() -> None:
    scene = Scene([eur(30), eur(61), eur(125)], settings=LiveSettings(settle_s=0, lacking_tries=3))
    assert scene.run_until_handed_out(1) == [("12:01", "live")]
    assert [asked for asked in scene.vendor.asked if asked[0] == "EURUSD"] == [("EURUSD", NOON, NOON + MINUTE)] * 4


def test_a_symbol_without_history_holds_no_other_up() -> None:
    refusals: dict[str, list[Exception]] = {"EURUSD": [Disconnected("no answer") for _ in range(10_000)]}
    past = {"EURUSD": minutes(0), "USDJPY": minutes(0)}
    scene = Scene([jpy(29), eur(30), jpy(61), eur(62), jpy(125)], past=past, refusals=refusals)
    shown: list[tuple[FeedState, str]] = []

    def is_enough() -> bool:
        shown.append((scene.state, scene.feed.status().problem))
        return len(scene.origins("USDJPY")) == 2

    scene.run_until(is_enough)
    assert scene.origins("USDJPY") == [("12:00", "backfill"), ("12:01", "live")]
    assert scene.origins("EURUSD") == []
    assert shown[-1] == (FeedState.BACKFILLING, "no answer")


def test_candles_that_nobody_took_are_handed_out_again() -> None:
    quotes = [eur(30), eur(61), eur(125)]
    scene = Scene(quotes, [eur(190), eur(245)], past={"EURUSD": minutes(0, 1, 2, 3)}, failures=[Disconnected("the store is away")])
    assert [time for time, _ in scene.run_until_handed_out(4)] == ["12:00", "12:01", "12:02", "12:03"]
    assert scene.vendor.connects == 2


def test_quotes_that_are_no_prices_end_a_connection() -> None:
    crossed = [eur(31, 1.2, 1.1)] * 20
    scene = Scene([eur(30), *crossed], [eur(63)], past={"EURUSD": minutes(0)})
    scene.run_until_handed_out(1)
    status = scene.feed.status()
    assert (scene.vendor.connects, status.malformed, status.reconnects) == (2, 20, 1)


def test_a_quote_of_a_wrong_date_closes_no_candle() -> None:
    scene = Scene([eur(30), eur(61), eur(62 + 10 * 365 * 86_400), eur(63), eur(125)], past={"EURUSD": minutes(0)})
    assert scene.run_until_handed_out(2) == [("12:00", "backfill"), ("12:01", "live")]
    assert scene.emit.parts[-1].data.detail("tick_volume").tolist() == [2]
    assert scene.feed.status().malformed == 1


def test_a_connection_that_was_steady_ends_the_growing_of_pauses() -> None:
    lost: list[list[Step]] = [[eur(number)] for number in range(6)]
    scene = Scene(*lost, settings=LiveSettings(steady_s=0, settle_s=0))
    scene.run_until(lambda: scene.vendor.connects == 6)
    pauses = [seconds for seconds in scene.clock.slept_s if seconds > 0]
    assert len(pauses) == 5
    assert max(pauses) <= 1.0


def test_a_feed_that_is_lost_at_the_weekend_connects_shortly_before_the_week_opens() -> None:
    scene = Scene([eur(-20, start=FRIDAY)], [], now=FRIDAY, moves=True)
    scene.run_until(lambda: scene.vendor.connects == 2)
    assert SUNDAY - 5 * MINUTE <= scene.clock.now() < SUNDAY
    assert scene.vendor.connects == 2


def test_a_feed_that_starts_at_the_weekend_sleeps_first() -> None:
    scene = Scene([], now=FRIDAY + timedelta(hours=20), moves=False)
    scene.run_until(lambda: len(scene.clock.slept_s) > 3)
    assert scene.vendor.connects == 0
    scene = Scene([], now=FRIDAY + timedelta(hours=20), moves=True)
    scene.run_until(lambda: scene.vendor.connects == 1)
    assert SUNDAY - 5 * MINUTE <= scene.clock.now() < SUNDAY


def test_a_feed_that_sleeps_says_so() -> None:
    scene = Scene([], now=FRIDAY)
    scene.run_until(lambda: scene.state is FeedState.MARKET_CLOSED)
    assert scene.vendor.connects == 0


def test_a_vendor_that_is_away_before_the_week_opens_meets_growing_pauses() -> None:
    away: list[list[Step]] = [[Disconnected("not yet")] for _ in range(8)]
    scene = Scene(*away, [], now=SUNDAY - 5 * MINUTE, moves=True)
    scene.run_until(lambda: scene.vendor.connects == 8)
    assert scene.clock.slept_s[-1] > 30


def test_a_bug_is_no_outage() -> None:
    scene = Scene([eur(30), eur(62)], past={"EURUSD": minutes(0)}, failures=[ZeroDivisionError("a bug")])
    with pytest.raises(ZeroDivisionError):
        scene.run_until_handed_out(1)
    assert scene.state is FeedState.FAILED


def test_the_status_is_plain_json() -> None:
    scene = Scene([eur(30), eur(61), eur(125), jpy(125)], past={"EURUSD": minutes(0), "USDJPY": minutes(0, 1)})
    scene.run_until(lambda: len(scene.origins("EURUSD")) == 2 and len(scene.origins("USDJPY")) == 2)
    status = scene.feed.status().to_dict()
    assert json.loads(json.dumps(status))["last_tick"] == "2017-03-07T12:02:05+00:00"
    assert (status["ticks"], status["candles_emitted"], status["candles_backfilled"]) == (4, 4, 3)
    assert status["last_candle"] == "2017-03-07T12:02:00+00:00"
