"""The trader's settings with values that were found for symbols and regimes, each where it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from fxcast.config import explain
from fxcast.domain.signal import Regime
from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.trading.parameters import ACCOUNT_WIDE, ASKING, Value, Values, value_of, with_values
from fxcast.trading.tuned import TunedParameters, tuned_values

_WEIGHTS = "quality.weights."
_Scope = tuple[str | None, Regime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundValues:
    """Values that were found for one symbol.

    Attributes:
        regime: The one in which they hold, None for all.
        values: By path in `TradingConfig`.
    """

    symbol: str
    regime: Regime | None
    values: Values


def trading_with(trading: TradingConfig, found: Sequence[FoundValues], symbols: Sequence[str]) -> TradingConfig:
    """Return settings in which what was found takes the place of what they say, wherever it holds.

    A value that is the same for all symbols in all regimes replaces the setting itself; any other becomes one of `tuned`.

    Args:
        found: At most one for a symbol and regime.
        symbols: All that are traded; one of which nothing was found keeps the settings.

    Raises:
        BadSetting: If a value is refused, or one that can't differ between symbols or regimes does.
    """
    everywhere = {each.symbol: each.values for each in found if each.regime is None}
    in_regimes = [each for each in found if each.regime is not None]
    for each in in_regimes:
        _check_regime(each)
    shared = _shared(trading, everywhere, in_regimes, symbols)
    layers = _without_shared(trading.tuned, shared, symbols)
    for symbol, values in everywhere.items():
        _replace(layers, symbol, {path: value for path, value in values.items() if path not in shared})
    for each in in_regimes:
        layers.setdefault((each.symbol, each.regime), {}).update(each.values)
    base = with_values(trading.model_copy(update={"tuned": ()}), shared)
    tuned = [TunedParameters(symbol=symbol, regime=regime, values=values) for (symbol, regime), values in layers.items() if values]
    try:
        return type(trading).model_validate({**dict(base), "tuned": tuple(tuned)})
    except ValidationError as error:
        raise BadSetting(explain(error, type(trading))) from None


def _check_regime(found: FoundValues) -> None:
    """Raise BadSetting for what can't be another in one regime."""
    fixed = sorted((ASKING | ACCOUNT_WIDE) & found.values.keys())
    if fixed:
        regime = "" if found.regime is None else found.regime.value
        why = "forecasts are asked for before the regime counts" if fixed[0] in ASKING else "it is the account's"
        raise BadSetting(
            f"{fixed[0]}: found {found.values[fixed[0]]} for {found.symbol} in regime {regime}; allowed: one value in all regimes, "
            f"for {why}"
        )


def _shared(
    trading: TradingConfig, everywhere: Mapping[str, Values], in_regimes: Sequence[FoundValues], symbols: Sequence[str]
) -> dict[str, Value]:
    """Return the values that are the same for all symbols in all regimes."""
    # In one regime a weight's factor takes the place of the general one; were that in the weights already, both would count.
    apart = {path for each in in_regimes for path in each.values if path.startswith(_WEIGHTS)}
    shared: dict[str, Value] = {}
    for path in dict.fromkeys(path for values in everywhere.values() for path in values):
        if path in ASKING or path in ACCOUNT_WIDE:
            shared[path] = _the_only_one(trading, path, everywhere, symbols)
        elif path not in apart and all(path in everywhere.get(symbol, {}) for symbol in symbols):
            values = {everywhere[symbol][path] for symbol in symbols}
            if len(values) == 1:
                shared[path] = values.pop()
    return shared


def _the_only_one(trading: TradingConfig, path: str, everywhere: Mapping[str, Values], symbols: Sequence[str]) -> Value:
    """Return the value that all symbols have.

    Raises:
        BadSetting: If they have several.
    """
    given = tuned_values(trading.tuned, None, None).get(path, value_of(trading, path))
    by_symbol = {symbol: everywhere.get(symbol, {}).get(path, given) for symbol in symbols}
    if len(set(by_symbol.values())) > 1:
        told = ", ".join(f"{value} for {symbol}" for symbol, value in by_symbol.items())
        why = "all symbols' forecasts are asked for together" if path in ASKING else "it is the account's"
        raise BadSetting(
            f"{path}: found {told}; allowed: one value, for {why}. Trade these symbols separately, each with settings of its own"
        )
    return next(iter(by_symbol.values()))


def _without_shared(
    tuned: Sequence[TunedParameters], shared: Mapping[str, Value], symbols: Sequence[str]
) -> dict[_Scope, dict[str, Value]]:
    """Return what the settings say of symbols and regimes, less what was found for all of them."""
    return {
        (each.symbol, each.regime): {
            path: value
            for path, value in each.values.items()
            if path not in shared or (each.symbol is not None and each.symbol not in symbols)
        }
        for each in tuned
    }


def _replace(layers: dict[_Scope, dict[str, Value]], symbol: str, values: Values) -> None:
    """Set a symbol's values in all regimes, also in those for which the settings say another."""
    regimes = {regime for (other, regime), given in layers.items() if other in (None, symbol) and given.keys() & values.keys()}
    for path, value in values.items():
        layers.setdefault((symbol, None), {})[path] = value
        for regime in regimes - {None}:
            if any(path in layers.get((other, regime), {}) for other in (None, symbol)):
                layers.setdefault((symbol, regime), {})[path] = value
