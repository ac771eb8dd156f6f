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
from fxcast.errors import BadCandles, Disconnected
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


def beat(seconds: float) -> Heartbeat:
    return Heartbeat(time=NOON + timedelta(seconds=seconds))


def minutes(*numbers: int) -> list[datetime]:
    return [NOON + number * MINUTE for number in numbers]


class Scene:
    """A vendor, a clock and a feed of both symbols.

    The clock keeps up with the quotes where it is up to two minutes behind, as if each came at its own time.
    """

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
        self.vendor = QuotingVendor([self._in_time(steps) for steps in connections], past, refusals)
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

    def _in_time(self, steps: Sequence[Step]) -> list[Step]:
        def keep_up(time: datetime) -> Callable[[], None]:
            def move() -> None:
                behind = time - self.clock.now()
                if timedelta(0) < behind <= 2 * MINUTE:
                    self.clock.advance(behind)

            return move

        in_time: list[Step] = []
        for step in steps:
            if isinstance(step, Tick | Heartbeat) and step.time is not None:
                in_time.append(keep_up(step.time))
            in_time.append(step)
        return in_time

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
    scene = Scene([eur(30), eur(61), beat(122)], past={"EURUSD": minutes(0)})
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


def test_clock_that_is_set_back_costs_a_connection_and_no_candle() -> None:
    def set_back() -> None:
        scene.clock.advance(timedelta(hours=-3))

    quotes = [eur(number) for number in (30, 59, 61, 62)]
    after = [eur(63 + number) for number in range(20)]
    scene = Scene([*quotes, set_back, *after], [eur(90), eur(121), eur(150), eur(185)], past={"EURUSD": minutes(0, 1)})
    assert scene.run_until_handed_out(3) == [("12:00", "backfill"), ("12:01", "backfill"), ("12:02", "live")]
    assert scene.vendor.connects == 2


def test_quotes_that_come_late_do_not_make_stored_candles_those_of_a_time_to_come() -> None:
    ten_minutes_late = NOON + 10 * MINUTE
    scene = Scene([eur(30), eur(61), eur(62)], now=ten_minutes_late, last=lambda _: ten_minutes_late)
    scene.run_until(lambda: scene.feed.status().ticks == 3)
    assert scene.state is FeedState.STOPPED


def test_history_that_lacks_a_candle_for_ever_leaves_a_gap_in_the_end() -> None:
    scene = Scene([eur(30), eur(61), eur(125)], settings=LiveSettings(settle_s=0, lacking_tries=3))
    assert scene.run_until_handed_out(1) == [("12:01", "live")]
    assert [asked for asked in scene.vendor.asked if asked[0] == "EURUSD"] == [("EURUSD", NOON, NOON + MINUTE)] * 4
    assert scene.feed.status().to_dict()["lacking"] == ["EURUSD 2017-03-07T12:00:00+00:00"]


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


@pytest.mark.parametrize("ahead_s", [122.0, 3 * 3600.0, 10 * 365 * 86_400.0])
@pytest.mark.parametrize("message", [eur, beat])
def test_a_message_from_ahead_closes_no_candle(message: Callable[[float], Step], ahead_s: float) -> None:
    seen: list[int] = []
    quotes = [eur(30), eur(60.5), eur(61), message(62 + ahead_s), eur(63), lambda: seen.append(len(scene.origins())), eur(125)]
    scene = Scene(quotes, past={"EURUSD": minutes(0)})
    assert scene.run_until_handed_out(2) == [("12:00", "backfill"), ("12:01", "live")]
    assert seen == [1]
    assert scene.emit.parts[-1].data.detail("tick_volume").tolist() == [3]
    assert scene.feed.status().malformed == 1


@pytest.mark.parametrize("first", [beat(500 * 86_400), beat(-60 * 365 * 86_400), Heartbeat(time=datetime.min.replace(tzinfo=UTC))])
def test_not_even_the_first_message_is_believed_any_time(first: Heartbeat) -> None:
    scene = Scene([first, eur(30), eur(61), eur(125)], past={"EURUSD": minutes(0)})
    assert scene.run_until_handed_out(2) == [("12:00", "backfill"), ("12:01", "live")]
    assert scene.feed.status().malformed == 1


