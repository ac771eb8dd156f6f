"""How much of each limit is used, out of an engine's state: the numbers of page Risk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from fxcast.domain.money import rates_from_prices
from fxcast.errors import BadSetup
from fxcast.trading.config import RiskLimits
from fxcast.trading.risk import currency_exposures
from fxcast.trading.state import EngineState

_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """A limit and how much of it is used; both in the unit, `used` None where it is unknown."""

    name: str
    used: Decimal | None
    limit: Decimal
    unit: str

    @property
    def share(self) -> float | None:
        """Of the limit, 1 where it is reached."""
        return None if self.used is None or not self.limit else float(self.used / self.limit)


def exposures_pct(state: EngineState, account_currency: str) -> Mapping[str, Decimal]:
    """Return net exposure by currency in per cent of equity, the largest first; positive if long.

    Raises:
        BadSetup: If a currency can't be converted to the account's with the prices that the engine follows.
    """
    equity = state.last_equity
    if not equity:
        return {}
    holdings = [(held.position.symbol, held.position.side, held.position.units) for held in state.positions.values()]
    worth = currency_exposures(holdings, rates_from_prices(state.prices, account_currency))
    shares = {currency: amount / equity * _HUNDRED for currency, amount in worth.items()}
    return dict(sorted(shares.items(), key=lambda each: -abs(each[1])))


def limits_used(state: EngineState, limits: RiskLimits, account_currency: str) -> tuple[LimitUse, ...]:
    """Return what the gates would find now, for the limits that are of the account and not of one order."""
    equity, peak, first = state.last_equity, state.peak_equity, state.day_first_equity
    try:
        exposures = exposures_pct(state, account_currency)
        largest = max((abs(share) for share in exposures.values()), default=Decimal(0))
    except BadSetup:
        largest = None
    return (
        LimitUse(name="open positions", used=Decimal(len(state.positions)), limit=Decimal(limits.max_positions), unit=""),
        LimitUse(name="largest currency exposure", used=largest, limit=_pct(limits.max_currency_exposure_pct), unit="% of equity"),
        LimitUse(name="loss since the day began", used=_fall(first, equity), limit=_pct(limits.max_daily_loss_pct), unit="%"),
        LimitUse(name="drawdown from the peak", used=_fall(peak, equity), limit=_pct(limits.max_drawdown_pct), unit="%"),
        LimitUse(name="losses in a row", used=Decimal(state.losses_in_row), limit=Decimal(limits.cool_off_losses), unit=""),
    )


def _fall(start: Decimal | None, now: Decimal | None) -> Decimal | None:
    if not start or now is None:
        return None
    return max(Decimal(0), (start - now) / start * _HUNDRED)


def _pct(value: float) -> Decimal:
    return Decimal(str(value))
