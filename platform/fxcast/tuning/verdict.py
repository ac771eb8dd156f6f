"""The guard: what a promotion needs, and the report's first line."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from fxcast.config import Settings
from fxcast.performance.measures import Difference
from fxcast.performance.wording import count, number, percent, probability, with_interval
from fxcast.tuning.findings import Condition, HoldOutRun, Overfitting, Robustness

WINNER, DEFAULT, RANDOM = "winner", "default", "random"  # keys of the runs on the hold-out


class GuardConfig(Settings):
    """What the winner must show before it may be promoted."""

    max_overfitting: float = Field(
        default=0.3, ge=0, le=1, description="highest probability of backtest overfitting (CSCV over all trials of the search)"
    )
    min_deflated_sharpe: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="least probability that the true Sharpe ratio is above what the best of so many trials shows without skill",
    )
    min_share_better: float = Field(
        default=0.8, ge=0, le=1, description="least share of the winner's neighbours that score above the default values"
    )
    min_hold_out_days: int = Field(default=40, ge=1, description="least FX days of the hold-out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What the guard looks at.

    Attributes:
        winner: Number of the trial; 0 has the default values.
        hold_out: The runs with the keys winner, default and random; what is missing could not be told.
        days: FX days of the hold-out.
    """

    winner: int
    hold_out: tuple[HoldOutRun, ...]
    overfitting: Overfitting | None
    deflated_sharpe: float | None
    robustness: Robustness | None
    days: int

    def run(self, key: str) -> HoldOutRun | None:
        """Return a run on the hold-out; None if it was not made."""
        return next((each for each in self.hold_out if each.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """A condition, told in a clause that stands in a sentence of its own or in a list."""

    name: str
    holds: bool
    clause: str


def conditions(guarded: Guarded, config: GuardConfig) -> tuple[Condition, ...]:
    """Check all that a promotion needs; what could not be told fails."""
    return tuple(Condition(name=each.name, holds=each.holds, told=_sentence(each.clause)) for each in _checks(guarded, config))


def verdict_of(guarded: Guarded, config: GuardConfig) -> tuple[str, bool]:
    """Return the report's first line, and whether it says to promote: only if all conditions hold."""
    checks = _checks(guarded, config)
    failed = [each for each in checks if not each.holds]
    if not failed:
        return f"Promote trial {guarded.winner}: all {len(checks)} conditions hold; {_compared(_lead(guarded))}.", True
    if guarded.winner == 0:
        return f"Keep the default: {failed[0].clause}.", False
    names = ", ".join(each.name for each in failed)
    return f"Keep the default: of {len(checks)} conditions trial {guarded.winner} fails {len(failed)}: {names}.", False


def _checks(guarded: Guarded, config: GuardConfig) -> tuple[_Check, ...]:
    return (
        _winner(guarded),
        _better(guarded),
        _gained(guarded),
        _beats_random(guarded),
        _not_overfitted(guarded, config),
        _above_luck(guarded, config),
        _robust(guarded, config),
        _long_enough(guarded, config),
    )


def _winner(guarded: Guarded) -> _Check:
    found = "no trial was better than the default values" if guarded.winner == 0 else f"the winner is trial {guarded.winner}"
    return _Check(name="not the default", holds=guarded.winner != 0, clause=found)


def _better(guarded: Guarded) -> _Check:
    """Compare the Sharpe ratios on the hold-out: the paired interval of the difference must lie above zero."""
    name, lead = "better than the default", _lead(guarded)
    if lead is None or lead.difference.value is None:
        return _Check(name=name, holds=False, clause=_compared(lead))
    holds = lead.is_told and lead.difference.value > 0
    return _Check(name=name, holds=holds, clause=f"{_compared(lead)}, and an interval above zero is needed")


def _lead(guarded: Guarded) -> Difference | None:
    default = guarded.run(DEFAULT)
    return None if default is None else next((each for each in default.differences if each.measure == "sharpe"), None)


def _compared(lead: Difference | None) -> str:
    if lead is None or lead.difference.value is None:
        return "whether the winner beats the default values on the hold-out could not be told"
    found, apart = with_interval(lead.difference, signed=True).replace("\n", " "), "" if lead.is_told else ", can't be told apart"
    return (
        f"on the hold-out the winner's Sharpe ratio is {number(lead.ours)} against {number(lead.theirs)} with the default values "
        f"({found}{apart})"
    )


def _gained(guarded: Guarded) -> _Check:
    name, winner = "gain", guarded.run(WINNER)
    if winner is None:
        return _Check(name=name, holds=False, clause="what the winner returned on the hold-out is not known")
    share = winner.measures.total_return
    found = percent(share, _digits(share, 0.0), signed=True)
    return _Check(
        name=name, holds=share > 0, clause=f"on the hold-out the winner returned {found}, and more than nothing is needed"
    )


def _beats_random(guarded: Guarded) -> _Check:
    name = "no worse than random search"
    ours, theirs = (None if run is None else run.measures.sharpe.value for run in (guarded.run(WINNER), guarded.run(RANDOM)))
    if ours is None or theirs is None:
        return _Check(name=name, holds=False, clause="whether random search finds as good values could not be told")
    found = f"on the hold-out the Sharpe ratio of random search's best is {number(theirs)}, the winner's {number(ours)}"
    return _Check(name=name, holds=ours >= theirs, clause=f"{found}, and no less is needed")


def _not_overfitted(guarded: Guarded, config: GuardConfig) -> _Check:
    name, found, most = "overfitting", guarded.overfitting, config.max_overfitting
    if found is None:
        return _Check(name=name, holds=False, clause="the probability of overfitting could not be told, for want of trials or days")
    value, limit = _beside(found.probability, most)
    return _Check(
        name=name,
        holds=found.probability <= most,
        clause=f"the probability of overfitting is {value} over {count(found.splits, 'split')} of {count(found.trials, 'trial')}, "
        f"and at most {limit} is allowed",
    )


def _above_luck(guarded: Guarded, config: GuardConfig) -> _Check:
    name, found, least = "deflated Sharpe ratio", guarded.deflated_sharpe, config.min_deflated_sharpe
    if found is None:
        return _Check(name=name, holds=False, clause="the deflated Sharpe ratio could not be told")
    value, limit = _beside(found, least)
    return _Check(
        name=name,
        holds=found >= least,
        clause="the probability that the winner's true Sharpe ratio is above what the best of all trials shows without skill "
        f"is {value}, and at least {limit} is needed",
    )


def _robust(guarded: Guarded, config: GuardConfig) -> _Check:
    name, found, least = "robustness", guarded.robustness, config.min_share_better
    if found is None or found.share_better is None:
        return _Check(name=name, holds=False, clause="whether the winner's neighbours do well could not be told")
    value, limit = _beside(found.share_better, least)
    return _Check(
        name=name,
        holds=found.share_better >= least,
        clause=f"of the winner's {count(len(found.neighbours), 'neighbour')} {value} score above the default values, "
        f"and at least {limit} is needed",
    )


def _long_enough(guarded: Guarded, config: GuardConfig) -> _Check:
    return _Check(
        name="hold-out days",
        holds=guarded.days >= config.min_hold_out_days,
        clause=f"the hold-out has {count(guarded.days, 'day')}, and {config.min_hold_out_days} are needed",
    )


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _beside(share: float, limit: float) -> tuple[str, str]:
    """Return a share and its limit in per cent, with as many digits as tell which is greater; never as certain."""
    digits = _digits(share, limit)
    told = probability(share) if digits == 1 else percent(share, digits)
    return told, percent(limit, digits)


def _digits(share: float, limit: float) -> int:
    most = 6
    return 1 if share == limit else next((n for n in range(1, most) if percent(share, n) != percent(limit, n)), most)
