"""Combine what the sources say of one symbol at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fxcast.domain.signal import Direction, FusedSignal, QualityScore, Regime, Signal, SignalSource, strongest

_PLACES = {each.value: place for place, each in enumerate(SignalSource)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """The direction that the sources have together, before it is scored.

    Attributes:
        price: The close now; a member may be older.
        strength: |sum of signed strengths| over the number of directional members, [0, 1].
        leader: The strongest member in the direction taken; its horizon, stop and target are used.
        members: One signal per source.
    """

    symbol: str
    made_at: datetime
    price: float
    direction: Direction
    strength: float
    leader: Signal
    members: tuple[Signal, ...]

    @property
    def supporters(self) -> tuple[Signal, ...]:
        """Members of the same direction, never empty."""
        return tuple(member for member in self.members if member.direction is self.direction)

    def scored(self, *, quality: QualityScore, regime: Regime, uncertainty_pct: float | None) -> FusedSignal:
        """Return the fused signal."""
        return FusedSignal(
            symbol=self.symbol,
            made_at=self.made_at,
            horizon_minutes=self.leader.horizon_minutes,
            direction=self.direction,
            strength=self.strength,
            price=self.price,
            stop=self.leader.stop,
            target=self.leader.target,
            uncertainty_pct=uncertainty_pct,
            regime=regime,
            quality=quality,
            members=self.members,
        )


def fuse(signals: Iterable[Signal], *, made_at: datetime, price: float) -> Consensus | None:
    """Weigh signals by their strength; None if all are neutral or they cancel out.

    Left out is a signal whose horizon has passed (by the clock, so a weekend ends it) and one whose stop or target the
    price has reached since. Each source votes once, with its strongest directional signal.
    """
    votes: dict[str, Signal] = {}
    for signal in signals:
        if _is_over(signal, made_at, price):
            continue
        vote = votes.get(signal.source)
        if vote is None or _weight(signal) > _weight(vote):
            votes[signal.source] = signal
    members = tuple(votes[source] for source in sorted(votes, key=_place))
    directional = [member for member in members if member.direction is not Direction.NEUTRAL]
    net = sum(member.direction.sign * member.strength for member in directional)
    if not net:
        return None
    direction = Direction.BULL if net > 0 else Direction.BEAR
    return Consensus(
        symbol=directional[0].symbol,
        made_at=made_at,
        price=price,
        direction=direction,
        strength=min(abs(net) / len(directional), 1.0),
        leader=strongest(members, direction),
        members=members,
    )


def _place(source: str) -> tuple[int, str]:
    """fxcast's own sources in their order, then a user's by name: the same votes give the same sum."""
    return _PLACES.get(source, len(_PLACES)), source


def _weight(signal: Signal) -> float:
    return -1.0 if signal.direction is Direction.NEUTRAL else signal.strength


def _is_over(signal: Signal, now: datetime, price: float) -> bool:
    if now - signal.made_at >= timedelta(minutes=signal.horizon_minutes):
        return True
    match signal.direction:
        case Direction.BULL:
            return not signal.stop < price < signal.target
        case Direction.BEAR:
            return not signal.target < price < signal.stop
        case Direction.NEUTRAL:
            return False
