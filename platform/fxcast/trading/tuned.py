"""Values that were found for a part of the market, and how those of several parts are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from fxcast.config import Settings
from fxcast.domain.signal import Regime

Value = bool | int | float | str | None | tuple[int, ...]
Values = Mapping[str, Value]  # by path, as `trading.parameters` knows them


class TunedParameters(Settings):
    """Values of the trader's settings that hold for one symbol, in one regime, or both."""

    symbol: str | None = Field(default=None, pattern="^[A-Z]{6}$", description="null: all")
    regime: Regime | None = Field(default=None, description="trending, ranging or volatile, whichever is likeliest now; null: all")
    values: Mapping[str, Value] = Field(description="by path, as in sizing.kelly_fraction or management.stop_multiple")

    @property
    def scope(self) -> str:
        """Where they hold, in words."""
        return f"{self.symbol or 'all symbols'}, {self.regime.value if self.regime else 'all regimes'}"

    def holds(self, symbol: str | None, regime: Regime | None) -> bool:
        """Tell whether they hold for a symbol in a regime; None stands for one that nothing names."""
        return self.symbol in (None, symbol) and self.regime in (None, regime)


def tuned_values(tuned: Sequence[TunedParameters], symbol: str | None, regime: Regime | None) -> dict[str, Value]:
    """Return the values that hold for a symbol in a regime, by path.

    The more special goes before the more general: what names both, then what names the regime, then the symbol, then neither. So a
    factor on a weight takes the place of a more general one on the same weight, and is not multiplied with it.
    """
    values: dict[str, Value] = {}
    for each in sorted(tuned, key=lambda each: (each.regime is not None, each.symbol is not None)):
        if each.holds(symbol, regime):
            values |= each.values
    return values
