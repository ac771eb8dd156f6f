"""The trader's settings with a trial's values in them."""

from __future__ import annotations

import pytest

from fxcast.domain.signal import Regime
from fxcast.errors import BadSetting
from fxcast.trading.config import TradingConfig
from fxcast.trading.tuned import TunedParameters
from fxcast.tuning.strategy import traded_with, trading_values

BASE = TradingConfig()
VALUES = {"trading.min_quality": 0.3, "trading.sizing.kelly_fraction": 0.5, "sampler.steps": 8}


def test_values_of_other_levels_are_left_out() -> None:
    assert trading_values(VALUES) == {"min_quality": 0.3, "sizing.kelly_fraction": 0.5}
    traded = traded_with(BASE, VALUES)
    assert (traded.min_quality, traded.sizing.kelly_fraction, traded.tuned) == (0.3, 0.5, ())


def test_for_a_regime_the_base_stays_and_the_values_hold_in_that_regime() -> None:
    traded = traded_with(BASE, VALUES, Regime.VOLATILE)
    (tuned,) = traded.tuned
    assert (tuned.symbol, tuned.regime) == (None, Regime.VOLATILE)
    assert dict(tuned.values) == {"min_quality": 0.3, "sizing.kelly_fraction": 0.5}
    assert traded.model_copy(update={"tuned": ()}) == BASE
    assert traded_with(BASE, {"sampler.steps": 8}, Regime.VOLATILE) == BASE


def test_what_holds_in_the_regime_already_stays_but_for_the_values_of_the_trial() -> None:
    there = (
        TunedParameters(regime=Regime.VOLATILE, values={"min_quality": 0.6, "management.stop_multiple": 2.0}),
        TunedParameters(regime=Regime.RANGING, values={"min_quality": 0.5}),
        TunedParameters(symbol="EURUSD", regime=Regime.VOLATILE, values={"spread_pips": 2.0}),
    )
    traded = traded_with(BASE.model_copy(update={"tuned": there}), VALUES, Regime.VOLATILE)
    found = {(each.symbol, each.regime): dict(each.values) for each in traded.tuned}
    assert found == {
        (None, Regime.VOLATILE): {"min_quality": 0.3, "management.stop_multiple": 2.0, "sizing.kelly_fraction": 0.5},
        (None, Regime.RANGING): {"min_quality": 0.5},
        ("EURUSD", Regime.VOLATILE): {"spread_pips": 2.0},
    }


@pytest.mark.parametrize("path", ["ldm4ts_horizons", "ldm4ts_num_samples", "forecast_interval_bars"])
def test_what_forecasts_are_asked_for_cannot_differ_in_one_regime(path: str) -> None:
    with pytest.raises(BadSetting, match=rf"space\.trading\.{path}: found it with regime trending; allowed: without a regime"):
        traded_with(BASE, {f"trading.{path}": 30}, Regime.TRENDING)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trading.min_quality": 2.0}, "min_quality"),
        ({"trading.risk.cool_off_losses": 4}, "risk.cool_off_losses, which is the account's"),
        ({"trading.no_such": 1}, "no_such"),
    ],
)
@pytest.mark.parametrize("regime", [None, Regime.RANGING])
def test_a_value_that_cannot_be_traded_is_refused_by_name(values: dict[str, float], words: str, regime: Regime | None) -> None:
    if regime is None and "cool_off" in words:
        assert traded_with(BASE, values).risk.cool_off_losses == 4
        return
    with pytest.raises(BadSetting, match=words):
        traded_with(BASE, values, regime)
