"""The trader's settings with a trial's values in them."""

from __future__ import annotations

from pydantic import ValidationError

from fxcast.config import explain
from fxcast.domain.signal import Regime
from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.trading.parameters import ASKING, Values, with_values
from fxcast.trading.tuned import TunedParameters

TRADING = "trading."


def trading_values(values: Values) -> Values:
    """Return those of a trial's values that the trader sets, by their paths in `TradingConfig`."""
    return {path.removeprefix(TRADING): value for path, value in values.items() if path.startswith(TRADING)}


def traded_with(base: TradingConfig, values: Values, regime: Regime | None = None) -> TradingConfig:
    """Return the settings that a trial trades with.

    Args:
        values: By path; those of other levels are left out.
        regime: The values hold in this one alone, and the base in the others.

    Raises:
        BadSetting: If a path is unknown or a value refused; or if forecasts would have to be asked for differently in one regime.
    """
    own = trading_values(values)
    if regime is None:
        return with_values(base, own)
    asking = sorted(ASKING & own.keys())
    if asking:
        raise BadSetting(
            f"space.{TRADING}{asking[0]}: found it with regime {regime.value}; allowed: without a regime, for forecasts are asked "
            "for before anything is decided"
        )
    if not own:
        return base
    # What `base` has for all symbols in this regime stays, but for the values that the trial sets.
    before = next((each for each in base.tuned if each.symbol is None and each.regime is regime), None)
    others = tuple(each for each in base.tuned if each is not before)
    mine = TunedParameters(regime=regime, values={**({} if before is None else before.values), **own})
    try:
        return TradingConfig.model_validate({**dict(base), "tuned": (*others, mine)})
    except ValidationError as error:
        raise BadSetting(f"{', '.join(own)}: {explain(error, TradingConfig)}") from None
