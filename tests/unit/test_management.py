"""What becomes of an open position, by hand: long from 1.10000 with a stop 40 pips below is one R of 40 pips."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fxcast.domain.instrument import default_instrument
from fxcast.domain.money import Quote
from fxcast.domain.order import ProtectionChange, Side
from fxcast.domain.portfolio import Position
from fxcast.trading.config import ManagementConfig
from fxcast.trading.management import Managed, ManagementView, better_price, manage
from fxcast.trading.state import HeldPosition
from tests.factories import NOON, make_prediction

LONG = HeldPosition(
    position=Position(
        client_order_id="EURUSD-1-open",
        symbol="EURUSD",
        side=Side.BUY,
        units=Decimal(10_000),
        entry_price=Decimal("1.10000"),
        stop=Decimal("1.09600"),
        target=Decimal("1.11000"),
        opened_at=NOON,
    ),
    signal_id="EURUSD-1",
    horizon_bars=4,
    bars_held=1,
    first_stop=Decimal("1.09600"),
    best_price=Decimal("1.10000"),
)
SHORT = replace(
    LONG,
    position=replace(LONG.position, side=Side.SELL, stop=Decimal("1.10400"), target=Decimal("1.09000")),
    first_stop=Decimal("1.10400"),
)
BREAK_EVEN = ManagementConfig(break_even_at_r=1.0)
TRAILING = ManagementConfig(trail_at_r=1.5, trail_distance_r=1.0)
BOTH = ManagementConfig(break_even_at_r=1.0, trail_at_r=1.5, trail_distance_r=1.0)


def seen(close: str = "1.10100", **change: Any) -> ManagementView:
    """A close that is the middle of a spread of one pip."""
    middle, half = Decimal(close), Decimal("0.00005")
    view = ManagementView(
        at=NOON,
        close=middle,
        quote=Quote(bid=middle - half, ask=middle + half, at=NOON),
        instrument=default_instrument("EURUSD"),
        prediction=None,
        horizon_minutes=240,
        uncertainty_pct=None,
        spread=Decimal("0.00010"),
    )
    return replace(view, **change)


def unchanged(held: HeldPosition, *, close_reason: str = "") -> Managed:
    return Managed(close_reason=close_reason, stop=held.position.stop, target=held.position.target, reasons=())


def distant(pips: int) -> ManagementView:
    instrument = replace(default_instrument("EURUSD"), min_stop_distance=Decimal(pips) / 10_000)
    return seen("1.10600", instrument=instrument)


# Exits


def test_a_position_within_its_horizon_stays_as_it_is() -> None:
    assert manage(LONG, seen(), ManagementConfig()) == unchanged(LONG)


def test_a_position_ends_with_its_horizon() -> None:
    expired = replace(LONG, bars_held=4)
    assert manage(expired, seen(), ManagementConfig()) == unchanged(LONG, close_reason="the horizon of 4 candles has passed")
    assert not manage(replace(LONG, bars_held=3), seen(), ManagementConfig()).close_reason
    assert not manage(expired, seen(), ManagementConfig(exit_at_horizon=False)).close_reason


def test_a_position_ends_when_uncertainty_has_grown_to_the_threshold() -> None:
    config = ManagementConfig(exit_uncertainty_pct=0.6)
    reason = "uncertainty 0.6 % has grown to the exit threshold of 0.6 %"
    assert manage(LONG, seen(uncertainty_pct=0.6), config) == unchanged(LONG, close_reason=reason)
    assert not manage(LONG, seen(uncertainty_pct=0.59), config).close_reason
    assert not manage(LONG, seen(uncertainty_pct=None), config).close_reason
    assert not manage(LONG, seen(uncertainty_pct=5.0), ManagementConfig()).close_reason


@pytest.mark.parametrize(
    ("at", "minutes", "reason"),
    [
        # Friday 17:00 New York is 22:00 UTC in winter, 21:00 in summer.
        (datetime(2017, 1, 6, 19, 59, tzinfo=UTC), 120, ""),
        (datetime(2017, 1, 6, 20, 0, tzinfo=UTC), 120, "the week closes in 120 minutes, exit at 120"),
        (datetime(2017, 7, 7, 20, 30, tzinfo=UTC), 120, "the week closes in 30 minutes, exit at 120"),
        # candles of an hour: after this one the next closes with the week
        (datetime(2017, 7, 7, 20, 0, tzinfo=UTC), 15, "the week closes in 60 minutes, exit at 15"),
        (datetime(2017, 7, 7, 19, 0, tzinfo=UTC), 15, ""),
        (datetime(2017, 7, 7, 21, 0, tzinfo=UTC), 120, ""),  # closed: too late
        (datetime(2017, 7, 8, 12, 0, tzinfo=UTC), 120, ""),
        (datetime(2017, 7, 7, 20, 30, tzinfo=UTC), None, ""),
    ],
)
def test_a_position_ends_before_the_weekend_if_that_is_wanted(at: datetime, minutes: int | None, reason: str) -> None:
    config = ManagementConfig(exit_before_weekend_minutes=minutes)
    assert manage(LONG, seen(at=at), config).close_reason == reason


def test_a_position_that_is_closed_gets_no_other_stop() -> None:
    assert manage(replace(LONG, bars_held=4), seen("1.10800"), BOTH).reasons == ()


# Targets


def follow(held: HeldPosition, mean: float, **change: Any) -> Managed:
    return manage(held, seen(prediction=make_prediction({240: (mean, 0.002)}), **change), ManagementConfig())


def test_the_target_follows_a_fresh_forecast() -> None:
    assert follow(LONG, 1.10803) == Managed(
        close_reason="",
        stop=Decimal("1.09600"),
        target=Decimal("1.10803"),
        reasons=("target 1.11000 to 1.10803: the mean of the fresh forecast",),
    )
    assert follow(SHORT, 1.09500).target == Decimal("1.09500")
    assert follow(LONG, 1.11500).target == Decimal("1.11500")  # further away as well


@pytest.mark.parametrize(
    ("held", "mean"),
    [
        (LONG, 1.11019),  # 1.9 pips further
        (LONG, 1.10981),
        (LONG, 1.09000),  # the forecast has turned
        (LONG, 1.10105),  # bid 1.10095 and a spread of a pip: not beyond
        (SHORT, 1.10095),
        (SHORT, 1.11000),
    ],
)
def test_the_target_stays_where_following_would_not_pay(held: HeldPosition, mean: float) -> None:
    assert follow(held, mean) == unchanged(held)


def test_two_pips_are_material() -> None:
    assert follow(LONG, 1.11020).target == Decimal("1.11020")


def test_the_target_is_never_nearer_than_the_broker_takes() -> None:
    far = replace(default_instrument("EURUSD"), min_stop_distance=Decimal("0.0050"))
    assert follow(LONG, 1.10594, instrument=far) == unchanged(LONG)  # bid 1.10095
    assert follow(LONG, 1.10595, instrument=far).target == Decimal("1.10595")


def test_the_target_stays_without_a_forecast_of_the_positions_horizon() -> None:
    other = make_prediction({960: (1.1080, 0.002)})
    assert manage(LONG, seen(prediction=other), ManagementConfig()) == unchanged(LONG)
    fresh = make_prediction({240: (1.1080, 0.002)})
    assert manage(LONG, seen(prediction=fresh), ManagementConfig(follow_targets=False)) == unchanged(LONG)


def test_a_position_without_a_target_gets_none() -> None:
    bare = replace(LONG, position=replace(LONG.position, target=None))
    assert follow(bare, 1.10800) == unchanged(bare)


# Stops


def test_the_stop_goes_to_break_even_once_the_profit_reaches_its_r() -> None:
    # 40 pips at the bid: the middle is half a pip above
    assert manage(LONG, seen("1.10404"), BREAK_EVEN) == unchanged(LONG)
    assert manage(LONG, seen("1.10405"), BREAK_EVEN) == Managed(
        close_reason="",
        stop=Decimal("1.10010"),
        target=Decimal("1.11000"),
        reasons=("stop 1.09600 to 1.10010: break-even at 1 R",),
    )


def test_the_break_even_of_a_short_position_lies_below_its_entry() -> None:
    assert manage(SHORT, seen("1.09596"), BREAK_EVEN) == unchanged(SHORT)
    assert manage(SHORT, seen("1.09595"), BREAK_EVEN).stop == Decimal("1.09990")


def test_break_even_is_worth_the_smallest_step() -> None:
    nearly = replace(LONG, position=replace(LONG.position, stop=Decimal("1.10009")))
    assert manage(nearly, seen("1.10500"), BREAK_EVEN).stop == Decimal("1.10010")
    there = replace(LONG, position=replace(LONG.position, stop=Decimal("1.10010")))
    assert manage(there, seen("1.10500"), BREAK_EVEN) == unchanged(there)


def test_the_stop_trails_the_best_close() -> None:
    assert manage(LONG, seen("1.10599"), TRAILING) == unchanged(LONG)  # 1.5 R are 60 pips
    assert manage(LONG, seen("1.10600"), TRAILING) == Managed(
        close_reason="",
        stop=Decimal("1.10200"),
        target=Decimal("1.11000"),
        reasons=("stop 1.09600 to 1.10200: trailing 1 R behind 1.10600",),
    )
    assert manage(SHORT, seen("1.09300"), TRAILING).stop == Decimal("1.09700")
    # the best close counts, not this one
    assert manage(replace(LONG, best_price=Decimal("1.10700")), seen("1.10400"), TRAILING).stop == Decimal("1.10300")


def test_a_trailing_stop_moves_by_what_is_material() -> None:
    trailed = replace(LONG, position=replace(LONG.position, stop=Decimal("1.10200")), best_price=Decimal("1.10600"))
    assert manage(trailed, seen("1.10619"), TRAILING) == unchanged(trailed)
    assert manage(trailed, seen("1.10620"), TRAILING).stop == Decimal("1.10220")


def test_the_tighter_of_both_rules_counts() -> None:
    assert manage(LONG, seen("1.10450"), BOTH).stop == Decimal("1.10010")
    assert manage(LONG, seen("1.10600"), BOTH).stop == Decimal("1.10200")
    wide = ManagementConfig(break_even_at_r=1.0, trail_at_r=1.5, trail_distance_r=2.0)
    assert manage(LONG, seen("1.10600"), wide).stop == Decimal("1.10010")  # 80 pips behind is below the entry


def test_a_stop_that_the_price_has_passed_is_not_asked_for() -> None:
    fallen = replace(LONG, best_price=Decimal("1.10800"))
    assert manage(fallen, seen("1.10390"), TRAILING) == unchanged(LONG)  # would be 1.10400
    assert manage(fallen, seen("1.10410"), BOTH).stop == Decimal("1.10400")  # bid 1.10405
    assert manage(fallen, seen("1.10406"), BOTH).stop == Decimal("1.10400")  # bid 1.10401: one tick away
    assert manage(fallen, seen("1.10405"), BOTH).stop == Decimal("1.10010")  # else break-even


def test_a_stop_keeps_the_brokers_distance() -> None:
    assert manage(LONG, distant(40), TRAILING) == unchanged(LONG)  # 1.10200 is 39.5 pips below the bid
    assert manage(LONG, distant(39), TRAILING).stop == Decimal("1.10200")


def test_a_stop_that_is_tighter_already_stays() -> None:
    tight = replace(LONG, position=replace(LONG.position, stop=Decimal("1.10300")))
    assert manage(tight, seen("1.10600"), BOTH) == unchanged(tight)


def test_a_position_filled_at_its_stop_has_no_r() -> None:
    flat = replace(LONG, first_stop=LONG.position.entry_price)
    assert manage(flat, seen("1.10600"), BOTH) == unchanged(flat)


def test_a_change_on_its_way_counts_as_made() -> None:
    change = ProtectionChange(
        change_id="EURUSD-1-open-p1",
        client_order_id="EURUSD-1-open",
        symbol="EURUSD",
        stop=Decimal("1.10300"),
        target=Decimal("1.10900"),
        reason="",
        created_at=NOON,
    )
    managed = manage(replace(LONG, change=change), seen("1.10600"), BOTH)
    assert managed == Managed(close_reason="", stop=Decimal("1.10300"), target=Decimal("1.10900"), reasons=())
    looser = replace(change, stop=Decimal("1.09000"))
    assert manage(replace(LONG, change=looser), seen(), BOTH).stop == Decimal("1.09600")


def test_stop_and_target_move_together_with_both_reasons() -> None:
    view = seen("1.10600", prediction=make_prediction({240: (1.1150, 0.002)}))
    managed = manage(LONG, view, BOTH)
    assert (managed.stop, managed.target, len(managed.reasons)) == (Decimal("1.10200"), Decimal("1.11500"), 2)


def test_the_best_close_only_gets_better() -> None:
    assert better_price(LONG, Decimal("1.10100")) == Decimal("1.10100")
    assert better_price(LONG, Decimal("1.09900")) == Decimal("1.10000")
    assert better_price(SHORT, Decimal("1.09900")) == Decimal("1.09900")
    assert better_price(SHORT, Decimal("1.10100")) == Decimal("1.10000")