@pytest.mark.parametrize("first", [eur(23 * 3600), beat(23 * 3600)])
def test_a_connection_on_which_all_is_late_is_given_up(first: Step) -> None:
    # Before the skew is known the vendor's time is believed; all later quotes are of candles closed by it.
    quotes = [eur(number) for number in range(30, 150, 5)]
    ended: list[bool] = []
    scene = Scene(
        [first, jpy(29), *quotes, lambda: ended.append(True)], [eur(160), eur(181), eur(245)], past={"EURUSD": minutes(0, 1, 2)}
    )
    assert scene.run_until_handed_out(4)[-2:] == [("12:02", "backfill"), ("12:03", "live")]
    assert (scene.vendor.connects, ended) == (2, []), "not the vendor ended it"


def test_a_quote_far_from_the_one_before_is_in_no_candle() -> None:
    wrong = [eur(62, 15.0, 15.1), eur(63, 0.11, 0.12)]
    quotes = [eur(30), jpy(31), eur(61), *wrong, eur(64, 1.3, 1.4), eur(125)]
    scene = Scene(quotes, past={"EURUSD": minutes(0)})
    scene.run_until_handed_out(2)
    candle = scene.emit.parts[-1].data
    assert candle.candles.values[0, :4].tolist() == [(1.1 + 1.2) / 2, (1.3 + 1.4) / 2, (1.1 + 1.2) / 2, (1.3 + 1.4) / 2]
    assert scene.feed.status().malformed == 2


def test_a_level_that_stays_is_believed_by_the_next_connection() -> None:
    new_level = [quote for number in range(25) for quote in (eur(62 + number, 15.0, 15.1), jpy(62.5 + number))]
    again = [eur(95, 15.0, 15.1), eur(121, 15.0, 15.1), eur(185, 15.0, 15.1)]
    scene = Scene([eur(30), jpy(31), eur(61), *new_level], again, past={"EURUSD": minutes(0, 1)})
    assert scene.run_until_handed_out(3) == [("12:00", "backfill"), ("12:01", "backfill"), ("12:02", "live")]
    assert scene.emit.parts[-1].data.candles.closes.tolist() == [(15.0 + 15.1) / 2]
    assert (scene.vendor.connects, scene.feed.status().malformed) == (2, 20)


def test_quotes_of_a_closed_market_are_counted_and_in_no_candle() -> None:
    times = [-110.0, -70.0, -55.0, -50.0, 5.0, 30.0, 65.0, 125.0, 185.0]
    past = {"EURUSD": [FRIDAY - 2 * MINUTE]}
    quotes = [eur(second, start=FRIDAY) for second in times]
    scene = Scene(quotes, past=past, now=FRIDAY - 2 * MINUTE, last=lambda _: FRIDAY - 2 * MINUTE)
    scene.run_until(lambda: scene.feed.status().ticks == len(times) and len(scene.origins()) == 2)
    assert scene.origins() == [("21:58", "backfill"), ("21:59", "live")]
    status = scene.feed.status()
    assert (status.closed_market_ticks, status.malformed, status.last_tick) == (5, 0, FRIDAY - timedelta(seconds=50))


@pytest.mark.parametrize("ahead", [3 * 60 * MINUTE, 6 * MINUTE, timedelta(days=30_000)])
def test_a_candle_stored_of_a_time_to_come_is_refused_and_named(ahead: timedelta) -> None:
    scene = Scene([eur(30), eur(31), eur(61)], last=lambda symbol: NOON + ahead if symbol == "EURUSD" else NOON)
    with pytest.raises(BadCandles, match="stored candles of EURUSD: found the last one closes at ") as refused:
        scene.run_until(lambda: False)
    status = scene.feed.status()
    assert (status.state, status.problem) == (FeedState.REFUSED, str(refused.value))
    assert (NOON + ahead).isoformat() in status.problem
    assert "a close before now, 2017-03-07T12:0" in status.problem


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
