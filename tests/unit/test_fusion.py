"""Sources are weighed by strength; old, spent and neutral ones do not count."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fxcast.domain.signal import Direction, SignalSource
from fxcast.signals.fusion import fuse
from fxcast.signals.quality import consistency
from tests.factories import NOON
from tests.signal_factories import make_signal

BULL, BEAR, NEUTRAL = Direction.BULL, Direction.BEAR, Direction.NEUTRAL
FORECAST, TREND, REVERSION = SignalSource.LDM4TS_FORECAST, SignalSource.TREND, SignalSource.MEAN_REVERSION


def test_agreeing_sources_give_their_mean_strength_and_the_strongest_leads() -> None:
    consensus = fuse(
        [make_signal(FORECAST, BULL, 0.4), make_signal(TREND, BULL, 0.8, horizon_minutes=1440)], made_at=NOON, price=1.10
    )
    assert consensus is not None
    assert (consensus.direction, consensus.strength) == (BULL, pytest.approx(0.6))
    assert (consensus.leader.source, consensus.leader.horizon_minutes) == (TREND, 1440)


def test_the_stronger_side_wins_a_conflict_and_loses_strength_and_consistency() -> None:
    consensus = fuse([make_signal(FORECAST, BULL, 0.9), make_signal(TREND, BEAR, 0.5)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert (consensus.direction, consensus.strength) == (BULL, pytest.approx(0.2))  # (0.9 − 0.5) / 2
    assert consistency(consensus) == 0.5
    agreeing = fuse([make_signal(FORECAST, BULL, 0.9), make_signal(TREND, BULL, 0.5)], made_at=NOON, price=1.10)
    assert agreeing is not None
    assert consistency(agreeing) == 1.0


def test_a_neutral_source_counts_half_for_consistency() -> None:
    consensus = fuse([make_signal(FORECAST, BULL, 0.9), make_signal(TREND, NEUTRAL, 0.1)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert consistency(consensus) == 0.75


def test_neutral_sources_alone_give_no_signal() -> None:
    assert fuse([make_signal(FORECAST, NEUTRAL, 0.2), make_signal(TREND, NEUTRAL, 0.1)], made_at=NOON, price=1.10) is None


def test_sources_that_cancel_out_give_no_signal() -> None:
    assert fuse([make_signal(FORECAST, BULL, 0.5), make_signal(TREND, BEAR, 0.5)], made_at=NOON, price=1.10) is None


def test_no_sources_give_no_signal() -> None:
    assert fuse([], made_at=NOON, price=1.10) is None


@pytest.mark.parametrize(("age_minutes", "counts"), [(239, True), (240, False)])
def test_a_signal_counts_until_its_horizon_has_passed(age_minutes: int, counts: bool) -> None:
    old = make_signal(FORECAST, BULL, 0.9, made_at=NOON - timedelta(minutes=age_minutes))
    assert (fuse([old], made_at=NOON, price=1.10) is not None) is counts


@pytest.mark.parametrize("price", [1.098, 1.097, 1.103, 1.104])
def test_a_signal_whose_stop_or_target_was_reached_is_spent(price: float) -> None:
    assert fuse([make_signal(FORECAST, BULL, 0.9)], made_at=NOON, price=price) is None


def test_each_source_votes_once_with_its_strongest_direction() -> None:
    horizons = [
        make_signal(FORECAST, NEUTRAL, 0.2, horizon_minutes=60),
        make_signal(FORECAST, BULL, 0.4, horizon_minutes=240),
        make_signal(FORECAST, BULL, 0.7, horizon_minutes=960),
    ]
    consensus = fuse([*horizons, make_signal(REVERSION, NEUTRAL, 0.4)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert [(member.source, member.horizon_minutes) for member in consensus.members] == [(FORECAST, 960), (REVERSION, 240)]
    assert consensus.strength == pytest.approx(0.7)


def test_each_further_source_against_the_others_lowers_consistency_and_strength() -> None:
    agreeing = [make_signal(source, BULL, 0.8) for source in (FORECAST, SignalSource.GARCH_FORECAST, TREND, "my_breakout")]
    seen: list[tuple[float, float]] = []
    for against in range(3):
        opposed = [make_signal(signal.source, BEAR, 0.5) for signal in agreeing[4 - against :]]
        consensus = fuse([*agreeing[: 4 - against], *opposed], made_at=NOON, price=1.10)
        assert consensus is not None
        seen.append((consistency(consensus), consensus.strength))
    assert seen == [(1.0, pytest.approx(0.8)), (0.75, pytest.approx(0.475)), (0.5, pytest.approx(0.15))]


def test_each_forecaster_and_each_source_of_a_user_votes_for_itself() -> None:
    signals = [
        make_signal("my_breakout", BULL, 0.9, horizon_minutes=60),
        make_signal(SignalSource.SSSD_FORECAST, BEAR, 0.3),
        make_signal(FORECAST, BULL, 0.6),
        make_signal("another", NEUTRAL, 0.2),
        make_signal(SignalSource.GARCH_FORECAST, BULL, 0.6),
    ]
    consensus = fuse(signals, made_at=NOON, price=1.10)
    assert consensus is not None
    names = [member.source for member in consensus.members]
    assert names == [FORECAST, SignalSource.SSSD_FORECAST, SignalSource.GARCH_FORECAST, "another", "my_breakout"]
    assert consensus.strength == pytest.approx((0.9 + 0.6 + 0.6 - 0.3) / 4)
    assert (consensus.leader.source, consensus.leader.horizon_minutes) == ("my_breakout", 60)
    assert consistency(consensus) == pytest.approx(3.5 / 5)


def test_the_order_in_which_sources_speak_changes_nothing() -> None:
    signals = [make_signal(name, direction, 0.1 * (number + 1)) for number, (name, direction) in enumerate(
        [("zeta", BULL), (TREND, BEAR), ("alpha", BULL), (FORECAST, BULL)]
    )]  # fmt: skip
    assert fuse(signals, made_at=NOON, price=1.10) == fuse(reversed(signals), made_at=NOON, price=1.10)


def test_an_expired_source_neither_votes_nor_counts_as_a_conflict() -> None:
    expired = make_signal("my_breakout", BEAR, 0.9, made_at=NOON - timedelta(minutes=240))
    consensus = fuse([expired, make_signal(FORECAST, BULL, 0.4)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert [member.source for member in consensus.members] == [FORECAST]
    assert consistency(consensus) == 1.0
    assert fuse([expired], made_at=NOON, price=1.10) is None


def test_a_shorter_horizon_that_has_passed_leaves_the_forecast_its_longer_one() -> None:
    made_at = NOON - timedelta(minutes=60)
    horizons = [
        make_signal(FORECAST, BEAR, 0.9, horizon_minutes=60, made_at=made_at),
        make_signal(FORECAST, BULL, 0.4, made_at=made_at),
    ]
    consensus = fuse(horizons, made_at=NOON, price=1.10)
    assert consensus is not None
    assert (consensus.direction, consensus.leader.horizon_minutes) == (BULL, 240)
