"""Every point between reading a candle and recording its fills, in words, and the candles in which to be killed there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.crash.hooks import Call, Kill


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where a process is killed: at the `nth` call of a name since the first call of another in the same moment."""

    words: str
    call: str
    nth: int = 1
    since: str = "feed.read"
    after: bool = True

    def kill(self, calls: Sequence[Call], moment: int) -> Kill:
        """Return the kill, by the calls of an undisturbed run."""
        begin = next(place for place, each in enumerate(calls) if each.moment == moment and each.name == self.since)
        before = sum(each.name == self.call for each in calls[:begin])
        places = [place for place, each in enumerate(calls) if place >= begin and (each.name, each.moment) == (self.call, moment)]
        assert len(places) >= self.nth, f"{self.call} is called {len(places)} times there"
        return Kill(call=self.call, nth=before + self.nth, after=self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A kind of candle: what the engine sends in it, and what it finds done; None: whatever."""

    words: str
    sends: tuple[str, ...] | None = None  # the calls that send something, with the answers
    settled: tuple[str, ...] | None = ()  # what the broker says of the orders that were under way
    finds: Callable[[int], bool] = lambda _transactions: True
    hears: str = ""  # a call, with its answer

    def find(self, calls: Sequence[Call]) -> int:
        """Return the first such moment of a run."""
        for moment in range(1, calls[-1].moment):
            here = [each for each in calls if each.moment == moment]
            sent = tuple(f"{each.name.removeprefix('broker.')} {each.told}" for each in here if each.name in _SENDING)
            settled = tuple(each.told for each in here if each.name == "broker.order")
            transactions = sum(int(each.told) for each in here if each.name == "broker.transactions_since")
            heard = {"", *(f"{each.name} {each.told}" for each in here)}
            if self.sends in {None, sent} and self.settled in {None, settled} and self.finds(transactions) and self.hears in heard:
                return moment
        raise AssertionError(f"no candle {self.words}")


_SENDING = ("broker.place_order", "broker.close_position", "broker.modify_order")

SENDS_AN_ORDER = Moment(words="that sends an entry", sends=("place_order accepted",), finds=lambda found: not found)
SENDS_A_CHANGE = Moment(words="that moves a stop", sends=("modify_order accepted",))
SENDS_A_CLOSE = Moment(words="that closes a position", sends=("close_position accepted",))
SENDS_TWO = Moment(words="that sends two entries", sends=("place_order accepted", "place_order accepted"))
SENDS_BOTH = Moment(words="that sends an entry and a close", sends=("place_order accepted", "close_position accepted"))
SENDS_ENTRY_AND_CHANGE = Moment(
    words="that sends an entry and moves a stop", sends=("place_order accepted", "modify_order accepted"), settled=("filled",)
)
IS_REFUSED = Moment(words="whose entry is rejected", sends=("place_order rejected",))
FINDS_AN_ENTRY = Moment(words="that finds an entry filled", sends=(), settled=("filled",), finds=lambda found: found == 1)
FINDS_A_PART = Moment(words="that finds an entry filled in part", settled=("cancelled",), finds=bool)
FINDS_A_STOP = Moment(words="that finds a stop hit", sends=("place_order accepted",), finds=bool)
FINDS_TWO = Moment(words="that finds two orders filled", settled=("filled", "filled"), finds=lambda found: found == 2)
SWITCHES = Moment(words="before which a person set the kill switch", settled=None, hears="ledger.kill_switch_request reducing")
IS_DUE = Moment(words="after which regimes are due", settled=None, hears="regimes.ask none")

# In this order, in every candle.
IN_EVERY_CANDLE = (
    Point(words="before it was read", call="feed.read", after=False),
    Point(words="after it was read", call="feed.read"),
    Point(words="after the orders without an answer were looked up", call="ledger.unresolved_orders"),
    Point(words="after the market saw one symbol's candle and not the other's", call="market.observe"),
    Point(words="after the market filled what it fills", call="market.observe", nth=2),
    Point(words="before the fills were read", call="broker.transactions_since", after=False),
    Point(words="after the fills were read", call="broker.transactions_since"),
    Point(words="after the positions were read", call="broker.positions"),
    Point(words="after the kill switch was looked up", call="ledger.kill_switch_request"),
    Point(words="after the fitted regimes were fetched", call="regimes.ready"),
    Point(words="before the forecasts were asked for", call="forecasts.ask", after=False),
    Point(words="after the forecasts came", call="forecasts.ask"),
    Point(words="after the account was read", call="broker.account"),
    Point(words="after the rates were read", call="broker.rates"),
    Point(words="after the quotes were read", call="broker.quotes"),
    Point(words="before anything was committed", call="ledger.commit", after=False),
    Point(words="inside the commit, with the state written", call="commit.statement"),
    Point(words="inside the commit, with half of it written", call="commit.statement", nth=4),
)
COMMITTED = Point(words="after the intent was committed, before it was sent", call="ledger.commit")
SENT = (
    COMMITTED,
    Point(words="after it was marked as sent, before it was sent", call="ledger.mark_order", since="ledger.commit"),
    Point(words="on the way to the broker", call="broker.place_order", after=False),
    Point(words="after the broker took it, before the answer was marked", call="broker.place_order"),
    Point(words="after the answer was marked, before the next candle", call="ledger.mark_order", nth=2, since="ledger.commit"),
)
REFUSED = (
    *SENT[:-2],
    Point(words="after the broker refused it", call="broker.place_order"),
    Point(words="after the refusal was taken into the state, before it was marked", call="ledger.commit", nth=2),
    Point(words="after the refusal was marked", call="ledger.mark_order", nth=2, since="ledger.commit"),
)
TWO_SENT = (
    COMMITTED,
    Point(words="after the first was taken, before the second was sent", call="broker.place_order"),
    Point(words="after the first was marked, before the second was sent", call="ledger.mark_order", nth=2, since="ledger.commit"),
    Point(words="after the second was marked as sent", call="ledger.mark_order", nth=3, since="ledger.commit"),
    Point(words="after the second was taken", call="broker.place_order", nth=2),
)
CLOSE_SENT = (
    Point(words="after the close was committed, before it was sent", call="ledger.commit"),
    Point(words="after the close was marked as sent, before it was sent", call="ledger.mark_order", since="ledger.commit"),
    Point(words="with the close on the way to the broker", call="broker.close_position", after=False),
    Point(words="after the broker took the close, before the answer was marked", call="broker.close_position"),
    Point(words="after the answer was marked", call="ledger.mark_order", nth=2, since="ledger.commit"),
)
BOTH_SENT = (
    Point(words="after the entry was sent, before the close was", call="ledger.mark_order", nth=2, since="ledger.commit"),
    Point(words="after both were sent", call="broker.close_position"),
)
CHANGE_SENT = (
    Point(words="after the change was committed, before it was sent", call="ledger.commit"),
    Point(words="with the change on the way to the broker", call="broker.modify_order", after=False),
    Point(words="after the broker took the change, before the answer was marked", call="broker.modify_order"),
    Point(words="after the answer was marked, before it was taken into the state", call="ledger.mark_change"),
    Point(words="before the answer was committed", call="ledger.commit", nth=2, after=False),
    Point(words="after the answer was committed", call="ledger.commit", nth=2),
    Point(words="after it was asked what follows from the answer", call="ledger.unresolved_orders", nth=2),
)
ORDER_THEN_CHANGE = (
    Point(words="after the entry was sent, before the change was", call="broker.place_order"),
    Point(words="after the entry was marked, before the change was sent", call="broker.modify_order", after=False),
    Point(words="after both were sent", call="broker.modify_order"),
)
FILL_FOUND = (
    Point(words="after the market filled it, before anybody asked", call="market.observe", nth=2),
    Point(words="after the order was asked about", call="broker.order"),
    Point(words="after the fill was read", call="broker.transactions_since"),
    Point(words="before the order was marked as settled", call="ledger.mark_order", since="broker.positions", after=False),
    Point(words="after the order was marked as settled, before its fill was recorded", call="ledger.mark_order"),
    Point(words="before the fill was recorded", call="ledger.commit", after=False),
    Point(words="inside the commit of the fill", call="commit.statement", nth=4),
    Point(words="after the fill was recorded", call="ledger.commit"),
)
STOP_FOUND = (FILL_FOUND[0], FILL_FOUND[2], *FILL_FOUND[5:])
SWITCHED = (
    Point(words="after the request was read", call="ledger.kill_switch_request"),
    Point(words="before it was committed", call="ledger.commit", after=False),
    Point(words="after it was committed", call="ledger.commit"),
)
REGIMES_ASKED = (
    Point(words="after the first symbol's regimes were asked for", call="regimes.ask"),
    Point(words="after both symbols' regimes were asked for", call="regimes.ask", nth=2),
)

Case = tuple[Moment, Point]


def _cases() -> list[Case]:
    plan: list[tuple[Moment, tuple[Point, ...]]] = [
        (SENDS_AN_ORDER, IN_EVERY_CANDLE + SENT),
        (SENDS_A_CHANGE, IN_EVERY_CANDLE + CHANGE_SENT),
        (SENDS_A_CLOSE, IN_EVERY_CANDLE + CLOSE_SENT),
        (SENDS_TWO, TWO_SENT),
        (SENDS_BOTH, BOTH_SENT),
        (SENDS_ENTRY_AND_CHANGE, ORDER_THEN_CHANGE),
        (IS_REFUSED, REFUSED),
        (FINDS_AN_ENTRY, FILL_FOUND),
        (FINDS_A_PART, FILL_FOUND),
        (FINDS_A_STOP, STOP_FOUND),
        (FINDS_TWO, FILL_FOUND),
        (SWITCHES, SWITCHED),
        (IS_DUE, REGIMES_ASKED),
    ]
    return [(moment, point) for moment, points in plan for point in points]


CASES = _cases()


def _recoveries() -> list[tuple[Case, str, Kill]]:
    """Kill a process, and the next one while it recovers: at its n-th call of a name."""
    unsent, taken = SENT[0], SENT[3]
    refused = REFUSED[-3]
    change_unsent, change_taken = CHANGE_SENT[0], CHANGE_SENT[2]
    close_unsent, close_taken = CLOSE_SENT[0], CLOSE_SENT[3]
    plan: list[tuple[Moment, Point, tuple[tuple[str, str, int], ...]]] = [
        (
            SENDS_AN_ORDER,
            unsent,
            (
                ("the state was loaded", "ledger.load_state", 1),
                ("the windows were read again", "feed.window", 2),
                ("the broker said that the order never came", "broker.order", 1),
                ("it was marked as sent", "ledger.mark_order", 1),
                ("it was sent", "broker.place_order", 1),
                ("the answer was marked", "ledger.mark_order", 2),
                ("the positions were read", "broker.positions", 1),
                ("the open orders were compared", "broker.open_orders", 1),
            ),
        ),
        (
            SENDS_AN_ORDER,
            taken,
            (("the broker said that it has the order", "broker.order", 1), ("that was marked", "ledger.mark_order", 1)),
        ),
        (
            IS_REFUSED,
            refused,
            (
                ("the broker said that it had refused", "broker.order", 1),
                ("the refusal was taken into the state", "ledger.commit", 1),
                ("the refusal was marked", "ledger.mark_order", 1),
            ),
        ),
        (SENDS_A_CHANGE, change_unsent, (("the change was sent", "broker.modify_order", 1),)),
        (
            SENDS_A_CHANGE,
            change_taken,
            (
                ("the change was sent again", "broker.modify_order", 1),
                ("the answer was marked", "ledger.mark_change", 1),
                ("the answer was committed", "ledger.commit", 1),
            ),
        ),
        (
            SENDS_A_CLOSE,
            close_unsent,
            (("the close was sent", "broker.close_position", 1), ("the answer was marked", "ledger.mark_order", 2)),
        ),
        (
            SENDS_A_CLOSE,
            close_taken,
            (("the broker said that it has the close", "broker.order", 1), ("that was marked", "ledger.mark_order", 1)),
        ),
        (
            FINDS_A_PART,
            FILL_FOUND[0],
            (
                ("the fill was read", "broker.transactions_since", 1),
                ("the order was marked as settled", "ledger.mark_order", 1),
                ("half of the fill's commit was written", "commit.statement", 3),
                ("the fill was recorded", "ledger.commit", 1),
            ),
        ),
    ]
    return [
        ((moment, point), words, Kill(call=call, nth=nth, after=True))
        for moment, point, seconds in plan
        for words, call, nth in seconds
    ]


RECOVERIES = _recoveries()

# OANDA fills an order at once: its fill is found in the next candle.
OANDA_ENTRY = Moment(words="that sends an entry", sends=("place_order filled",))
OANDA_CHANGE = Moment(words="that moves a stop", sends=("modify_order accepted",), settled=None)
OANDA_CLOSE = Moment(words="that closes a position", sends=("close_position filled",), settled=None)
_OANDA_TWO = Moment(words="that sends two entries", sends=("place_order filled", "place_order filled"), settled=None)
_OANDA_FILL = Moment(words="that finds an entry filled", settled=("filled",), finds=lambda found: found == 1)
_OANDA_STOP = Moment(words="that finds a stop hit", finds=bool)


def _oanda_cases() -> list[Case]:
    plan: list[tuple[Moment, tuple[Point, ...]]] = [
        (OANDA_ENTRY, SENT),
        (OANDA_CHANGE, CHANGE_SENT),
        (OANDA_CLOSE, CLOSE_SENT),
        (_OANDA_TWO, TWO_SENT),
        (_OANDA_FILL, FILL_FOUND),
        (_OANDA_STOP, STOP_FOUND),
    ]
    return [(moment, point) for moment, points in plan for point in points]


OANDA_CASES = _oanda_cases()


def case_words(case: Case) -> str:
    """Say where a process is killed."""
    moment, point = case
    return f"in a candle {moment.words} - {point.words}"


def recovery_words(case: Case, words: str) -> str:
    """Say where a process is killed, and where the next one."""
    return f"{case_words(case)} - and again after {words}"
