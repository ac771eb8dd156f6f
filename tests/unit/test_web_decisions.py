"""What page Decisions says of a decision, and what it asks for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from fxcast.adapters.storage.decided import Consequences, Counts, Wanted
from fxcast.adapters.storage.ledger_rows import ChangeRecord
from fxcast.domain.order import ChangeAnswer, FillReason, OrderStatus
from fxcast.domain.signal import DIMENSIONS, Direction, Verdict
from fxcast.trading.ports import DecidedSignal, OrderRecord, PositionRecord
from fxcast.web.decisions_view import (
    Linked,
    change_rows,
    counts_said,
    currency_of,
    dimensions,
    duration,
    fill_rows,
    key_figures,
    link_to,
    linked,
    member_rows,
    money,
    order_said,
    outcome,
    pages_of,
    price,
    quality_figure,
    quality_said,
    verdict_said,
    wanted_of,
    why_said,
)
from tests.ledger_factories import change, closed, decided, fill, intent, opened

BERLIN = ZoneInfo("Europe/Berlin")


def refused(reason: str = "a quality of 0.2 is below 0.45") -> DecidedSignal:
    return replace(decided(), verdict=Verdict.REJECTED, reason=reason, units=Decimal(0))


def ordered(status: OrderStatus, reason: str = "") -> OrderRecord:
    return OrderRecord(intent=intent(), status=status, broker_order_id="7", reason=reason)


def asked(zone: ZoneInfo | None = None, **choices: object) -> Wanted:
    names = ("symbol", "verdict", "direction", "reason", "first_day", "last_day")
    return wanted_of(**{name: choices.get(name) for name in names}, zone=zone or UTC)


def test_a_link_leads_back_to_its_decision() -> None:
    assert linked(link_to("my account & more", "EURUSD-20240304T1200")) == Linked(
        account="my account & more", signal_id="EURUSD-20240304T1200"
    )


@pytest.mark.parametrize(
    "search", [None, "", "?", "?account=demo", "?signal=x", "?account=%00&signal=x", 7, ["?account=a&signal=b"]]
)
def test_other_addresses_lead_to_no_decision(search: object) -> None:
    assert linked(search) is None


def test_choices_ask_for_whole_days_of_the_readers_zone() -> None:
    wanted = asked(
        BERLIN,
        symbol="EURUSD",
        verdict="rejected",
        direction="bear",
        reason=" spread ",
        first_day="2024-03-04",
        last_day="2024-03-04",
    )
    assert wanted == Wanted(
        symbol="EURUSD",
        verdict=Verdict.REJECTED,
        direction=Direction.BEAR,
        reason="spread",
        since=datetime(2024, 3, 3, 23, tzinfo=UTC),
        before=datetime(2024, 3, 4, 23, tzinfo=UTC),
    )


def test_the_day_on_which_clocks_change_is_whole_as_well() -> None:
    wanted = asked(BERLIN, first_day="2024-03-31", last_day="2024-03-31")
    assert wanted.since is not None
    assert wanted.before is not None
    assert wanted.before - wanted.since == timedelta(hours=23)


@pytest.mark.parametrize("sent", [None, "", 3, {"a": 1}, ["bull"], "\0", "\ud800", "0001-01-01", "9999-12-31"])
def test_what_nobody_could_have_chosen_leaves_nothing_out(sent: object) -> None:
    wanted = asked(BERLIN, verdict=sent, direction=sent, last_day=sent)
    assert (wanted.verdict, wanted.direction) == (None, None)
    assert wanted.before is None or sent == "0001-01-01"
    assert asked(symbol="\0", reason="\0\ud800") == Wanted()
    assert len(asked(reason="x" * 10_000).reason) == 200


@pytest.mark.parametrize(
    ("count", "page", "shown"),
    [(0, 0, (0, 1)), (50, 1, (0, 1)), (51, 1, (1, 2)), (593, 99, (11, 12)), (593, -1, (0, 12)), (593, "2", (0, 12))],
)
def test_only_pages_that_are_there_are_shown(count: int, page: object, shown: tuple[int, int]) -> None:
    assert pages_of(count, page, size=50) == shown


def test_verdicts_are_counted_in_words() -> None:
    assert counts_said(Counts()) == "No decisions."
    assert counts_said(Counts(rejected=1)) == "1 decision: 0 accepted, 1 refused."
    said = "1,593 decisions: 54 accepted (3 of them with fewer units than their base size), 1,539 refused."
    assert counts_said(Counts(accepted=54, reduced=3, rejected=1_539)) == said


def test_a_verdict_is_said_with_whether_the_size_was_reduced() -> None:
    assert verdict_said(decided())[0] == "accepted, reduced"
    assert verdict_said(replace(decided(), units=Decimal(20_000)))[0] == "accepted"
    assert verdict_said(refused())[0] == "refused"


def test_what_stood_against_a_signal_is_uncertainty_and_each_limit() -> None:
    arithmetic = ("at most 0.5 % may be lost at the stop", "uncertainty 0.3 % of 0.5 %: × 0.400", "rounded down to 1,000: 8,000")
    cut = replace(decided(), reason="margin: 8,000 cut to 7,000; EUR is limited: 7,000 cut to 5,000", arithmetic=arithmetic)
    assert why_said(cut) == (arithmetic[1], "margin: 8,000 cut to 7,000", "EUR is limited: 7,000 cut to 5,000")
    assert why_said(replace(cut, verdict=Verdict.REJECTED, units=Decimal(0), reason="the market is closed")) == (
        "the market is closed",
    )
    assert why_said(replace(cut, units=cut.base_units, reason="")) == ()


def test_times_prices_and_money_have_their_unit() -> None:
    assert [duration(minutes) for minutes in (1440, 2880, 240, 60, 90)] == ["1 day", "2 days", "4 hours", "1 hour", "90 min"]
    assert [price("EURUSD", 1.1861185714), price("USDJPY", Decimal("151.2345")), price("EURUSD", None)] == [
        "1.18612",
        "151.234",
        None,
    ]
    assert [money(Decimal("1234.5"), "USD"), money(Decimal("-0.53"), "")] == ["+1,234.50 USD", "-0.53"]
    assert currency_of('{"event": {"account": {"currency": "EUR"}}}') == "EUR"
    assert dict(key_figures(decided()))["stop, -0.41 %"] == "1.08010"
    unknown = replace(decided(), signal=replace(decided().signal, uncertainty_pct=None))
    assert ("uncertainty, of the price", "no forecast") in key_figures(unknown)


def test_a_dimension_gives_its_value_times_its_weight() -> None:
    rows = dimensions(decided().signal.quality)
    assert [each.name.replace(" ", "_") for each in rows] == list(DIMENSIONS)
    assert [each.gave for each in rows] == pytest.approx([0.025, 0.03, 0.03, 0.1, 0.075, 0.06])


def test_a_signal_kept_before_weights_were_is_shown_without_them() -> None:
    quality = replace(decided().signal.quality, weights=())
    assert {each.weight for each in dimensions(quality)} == {None}
    assert list(quality_figure(quality).to_dict()["data"][1]["x"])[::-1] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_the_figure_shows_every_dimension_and_says_it() -> None:
    figure = quality_figure(decided().signal.quality)
    could, gave = figure.to_dict()["data"]
    assert list(could["y"])[::-1] == [each.name for each in dimensions(decided().signal.quality)]
    assert list(could["x"])[::-1] == [0.25, 0.15, 0.1, 0.25, 0.15, 0.1]
    assert list(gave["x"])[::-1] == pytest.approx([0.025, 0.03, 0.03, 0.1, 0.075, 0.06])
    assert "timing 0.10 of 0.25" in quality_said(decided().signal.quality)


def test_a_neutral_source_has_no_stop_and_no_target() -> None:
    leader, neutral = member_rows(decided(), BERLIN)
    assert leader == [
        "ldm4ts forecast",
        "forecast",
        "bull",
        "0.610",
        "4 hours",
        "1.08460",
        "1.08010",
        "1.08990",
        "2024-03-04 13:00",
    ]
    assert neutral[6:8] == [None, None]


def test_an_order_is_said_with_our_words_and_the_brokers() -> None:
    closing = replace(ordered(OrderStatus.REJECTED, "no margin"), intent=replace(intent(), reason="the horizon has passed"))
    assert order_said(closing) == ("refused by the broker", "bad", "we said: the horizon has passed; the broker said: no margin")
    assert {order_said(ordered(status))[0] for status in OrderStatus} >= {"filled", "cancelled"}


def test_fills_say_what_made_them_and_what_they_brought() -> None:
    out = replace(fill(2), reason=FillReason.STOP, profit=Decimal("-12.5"), commission=Decimal(0))
    first, second = fill_rows(Consequences(fills=(fill(), out)), "USD", BERLIN)
    assert first == ["2024-03-04 13:00", "buy", "15,000", "1.08465", "our order", None, "-0.53 USD"]
    assert second[4:] == ["the stop", "-12.50 USD", None]


def test_changes_of_protection_carry_the_brokers_answer() -> None:
    answers = (None, ChangeAnswer(accepted=True), ChangeAnswer(accepted=False, reason="too near"))
    rows = change_rows(Consequences(changes=tuple(ChangeRecord(change=change(), answer=each) for each in answers)), UTC)
    assert [row[-1] for row in rows] == ["no answer yet", "accepted", "refused: too near"]
    assert rows[0][:4] == ["2024-03-04 12:00", "1.08450", None, "trailing stop"]


def test_a_refused_signal_came_to_no_order_and_says_why() -> None:
    end = outcome(refused(), Consequences(), "USD", UTC)
    assert (end.word, end.said) == ("no order", "No order came of it, for it was refused: a quality of 0.2 is below 0.45.")


def test_an_accepted_signal_without_an_order_is_told() -> None:
    assert outcome(decided(), Consequences(), "USD", UTC).kind == "warn"


@pytest.mark.parametrize(("status", "word"), [(OrderStatus.INTENT, "written down"), (OrderStatus.CANCELLED, "cancelled")])
def test_an_order_without_a_position_is_told_with_its_status(status: OrderStatus, word: str) -> None:
    end = outcome(decided(), Consequences(orders=(ordered(status, "why not"),)), "USD", UTC)
    assert word in end.word
    assert "the broker said: why not" in end.said


@pytest.mark.parametrize(
    ("record", "word", "said"),
    [
        (opened(), "still open", "Its stop is at 1.08010, its target at 1.08990."),
        (closed(), "won +78.75 USD", "closed 2024-03-04 17:00 at 1.08990. Result: +78.75 USD"),
        (replace(closed(), profit=Decimal("-3.1")), "lost -3.10 USD", "Result: -3.10 USD"),
        (replace(closed(), profit=Decimal(0)), "even +0.00 USD", "opened 2024-03-04 13:00"),
        (replace(closed(), profit=None), "closed", "its result is not known"),
    ],
)
def test_a_position_is_told_with_its_result_or_that_it_is_open(record: PositionRecord, word: str, said: str) -> None:
    end = outcome(decided(), Consequences(orders=(ordered(OrderStatus.FILLED),), position=record), "USD", BERLIN)
    assert end.word == word
    assert said in end.said
