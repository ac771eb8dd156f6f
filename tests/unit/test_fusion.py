"""Sources are weighed by strength; old, spent and neutral ones do not count."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fxcast.domain.signal import Direction, Signal, SignalSource
from fxcast.signals.fusion import fuse
from fxcast.signals.quality import consistency
from tests.factories import NOON

BULL, BEAR, NEUTRAL = Direction.BULL, Direction.BEAR, Direction.NEUTRAL
FORECAST, TREND, REVERSION = SignalSource.LDM4TS_FORECAST, SignalSource.TREND, SignalSource.MEAN_REVERSION


def signal(
    source: SignalSource, direction: Direction, strength: float, *, horizon_minutes: int = 240, made_at: datetime = NOON
) -> Signal:
    return Signal(
        source=source,
        symbol="EURUSD",
        made_at=made_at,
        horizon_minutes=horizon_minutes,
        direction=direction,
        strength=strength,
        price=1.10,
        stop=1.10 - 0.002 * direction.sign,
        target=1.10 + 0.003 * direction.sign,
    )


def test_agreeing_sources_give_their_mean_strength_and_the_strongest_leads() -> None:
    consensus = fuse([signal(FORECAST, BULL, 0.4), signal(TREND, BULL, 0.8, horizon_minutes=1440)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert (consensus.direction, consensus.strength) == (BULL, pytest.approx(0.6))
    assert (consensus.leader.source, consensus.leader.horizon_minutes) == (TREND, 1440)


def test_the_stronger_side_wins_a_conflict_and_loses_strength_and_consistency() -> None:
    consensus = fuse([signal(FORECAST, BULL, 0.9), signal(TREND, BEAR, 0.5)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert (consensus.direction, consensus.strength) == (BULL, pytest.approx(0.2))  # (0.9 − 0.5) / 2
    assert consistency(consensus) == 0.5
    agreeing = fuse([signal(FORECAST, BULL, 0.9), signal(TREND, BULL, 0.5)], made_at=NOON, price=1.10)
    assert agreeing is not None
    assert consistency(agreeing) == 1.0


def test_a_neutral_source_counts_half_for_consistency() -> None:
    consensus = fuse([signal(FORECAST, BULL, 0.9), signal(TREND, NEUTRAL, 0.1)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert consistency(consensus) == 0.75


def test_neutral_sources_alone_give_no_signal() -> None:
    assert fuse([signal(FORECAST, NEUTRAL, 0.2), signal(TREND, NEUTRAL, 0.1)], made_at=NOON, price=1.10) is None


def test_sources_that_cancel_out_give_no_signal() -> None:
    assert fuse([signal(FORECAST, BULL, 0.5), signal(TREND, BEAR, 0.5)], made_at=NOON, price=1.10) is None


def test_no_sources_give_no_signal() -> None:
    assert fuse([], made_at=NOON, price=1.10) is None


@pytest.mark.parametrize(("age_minutes", "counts"), [(239, True), (240, False)])
def test_a_signal_counts_until_its_horizon_has_passed(age_minutes: int, counts: bool) -> None:
    old = signal(FORECAST, BULL, 0.9, made_at=NOON - timedelta(minutes=age_minutes))
    assert (fuse([old], made_at=NOON, price=1.10) is not None) is counts


@pytest.mark.parametrize("price", [1.098, 1.097, 1.103, 1.104])
def test_a_signal_whose_stop_or_target_was_reached_is_spent(price: float) -> None:
    assert fuse([signal(FORECAST, BULL, 0.9)], made_at=NOON, price=price) is None


def test_each_source_votes_once_with_its_strongest_direction() -> None:
    horizons = [
        signal(FORECAST, NEUTRAL, 0.2, horizon_minutes=60),
        signal(FORECAST, BULL, 0.4, horizon_minutes=240),
        signal(FORECAST, BULL, 0.7, horizon_minutes=960),
    ]
    consensus = fuse([*horizons, signal(REVERSION, NEUTRAL, 0.4)], made_at=NOON, price=1.10)
    assert consensus is not None
    assert [(member.source, member.horizon_minutes) for member in consensus.members] == [(FORECAST, 960), (REVERSION, 240)]
    assert consensus.strength == pytest.approx(0.7)
